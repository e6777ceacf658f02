"""Messages with placeholders, and their numbers in what comes."""

from __future__ import annotations

import pytest

from fastws.errors import ConfigurationError
from fastws.load.template import Expectation, Template

ALL = ("seq", "due", "n", "room", "pad")


def template(text: str, size: int | None = None) -> Template:
    return Template(text, "--payload", ALL, size)


def found(expected: str, message: str | bytes):
    return Expectation(template(expected), "--expect").find(message)


def test_placeholders_are_filled_in():
    assert template("{seq} at {due} for {n} in {room}").render(seq=7, due=8, n=9, room=1) == "7 at 8 for 9 in 1"


def test_all_other_braces_mean_themselves():
    assert (
        template('{"op": {"say": "{seq}"}, "a": {}, "%": "{"}').render(seq=7)
        == '{"op": {"say": "7"}, "a": {}, "%": "{"}'
    )


def test_padding_fills_up_to_the_size():
    text = template('{"seq": {seq}, "pad": "{pad}"}', 64).render(seq=7)
    assert len(text) == 64
    assert text.startswith('{"seq": 7, "pad": "fastwsfastws')
    assert text.endswith('"}')


@pytest.mark.parametrize("size", [0, 1, 10, None])
def test_a_message_that_is_longer_than_its_size_has_no_padding(size):
    assert template("number {seq} {pad}", size).render(seq=123) == "number 123 "


def test_an_unknown_placeholder_is_refused_with_those_that_there_are():
    with pytest.raises(ConfigurationError) as refused:
        template('{"n": {sequence}}')
    assert str(refused.value) == (
        "--payload '{\"n\": {sequence}}': {sequence} means nothing here; there are {due}, {n}, {pad}, {room}, {seq}"
    )


@pytest.mark.parametrize("name", ["seq", "due", "pad"])
def test_what_would_be_found_twice_is_refused(name):
    with pytest.raises(ConfigurationError, match=f"give {{{name}}} once"):
        template(f"{{seq}} {{{name}}} {{{name}}}")


@pytest.mark.parametrize(
    "message", ["number 12 at 34.5", b"number 12 at 34.5", 'x{"text": "number 12 at 34.5 and more"}']
)
def test_a_delivery_is_found_anywhere_in_a_message(message):
    assert found("number {seq} at {due} {pad}", message) == (12, 34.5)


def test_the_order_of_the_placeholders_is_that_of_the_template():
    assert found('"at": {due}, "room": {room}, "n": {seq}', '{"at": 5, "room": 1, "n": 6}') == (6, 5.0)


def test_what_stands_behind_the_last_number_does_not_count():
    assert found('{"n": {seq}, "pad": "{pad}"}', '{"n": 6, "sender": 1}') == (6, None)


def test_a_number_is_taken_as_a_whole():
    assert found("{seq}", "1234") == (1234, None)
    assert found("{seq} {due}", "x12 5 100") == (12, 5.0)


@pytest.mark.parametrize("message", ["", "number", "number x", b"\xff\xfe"])
def test_other_messages_are_none(message):
    assert found("number {seq}", message) is None


def test_a_message_without_a_number_cannot_be_expected():
    with pytest.raises(ConfigurationError, match=r"there has to be \{seq\} in it"):
        Expectation(template("hello {n}"), "--expect")
