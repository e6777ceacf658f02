"""What a browser lets a page of another origin read, which is what `http.cors` is for."""

from __future__ import annotations

import json

import pytest

from fastws import http

from ..kit.browser import CHROMIUM, chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.plain("the browser does not know our authority"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


@http.base_path("/")
class Page:
    @http.get("/")
    def page(self) -> http.Response:
        return http.Response("<!doctype html><title>a page</title>", headers={"Content-Type": "text/html"})


ASK = """
(async () => {
    const answers = [];
    for (const [method, path, headers, credentials] of %s) {
        const body = method === "POST" ? "{}" : undefined;
        try {
            const answer = await fetch("%s" + path, {method, headers, body, credentials});
            answers.push([answer.status, await answer.text(), answer.headers.get("x-left")]);
        } catch (error) {
            answers.push(error.name);
        }
    }
    return answers;
})()
"""


async def test_a_page_reads_what_it_may_and_nothing_else(serve, tmp_path, no_task_left):
    pages = await serve(Page)
    origin = f"http://localhost:{pages.addresses[0][1]}"

    @http.cors([origin], headers=["X-Token"], expose=["X-Left"], credentials=True)
    @http.base_path("/")
    class Notes:
        @http.get("/list")
        def list(self, headers: http.Headers) -> http.Response:
            return http.Response(headers.get("x-token", ""), headers={"X-Left": "5"})

        @http.post("/list")
        def add(self, json: object) -> None:
            raise http.Refuse(409)

        @http.delete("/list")
        def clear(self) -> str:
            return "cleared"

        @http.cors("*", methods=["GET"])
        @http.delete("/open")
        @http.get("/open")
        def open(self) -> str:
            return "open"

        @http.cors(["https://other.example"])
        @http.get("/theirs")
        def theirs(self) -> str:
            return "theirs"

    notes = await serve(Notes)
    json_body = {"Content-Type": "application/json"}
    asked = {
        ("GET", "/list", "include"): ({"X-Token": "abc"}, [200, "abc", "5"]),
        ("POST", "/list", "include"): (json_body, [409, "Conflict\n", None]),
        ("DELETE", "/list", "omit"): ({}, [200, "cleared", None]),
        ("GET", "/list", "omit"): ({"X-Other": "abc"}, "TypeError"),
        ("GET", "/none", "omit"): ({}, "TypeError"),
        ("GET", "/open", "omit"): ({}, [200, "open", None]),
        ("GET", "/open", "include"): ({}, "TypeError"),
        ("DELETE", "/open", "omit"): ({}, "TypeError"),
        ("GET", "/theirs", "omit"): ({}, "TypeError"),
    }
    requests = [[method, path, headers, kind] for (method, path, kind), (headers, _) in asked.items()]
    async with chromium(tmp_path / "profile") as browser:
        page = await browser.page()
        await page.open(f"{origin}/")
        answers = await page.evaluate(ASK % (json.dumps(requests), f"http://localhost:{notes.addresses[0][1]}"))
    assert dict(zip(asked, answers, strict=True)) == {request: told for request, (_, told) in asked.items()}
