"""What came, as text for a terminal."""

from __future__ import annotations

import json

import hypothesis
import pytest
from hypothesis import strategies

from fastws.terminal.text import hexdump, printable, readable, rows, width_of

LONG = '{"name": "a name of some length", "list": [1, 2.0, 1e400], "none": {}, "empty": [], "name": "again"}'

INDENTED = """\
{
  "name": "a name of some length",
  "list": [
    1,
    2.0,
    1e400
  ],
  "none": {},
  "empty": [],
  "name": "again"
}"""


def test_json_is_set_in_lines_token_by_token():
    assert readable(LONG) == INDENTED


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"a":[1,{"b":null}]}', '{"a": [1, {"b": null}]}'),
        ("[]", "[]"),
        (' {\n"a" : "x y:,"\t} ', '{"a": "x y:,"}'),
        (r'{"a": "\"[\\"}', r'{"a": "\"[\\"}'),
    ],
)
def test_short_json_stays_on_a_line(text, shown):
    assert readable(text) == shown


@pytest.mark.parametrize("text", ["", "hello", "[not json", "{", '"text"', "12", "[1] and more", "[" * 100_000])
def test_what_is_no_object_or_array_stays_as_it_is(text):
    assert readable(text) == text


_JSON = strategies.recursive(
    strategies.none() | strategies.booleans() | strategies.integers() | strategies.text(),
    lambda inner: strategies.lists(inner) | strategies.dictionaries(strategies.text(), inner),
)


@hypothesis.given(_JSON.filter(lambda value: isinstance(value, (list, dict))))
def test_json_means_the_same_when_it_is_set_anew(value):
    assert json.loads(readable(json.dumps(value))) == value


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("a\rb\tc\x7f", r"a\rb\tc\x7f"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb", r"a\u202eb"),
        ("two\nlines", "two\nlines"),
        ("grüße 例え 🙂", "grüße 例え 🙂"),
    ],
)
def test_nothing_is_shown_that_a_terminal_would_obey(text, shown):
    assert printable(text) == shown
    assert printable(readable(text)) == shown


def test_bytes_are_hexadecimal_and_ascii():
    assert hexdump(b"") == ""
    assert hexdump(b"hello\x00\xff") == "00000000  68 65 6c 6c 6f 00 ff                             hello.."
    assert hexdump(bytes(17)).splitlines()[1] == "00000010  00" + " " * 47 + "."
    assert hexdump(bytes(300)).splitlines()[-1] == "... and 44 more"


def test_a_text_is_cut_into_rows():
    assert list(rows("", 4)) == [""]
    assert list(rows("abcdefg\n\nh", 4)) == ["abcd", "efg", "", "h"]
    assert list(rows("a例え", 4)) == ["a例", "え"]


@hypothesis.given(strategies.text(alphabet="ab例\u0301🙂\n", max_size=60), strategies.integers(2, 20))
def test_no_row_is_wider_than_the_terminal(text, width):
    cut = list(rows(text, width))
    assert "".join(cut) == text.replace("\n", "")
    assert all(sum(map(width_of, row)) <= width for row in cut)
