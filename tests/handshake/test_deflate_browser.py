"""permessage-deflate with Chromium: what it agrees to, and texts and data in both directions."""

from __future__ import annotations

import json
import random

import pytest

from ..kit.browser import CHROMIUM, chromium
from .test_deflate_clients import JSON, KINDS, LIMIT, echo, parameters, url

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.plain("the browser does not know our authority"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
    pytest.mark.asyncio(loop_factories=["uvloop"]),
]

noise = random.Random(7692)
TEXTS = [
    JSON,
    "",
    JSON,
    "x" * 256,
    "".join(map(chr, noise.choices(range(0x20, 0xD800), k=20_000))),
    "🐈☃é" * (LIMIT // 9),
    JSON * 1000,
    "no " * (LIMIT // 3),
    JSON,
]

# Sends everything at once and resolves with what came back; bytes are compared where they are
TALK = """new Promise((resolve, reject) => {
    const texts = %s;
    const bytes = Uint8Array.from({length: 300000}, (_, i) => (i * i) >> 7);
    const socket = new WebSocket(%s);
    const received = [];
    socket.binaryType = "arraybuffer";
    socket.onopen = () => { texts.forEach((text) => socket.send(text)); socket.send(bytes); };
    socket.onmessage = ({data}) => {
        if (typeof data === "string") return received.push(data);
        const same = data.byteLength === bytes.length && new Uint8Array(data).every((byte, i) => byte === bytes[i]);
        socket.onclose = ({code, wasClean}) => resolve({extensions: socket.extensions, received, same, code, wasClean});
        socket.close(4000, "bye");
    };
    socket.onclose = ({code, reason}) => reject(`${code} ${reason}`);
})"""


async def test_a_page_gets_back_what_it_sends(serve, tmp_path, no_task_left):
    async with chromium(tmp_path / "profile") as browser:
        for kind, options in KINDS.items():
            service = echo(kind)
            server = await serve(service)
            page = await browser.page()
            seen = await page.evaluate(TALK % (json.dumps(TEXTS), json.dumps(url(server))))
            assert page.errors == [], kind
            assert seen["received"] == TEXTS, kind
            assert (seen["same"], seen["code"], seen["wasClean"]) == (True, 4000, True), kind
            assert await service.next() == ("closed", 4000, "bye"), kind
            agreed = parameters(seen["extensions"] or None)
            assert (agreed is None) == (kind == "none"), kind
            if options["compression"] == "shared":
                assert {"server_no_context_takeover", "client_no_context_takeover"} <= set(agreed), kind
