"""Headless Chromium, driven over the DevTools protocol: pages that tell what went wrong on them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import shutil
import signal
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from .client import TIMEOUT, within

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
logger = logging.getLogger("devtools")
logger.setLevel(logging.WARNING)  # each keystroke is several messages

START_TIMEOUT = 60  # seconds; the first start of a browser on a busy machine
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Page:
    """A window of its own.

    Attributes:
        errors: what its console has shown: errors, exceptions that nobody caught, and loads that failed.
    """

    def __init__(self, browser: Browser, session: str) -> None:
        self.errors: list[str] = []
        self._browser = browser
        self._session = session

    async def call(self, method: str, **parameters):
        return await self._browser.call(method, self._session, **parameters)

    async def open(self, url: str) -> None:
        await self.call("Page.navigate", url=url)
        await self.until("document.readyState === 'complete'")

    async def evaluate(self, script: str):
        """The value of an expression, awaited if it is a promise."""
        answer = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait in the page, frame by frame, until an expression is true."""
        milliseconds = TIMEOUT * 1000
        waiting = f"""new Promise((resolve) => {{
            const end = Date.now() + {milliseconds};
            const look = () => ({condition}) || Date.now() > end ? resolve(!!({condition})) : setTimeout(look, 5);
            look();
        }})"""
        assert await self.evaluate(waiting), f"{condition} never came true; the page reads {await self.text()!r}"

    async def text(self) -> str:
        """What a person reads on the page."""
        return await self.evaluate("document.body.innerText")

    async def submit(self, selector: str, text: str) -> None:
        """Type into a field and press Enter."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key="Enter", text="\r", windowsVirtualKeyCode=13)

    async def click(self, selector: str, text: str = "") -> None:
        """Click the first element with this text in it, once it is there."""
        found = f"""[...document.querySelectorAll({json.dumps(selector)})].find(
            (element) => element.textContent.includes({json.dumps(text)}))"""
        await self.until(found)
        await self.evaluate(f"{found}.click()")

    async def screenshot(self, path: Path) -> None:
        image = await self.call("Page.captureScreenshot")
        path.write_bytes(base64.b64decode(image["data"]))


class Browser:
    """A browser's DevTools: calls and their answers, and the events of its pages."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._answers: dict[int, asyncio.Future] = {}
        self._pages: dict[str, Page] = {}
        self._reading = asyncio.create_task(self._read())

    async def call(self, method: str, session: str | None = None, **parameters):
        number = len(self._answers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        message = {"id": number, "method": method, "params": parameters}
        await self._socket.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        answer = await asyncio.wait_for(self._answers[number], START_TIMEOUT)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    async def page(self, *, width: int = 900, height: int = 640) -> Page:
        target = await self.call("Target.createTarget", url="about:blank", newWindow=True, width=width, height=height)
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        page = self._pages[attached["sessionId"]] = Page(self, attached["sessionId"])
        for domain in ("Page", "Runtime", "Log"):
            await page.call(f"{domain}.enable")
        return page

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosedError):  # a browser ends without a closing handshake
            async for text in self._socket:
                self._take(json.loads(text))

    def _take(self, message: dict) -> None:
        if "id" in message:
            self._answers[message["id"]].set_result(message)
        elif message.get("sessionId") in self._pages:
            self._pages[message["sessionId"]].errors.extend(errors_of(message["method"], message["params"]))


def errors_of(event: str, parameters: dict) -> list[str]:
    if event == "Runtime.exceptionThrown":
        return [json.dumps(parameters["exceptionDetails"])]
    if event == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "assert", "warning"):
        return [json.dumps(parameters["args"])]
    if event == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
        return [f"{parameters['entry']['text']} {parameters['entry'].get('url', '')}"]
    return []


@contextlib.asynccontextmanager
async def chromium(profile: Path):
    """Start a browser with an empty profile, and end it."""
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        address = await asyncio.wait_for(devtools_address(process.stderr), START_TIMEOUT)
        # Its noise must not fill the pipe
        drain = asyncio.create_task(process.stderr.read())
        async with connect(address, max_size=None, proxy=None, logger=logger) as socket:
            browser = Browser(socket)
            try:
                yield browser
            finally:
                await browser.call("Browser.close")
                await within(browser._reading)
        await asyncio.wait_for(process.wait(), START_TIMEOUT)
        await drain
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            await process.wait()


async def devtools_address(output: asyncio.StreamReader) -> str:
    said = b""
    async for line in output:
        said += line
        if line.startswith(b"DevTools listening on "):
            return line.split()[-1].decode()
    raise AssertionError(f"the browser ended: {said.decode(errors='replace')}")
