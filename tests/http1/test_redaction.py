"""What a client proves itself with in a query is in no log."""

from __future__ import annotations

import logging

import pytest

from fastws import ConfigurationError
from fastws.http import Request
from fastws.http1.redaction import Redaction
from fastws.http1.upgrade import Upgrade
from fastws.server.server import Server

from ..kit.guarded import answer
from ..kit.services import Watch


@pytest.mark.parametrize(
    ("target", "logged"),
    [
        ("/a", "/a"),
        ("/a?", "/a?"),
        ("/a?b=c&&=d", "/a?b=c&&=d"),
        ("/a?token=s3cret", "/a?token=***"),
        ("/a?b=c&access_token=s3cret&d=e", "/a?b=c&access_token=***&d=e"),
        ("/a?accessToken=s3cret&ACCESS-TOKEN=s3cret", "/a?accessToken=***&ACCESS-TOKEN=***"),
        ("/a?apikey=s3cret&API_KEY=s3cret&APIKey=s3cret", "/a?apikey=***&API_KEY=***&APIKey=***"),
        ("/a?X-Amz-Signature=s3cret&X-Amz-Date=now", "/a?X-Amz-Signature=***&X-Amz-Date=now"),
        ("/a?to%6ben=s3cret", "/a?to%6ben=***"),
        ("/a?user[password]=s3cret&tokens[]=2", "/a?user[password]=***&tokens[]=2"),
        ("/a?token=s3=cret?s3cret&token&token=", "/a?token=***&token&token="),
        ("/a?monkey=1&keys=2&codec=3&passage=4", "/a?monkey=1&keys=2&codec=3&passage=4"),
        ("/token?b=token", "/token?b=token"),
    ],
)
def test_a_secret_is_known_by_the_last_word_of_its_name(target, logged):
    assert Redaction().redact(target) == logged


@pytest.mark.parametrize("names", [["ssn", "invite-to"], "ssn, inviteTo", ("SSN", "invite_to")])
def test_further_names_may_be_given(names):
    redaction = Redaction(names)
    assert redaction.redact("/?ssn=1&invite_to=2&inviteTo=3&token=4&to=5") == (
        "/?ssn=***&invite_to=***&inviteTo=***&token=***&to=5"
    )


@pytest.mark.parametrize("names", [7, None, [7], [""], "", "a,,b", b"name"])
def test_what_is_no_name_is_refused_when_the_server_is_made(names):
    with pytest.raises(ConfigurationError, match="redacted_parameters"):
        Server(Watch, redacted_parameters=names)


async def test_the_access_log_has_no_secret_of_a_query(serve, caplog):
    caplog.set_level(logging.INFO, "fastws.access")
    server = await serve(Watch(), access_log=True, redacted_parameters=["ssn"])
    for target in (b"/nowhere?ssn=s3cret&a=b", b"/?access_token=s3cret"):
        await answer(server, b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % target)
    assert [record.getMessage().partition('"')[2].partition('"')[0] for record in caplog.records] == [
        "GET /nowhere?ssn=***&a=b",
        "GET /?access_token=***",
    ]


def test_a_request_shows_no_secret_of_its_query():
    request = Request("GET", b"/?token=s3cret&a=b", [])
    assert repr(request) == "<Request GET /?token=***&a=b>"
    assert repr(Upgrade(request)) == "<Upgrade /?token=***&a=b>"
