"""The page of examples/chat.py in a real browser: what each of two windows sees, and what it does not."""

from __future__ import annotations

import pytest

from .kit.browser import CHROMIUM, chromium
from .kit.client import until
from .kit.examples import example

pytestmark = [
    pytest.mark.browser,
    pytest.mark.plain("the browser does not know our authority"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

LOG = "document.getElementById('log').innerText"


@pytest.fixture
async def browser(tmp_path, no_task_left):
    async with chromium(tmp_path / "profile") as browser:
        yield browser


@pytest.fixture
async def server(serve):
    return await serve(example("chat").Chat)


@pytest.fixture
async def visit(server, browser):
    """Open a window on the chat: `page = await visit()`."""
    pages = []

    async def visit():
        pages.append(await browser.page())
        await pages[-1].open(f"http://127.0.0.1:{server.addresses[0][1]}/chat/")
        await pages[-1].evaluate("Math.random = () => 0")  # how much longer it waits before it comes back
        return pages[-1]

    yield visit
    assert [page.errors for page in pages] == [[]] * len(pages)


@pytest.fixture
async def enter(visit):
    """Open a window and enter: `ada = await enter("ada")`."""

    async def enter(name):
        page = await visit()
        await give_name(page, name)
        return page

    return enter


async def give_name(page, name):
    await page.submit("#door input", name)
    await page.until(f"document.getElementById('me').textContent === {name!r}")


async def join(page, room):
    await page.submit("#join input", room)
    await sees(page, f"You joined #{room}")


async def say(page, to, text):
    """Choose where a message goes, then type it."""
    await page.click("aside li button:first-child", to)
    await page.submit("#speak input", text)


async def sees(page, *texts):
    for text in texts:
        await page.until(f"{LOG}.includes({text!r})")


async def log(page, last):
    """Everything in a page's log, once its last message is there."""
    await sees(page, last)
    return await page.evaluate(LOG)


async def test_a_broadcast_is_seen_in_both_windows_and_an_empty_log_says_what_to_do(enter):
    ada, bob = await enter("ada"), await enter("bob")
    assert "Nothing has been said yet" in await bob.text()
    await say(ada, "everyone", "hello <b>everybody</b> \N{WAVING HAND SIGN}")
    for page in (ada, bob):
        await sees(page, "hello <b>everybody</b> \N{WAVING HAND SIGN}", "to everyone")
        assert "Nothing has been said yet" not in await page.text()


async def test_a_message_to_a_room_is_seen_by_its_members_only(enter):
    ada, bob, eve = await enter("ada"), await enter("bob"), await enter("eve")
    for page in (ada, bob):
        await join(page, "tea")
    await say(ada, "#tea", "the kettle is on")
    await say(ada, "everyone", "the end")
    for page in (ada, bob):
        assert "the kettle is on" in await log(page, "the end")
    assert "the kettle is on" not in await log(eve, "the end")


async def test_who_leaves_a_room_sees_its_messages_no_more(enter):
    ada, bob = await enter("ada"), await enter("bob")
    for page in (ada, bob):
        await join(page, "tea")
    await bob.click("button.leave")
    await sees(bob, "You left #tea")
    await sees(ada, "bob left #tea")
    await say(ada, "#tea", "more for me")
    await say(ada, "everyone", "the end")
    assert "more for me" in await log(ada, "the end")
    assert "more for me" not in await log(bob, "the end")


async def test_a_whisper_is_seen_by_the_named_one_only(enter):
    ada, bob, eve = await enter("ada"), await enter("bob"), await enter("eve")
    await say(ada, "bob", "between us")
    await say(ada, "everyone", "the end")
    assert "whispers to you\nbetween us" in (await log(bob, "the end")).replace("\n\n", "\n")
    assert "whispers to bob" in await log(ada, "the end")
    assert "between us" not in await log(eve, "the end")


def unread(text):
    """The mark at a place, as a condition: what is unread there."""
    return f"[...document.querySelectorAll('aside li')].find((li) => li.innerText.includes({text!r})).innerText"


async def test_what_was_said_elsewhere_is_marked_where_it_was_until_one_looks(enter):
    ada, bob = await enter("ada"), await enter("bob")
    for page in (ada, bob):
        await join(page, "tea")
    await say(ada, "everyone", "one")
    await say(ada, "everyone", "two")
    await say(ada, "bob", "between us")
    await say(ada, "#tea", "here")
    await sees(bob, "here")
    await bob.until(f"/everyone\\s+2/.test({unread('everyone')})")
    await bob.until(f"/ada\\s+1/.test({unread('ada')})")
    assert "1" not in await bob.evaluate(unread("#tea"))
    await bob.click("aside li button:first-child", "everyone")
    await bob.until(f"!/\\d/.test({unread('everyone')})")
    assert not any(mark.isdigit() for mark in await ada.evaluate(unread("everyone")))


async def test_on_a_small_screen_the_places_take_a_line_and_the_log_the_rest(browser, server):
    page = await browser.page(width=400, height=700)
    screen = {"width": 400, "height": 700, "deviceScaleFactor": 1, "mobile": True}
    await page.call("Emulation.setDeviceMetricsOverride", **screen)
    await page.open(f"http://127.0.0.1:{server.addresses[0][1]}/chat/")
    await give_name(page, "ada")
    for room in ("tea", "coffee", "a room of a longer name", "water"):
        await join(page, room)
    height = "document.querySelector('{}').getBoundingClientRect().height"
    assert await page.evaluate(height.format("aside")) < 60
    assert await page.evaluate(height.format("#log")) > 500
    assert await page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.errors == []


async def test_a_name_is_taken_until_its_holder_leaves(enter, visit):
    ada, bob, another = await enter("ada"), await enter("bob"), await visit()
    await another.submit("#door input", "bob")
    await another.until("document.getElementById('refused').innerText.includes('called bob already')")
    await bob.open("about:blank")
    await sees(ada, "bob has left")
    await give_name(another, "bob")
    await say(ada, "bob", "welcome")
    await sees(another, "welcome")


async def test_a_page_whose_connection_was_cut_comes_back_into_its_rooms(enter, server):
    ada, bob = await enter("ada"), await enter("bob")
    for page in (ada, bob):
        await join(page, "tea")
    server.stored["bob"].close(1012, "cut")
    await sees(ada, "bob has left", "bob is here")
    await ada.until(f"{LOG}.split('bob joined #tea').length === 3")
    await say(ada, "#tea", "there you are")
    await sees(bob, "there you are")


async def test_a_page_waits_for_its_name_while_the_connection_that_was_cut_has_it(enter, server, connect):
    bob = await enter("bob")
    before = await connect(server)
    assert "welcome" in await before.asks('{"do": "enter", "name": "bob again"}')
    await bob.evaluate("wanted = 'bob again'; me = 'bob again'")
    server.stored["bob"].close(1012, "cut")
    await bob.until("!document.getElementById('offline').hidden")
    await bob.until("socket.readyState === WebSocket.OPEN")
    before.transport.abort()
    await bob.until("document.getElementById('offline').hidden")
    assert "bob again" in server.stored
    assert await bob.evaluate("document.getElementById('door').hidden")


PLACEHOLDER = "document.querySelector('#speak input').placeholder"


async def test_a_page_comes_back_under_the_name_that_it_got_and_writes_to_whom_it_wrote(enter, visit, server):
    bob, ada = await enter("bob"), await visit()
    await ada.submit("#door input", "bob")
    await ada.until("document.getElementById('refused').innerText.includes('called bob already')")
    await give_name(ada, "ada")
    await join(ada, "tea")
    await ada.click("aside li button:first-child", "bob")
    server.stored["ada"].close(1012, "cut")
    await sees(bob, "ada has left")
    await bob.until(f"{LOG}.split('ada is here').length === 3")
    await ada.until("document.getElementById('offline').hidden")
    await until(lambda: "tea" in server.groups)
    assert await ada.evaluate("document.getElementById('me').innerText") == "ada"
    assert sorted(server.stored) == ["ada", "bob"]
    assert await ada.evaluate(PLACEHOLDER) == "Whisper to bob"
    await ada.submit("#speak input", "still between us")
    await sees(bob, "whispers to you", "still between us")


async def test_what_is_typed_for_one_who_left_goes_to_nobody_else(enter):
    ada, bob, eve = await enter("ada"), await enter("bob"), await enter("eve")
    await ada.click("aside li button:first-child", "bob")
    await bob.open("about:blank")
    await sees(ada, "bob has left")
    assert await ada.evaluate(PLACEHOLDER) == "bob is not here"
    await ada.submit("#speak input", "for bob only")
    assert await ada.evaluate("document.querySelector('#speak input').value") == "for bob only"
    await ada.evaluate("document.querySelector('#speak input').value = ''")
    await say(ada, "everyone", "the end")
    assert "for bob only" not in await log(eve, "the end")
    assert "for bob only" not in await log(ada, "the end")
