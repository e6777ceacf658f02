"""Lines that begin with a slash."""

from __future__ import annotations

import pytest

from fastws.errors import ConfigurationError
from fastws.terminal.commands import Close, Help, Ping, Send, parse


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("", Send("")),
        ("hello /ping", Send("hello /ping")),
        (" /ping", Send(" /ping")),
        ("//ping", Send("/ping")),
        ("//", Send("/")),
        ("/ping", Ping()),
        ("/ping ", Ping()),
        ("/help", Help()),
        ("/close", Close(1000, "")),
        ("/close 4000", Close(4000, "")),
        ("/close 4000  good  night ", Close(4000, "good  night")),
    ],
)
def test_a_line_is_a_message_or_a_command(line, command):
    assert parse(line) == command


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/", "no command '/'"),
        ("/pong", "no command '/pong'; /help shows them, and //pong sends it"),
        ("/ping 3", "no command '/ping 3'"),
        ("/close now", "takes a code and a reason"),
        ("/close 1005", "1005 may not be sent"),
        ("/close " + "9" * 5000, "takes a code and a reason"),
        ("/close 40000", "may not be sent"),
    ],
)
def test_a_wrong_command_says_what_there_is(line, words):
    with pytest.raises(ConfigurationError, match=words):
        parse(line)
