"""Arguments of `fastws bench`. Times are seconds, but for `--max-p99`, which is milliseconds."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, Final

from .plan import Plan

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["add_bench"]

_DESCRIPTION: Final = "Load a WebSocket server, and say how late, and how completely, it delivers."
_EPILOG: Final = """\
examples:
  fastws bench ws://localhost:9090/chat fanout --connections 1000 --rate 20
                              a message, 20 times a second, from one client to 1,000 others
  fastws bench wss://example.com/ws fanout --subscribe '{"op":"join","room":"{room}"}' --rooms 10 \\
      --payload '{"op":"say","room":"{room}","text":"{seq}"}' --expect '"text":"{seq}"'
                              the same, for a server with rooms, and a protocol of its own
  fastws bench ws://localhost:9090/ticks fanout --passive --expect '"n":{seq},"at":{due}'
                              what a server sends by itself, with numbers and times in it
  fastws bench ws://localhost:9090/chat slow --stalled 0.05
                              what readers that stall do to the others
  fastws bench ws://localhost:9090/echo echo --rate 5000 --max-p99 20
                              5,000 messages a second to and fro; status 1 if more than 1 % take longer than 20 ms
  fastws bench ws://localhost:9090/chat storm --rate 500
                              500 opening handshakes a second

placeholders: {seq} the number of the message, {due} when it was due in microseconds since 1970, {n} the number of the
connection, {room}, and {pad} what fills up to --size. Options of a question: fastws bench URL fanout --help

status: 0 good enough, 1 worse than --max-p99 or --max-lost say or no answer, 2 wrong arguments
"""


def add_bench(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the command to those of `fastws`."""
    style = argparse.RawDescriptionHelpFormatter
    bench = add(
        "bench",
        help="load a server, and measure how late it delivers",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=style,
        allow_abbrev=False,
    )
    bench.add_argument("url", metavar="URL", help="of the server, such as ws://localhost:9090/chat")
    questions = bench.add_subparsers(metavar="QUESTION", dest="question", required=True)
    for name, meaning, groups, defaults in _QUESTIONS:
        question = questions.add_parser(name, help=meaning, description=f"{meaning.capitalize()}.", allow_abbrev=False)
        question.set_defaults(**defaults)
        for title, options in groups:
            _add_group(question.add_argument_group(title), options, defaults)


def _add_group(group: Any, options: tuple[_Option, ...], defaults: dict[str, Any]) -> None:
    for name, kind, metavar, text in options:
        key = name.replace("-", "_")
        default = defaults.get(key, getattr(Plan, key, None))
        given: dict[str, Any] = {"dest": key, "default": default}
        if kind is bool:
            given["action"] = "store_true"
        elif kind is list:
            given.update(action="append", default=[], metavar=metavar)
        else:
            given.update(type=kind, metavar=metavar)
        shown = "" if kind in (bool, list) or default is None else f" (default: {default})".replace("%", "%%")
        group.add_argument(f"--{name}", help=text + shown, **given)


_Option = tuple[str, Any, str, str]

_LOAD: Final[tuple[_Option, ...]] = (
    ("connections", int, "N", "how many there are"),
    ("duration", float, "SECONDS", "for which it is measured"),
    ("processes", int, "N", "that share the connections"),
)
_MESSAGES_LOAD: Final[tuple[_Option, ...]] = (
    ("rate", float, "N", "messages a second, in all"),
    ("ramp", float, "SECONDS", "over which the connections are opened (default: a thousand a second)"),
    ("warmup", float, "SECONDS", "within which each connection has to have had a message, before it counts"),
    ("patience", float, "SECONDS", "for what is still under way at the end"),
)
_MESSAGES: Final[tuple[_Option, ...]] = (
    ("subscribe", list, "TEXT", "what each connection sends first, the one that publishes, too; may be repeated"),
    ("payload", str, "TEXT", "the message"),
    ("expect", str, "TEXT", "what is delivered of it, anywhere in a message (default: the payload)"),
    ("size", int, "BYTES", "of a message, which {pad} fills up to"),
    ("binary", bool, "", "send binary messages"),
)
_FANOUT: Final[tuple[_Option, ...]] = (
    ("publisher", str, "URL", "where the connection that publishes goes (default: where the others go)"),
    ("passive", bool, "", "publish nothing; the server sends by itself what --expect says"),
    ("rooms", int, "N", "the connections and the messages belong to one of so many rooms each, {room}"),
)
_CONNECTION: Final[tuple[_Option, ...]] = (
    ("header", list, "'NAME: VALUE'", "a header field of the opening handshakes; may be repeated"),
    ("subprotocol", list, "NAME", "to ask for; may be repeated"),
    ("origin", str, "ORIGIN", "that the opening handshakes name"),
    ("insecure", bool, "", "take any certificate"),
    ("open-timeout", float, "SECONDS", "for an opening handshake"),
    ("local-address", list, "ADDRESS", "to dial from, by turns; one is enough for 25,000 connections; may be repeated"),
)
_RESULT: Final[tuple[_Option, ...]] = (
    ("json", str, "FILE", "write what was found; - is stdout, instead of the table"),
    ("plot", str, "FILE", "draw the latencies by percentiles, as .svg or .png"),
    ("max-p99", float, "MS", "have status 1 if the 99th percentile of the latency is more than so many milliseconds"),
    ("max-lost", int, "N", "have status 1 if more than so many never came"),
    ("quiet", bool, "", "show nothing while it runs"),
)
_PIPELINE: Final[tuple[_Option, ...]] = (
    ("under-way", int, "K", "instead of --rate: K messages under way on each connection, as fast as they are answered"),
)
_STALLED: Final[tuple[_Option, ...]] = (("stalled", float, "SHARE", "of the connections, which do not read"),)
_STORM_LOAD: Final[tuple[_Option, ...]] = (("rate", float, "N", "opening handshakes a second"),)

_Groups = tuple[tuple[str, tuple[_Option, ...]], ...]
_COMMON: Final[_Groups] = (("connections", _CONNECTION), ("result", _RESULT))

_QUESTIONS: Final[tuple[tuple[str, str, _Groups, dict[str, Any]], ...]] = (
    (
        "fanout",
        "messages at a fixed rate, each to all connections",
        (("load", (*_LOAD, *_MESSAGES_LOAD)), ("messages", (*_MESSAGES, *_FANOUT)), *_COMMON),
        {"connections": 1000, "rate": 10.0},
    ),
    (
        "echo",
        "messages that come back, at a fixed rate or as many as are answered",
        (("load", (*_LOAD, *_MESSAGES_LOAD, *_PIPELINE)), ("messages", _MESSAGES), *_COMMON),
        {"connections": 100, "rate": 1000.0},
    ),
    (
        "slow",
        "fanout, while some connections do not read",
        (("load", (*_LOAD, *_MESSAGES_LOAD, *_STALLED)), ("messages", (*_MESSAGES, *_FANOUT)), *_COMMON),
        {"connections": 1000, "rate": 10.0, "stalled": 0.1},
    ),
    (
        "storm",
        "opening handshakes at a fixed rate, the oldest connections closed again",
        (("load", (*_LOAD, *_STORM_LOAD)), *_COMMON),
        {"connections": 100, "rate": 100.0},
    ),
)
