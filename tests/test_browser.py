"""The page of examples/chat.py in a real browser: what each of two windows sees, and what it does not."""

from __future__ import annotations

import pytest

from .browser import CHROMIUM, chromium
from .examples import example

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


async def test_a_broadcast_is_seen_in_both_windows(enter):
    ada, bob = await enter("ada"), await enter("bob")
    await say(ada, "everyone", "hello <b>everybody</b> \N{WAVING HAND SIGN}")
    for page in (ada, bob):
        await sees(page, "hello <b>everybody</b> \N{WAVING HAND SIGN}", "to everyone")


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
