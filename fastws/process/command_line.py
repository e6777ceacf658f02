"""Arguments of the `fastws` command, and the options of the server among them.

An option that is not given is left to the server, whose default the help shows.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from ..handshake.fields import is_token
from ..load.arguments import add_bench
from ..options import ServeOptions, ServerOptions
from ..version import __version__
from .telling import WAIT_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

__all__ = ["parse", "server_options"]

_DESCRIPTION: Final = "Serve annotated WebSocket and HTTP services."

_EPILOG: Final = """\
examples:
  fastws run chat.py                     all services of a file, at 127.0.0.1:9090
  fastws run chat.py --reload            the same, again after each change of the code
  fastws run chat.py --workers auto      the same in as many processes as there are cores
  fastws run chat.py --backplane nats://10.0.0.5
                                         one chat with all others that name the same engine
  fastws run chat.py news.py --port 80   the services of several files
  fastws run project.chat:Chat           one class of an importable module
  fastws run project.main:chat           an instance that the module has made
  fastws run chat.py --certfile cert.pem --keyfile key.pem
                                         the same with TLS; SIGHUP reads the files again

Ctrl-C or SIGTERM closes every WebSocket with 1001, runs on_close and on_stop, and ends with status 0. With --drain
SIGTERM takes time for that, and a second one does not. SIGHUP replaces workers one after another.
"""

_CONNECT: Final = """\
Connect to a server. Lines that are typed, or come from a pipe, are sent as text messages, and what comes is shown.
At a terminal /ping sends a ping, /close 4000 why closes, and /help shows more. Of a pipe every line is a message,
and behind the last one the server has time to answer, until its pong."""

_CONNECT_EPILOG: Final = """\
examples:
  fastws connect wss://example.com/chat
  fastws connect ws://localhost:9090/chat --header "Authorization: Bearer x" --subprotocol chat.v2
  echo hi | fastws connect ws://localhost:9090/echo/websocket --once

exit status:
  0    closed with 1000 or 1001, or by you; with --once, a message came
  1    not connected: nobody is there, or the server refuses
  2    wrong arguments
  3    closed by the server with another code; with --once, before a message came
  4    lost without a close frame (1006)
  130  Ctrl-C

If output is no terminal, it is the messages alone, each as it came and a line break; what happens is told on stderr.
NO_COLOR does without colours.
"""

_LOG_LEVELS: Final = ("debug", "info", "warning", "error")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command; exits with status 2 and a message if it is none.

    Returns:
        `command`. Of "run" `services`, `reload`, `workers`, `log_level`, `fd` (None if not given) and those options of
        the server that were given; of "connect" its arguments; of "bench" the fields of `load.plan.Plan`; of the others
        `pid` and `timeout`.
    """
    given = _make_parser().parse_args(arguments)
    if given.command != "run":
        return given
    places = [hasattr(given, "host") or hasattr(given, "port"), hasattr(given, "unix"), given.fd is not None]
    if sum(places) > 1:
        given.refuse("--host and --port, --unix and --fd are different places to listen at; give one of them")
    return given


def _make_parser() -> argparse.ArgumentParser:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "fastws", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=style, allow_abbrev=False
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(metavar="COMMAND", dest="command", required=True)
    run = commands.add_parser(
        "run",
        help="serve the services of files or modules",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=style,
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    run.set_defaults(reload=False, workers=None, log_level="info", fd=None, access_log=False, refuse=run.error)
    _add_general(run)
    _add_places(run.add_argument_group("where it listens"))
    _add_tls(run.add_argument_group("TLS"))
    _add_limits(run.add_argument_group("limits"))
    for telling in _TELLING:
        _add_telling(commands.add_parser, *telling)
    _add_connect(
        commands.add_parser(
            "connect",
            help="talk to a server at the terminal, or from a pipe",
            description=_CONNECT,
            epilog=_CONNECT_EPILOG,
            formatter_class=style,
            allow_abbrev=False,
        )
    )
    add_bench(commands.add_parser)
    return parser


def _add_telling(add: Callable[..., argparse.ArgumentParser], name: str, meaning: str, waits: str) -> None:
    telling = add(name, help=meaning, description=f"{meaning.capitalize()}. {waits}", allow_abbrev=False)
    telling.add_argument("pid", type=_count, metavar="PID", help="the process that serves, or supervises workers")
    telling.add_argument("--timeout", type=_seconds, default=WAIT_TIMEOUT, metavar="SECONDS", help=_TIMEOUT)


def _add_connect(connect: argparse.ArgumentParser) -> None:
    connect.add_argument("url", metavar="URL", help="of the server, such as wss://example.com/chat")
    connect.add_argument(
        "--header",
        type=_header,
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="a header field of the request, any number of times",
    )
    connect.add_argument(
        "--subprotocol", action="append", default=[], metavar="NAME", help="one to offer, any number of times"
    )
    connect.add_argument(
        "--origin", metavar="ORIGIN", help="the page that it pretends to be, as in https://example.com"
    )
    connect.add_argument("--insecure", action="store_true", help="take any certificate of the server's")
    connect.add_argument("--binary", action="store_true", help="send lines as binary messages")
    connect.add_argument(
        "--ping",
        type=_interval,
        nargs="?",
        const=1.0,
        metavar="SECONDS",
        help="ping all the time, once a second or as given, and show how long the pong takes",
    )
    connect.add_argument("--once", action="store_true", help="end with the first message that comes")


def server_options(given: argparse.Namespace) -> ServeOptions:
    """Return the options of the server that were given, and nothing of those that were not."""
    options: ServeOptions = {}
    for name in ServeOptions.__annotations__:
        if hasattr(given, name):
            options[name] = getattr(given, name)  # type: ignore[literal-required]
    return options


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        print(f"fastws {__version__}")
        parser.exit()


# --- The arguments.


def _add_general(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "services",
        nargs="+",
        metavar="FILE.py|MODULE[:NAME]",
        help="a file or module, all of whose services are served, or one class or instance of it",
    )
    run.add_argument("--reload", action="store_true", help="start again when a file of the project changes")
    run.add_argument(
        "--workers",
        type=_workers,
        metavar="N",
        help="processes that serve as one, or auto for as many as there are cores (default: none but this one)",
    )
    run.add_argument(
        "--backplane",
        metavar="URL",
        help="the engine that carries pushes between machines, such as nats://localhost:4222 or redis://localhost",
    )
    run.add_argument(
        "--cluster",
        metavar="NAME",
        help=f"separates deployments on one engine (default: {ServerOptions.default('cluster')})",
    )
    run.add_argument("--log-level", choices=_LOG_LEVELS, help="least level to log (default: %(default)s)")
    run.add_argument("--health", action="store_true", help="answer GET /healthz and GET /readyz")
    run.add_argument("--access-log", action="store_true", help="log each HTTP response and each opened WebSocket")
    run.add_argument(
        "--redacted-parameters",
        metavar="NAMES",
        help="query parameters whose values no log shall have, besides token, key, password and the like",
    )


def _add_places(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--host", help=f"address to listen at (default: {ServerOptions.default('host')})")
    group.add_argument(
        "--port", type=_port, help=f"port to listen at, 0 for any free one (default: {ServerOptions.default('port')})"
    )
    group.add_argument("--unix", metavar="PATH", help="a Unix socket to listen at, instead of host and port")
    group.add_argument(
        "--unix-mode",
        type=_mode,
        metavar="MODE",
        help=f"who may connect to it (default: {ServerOptions.default('unix_mode'):o})",
    )
    group.add_argument(
        "--fd", type=_count, metavar="N", help="a descriptor that listens already, instead of host and port"
    )
    group.add_argument(
        "--proxy-headers",
        metavar="ADDRESSES",
        help="proxies whose Forwarded or X-Forwarded-For is believed, such as 127.0.0.1,10.0.0.0/8,unix",
    )
    group.add_argument(
        "--forwarded-field",
        metavar="NAME",
        help="the one of these fields that they set, or one of their own (default: all, which have to agree)",
    )
    group.add_argument(
        "--proxy-protocol",
        action="store_true",
        help="expect a PROXY header, version 1 or 2, before everything else; only a proxy may reach such a server",
    )


def _add_tls(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--certfile", metavar="PEM", help="the certificate and those that vouch for it")
    group.add_argument("--keyfile", metavar="PEM", help="its private key, if that is not in the same file")
    group.add_argument("--client-ca", metavar="PEM", help="ask clients for a certificate of these authorities")


def _add_limits(group: argparse._ArgumentGroup) -> None:
    for name, kind, meaning in _LIMITS:
        default = ServerOptions.default(name)
        text = meaning if default is None else f"{meaning} (default: {default})"
        metavar = "N" if kind in (_count, _count_or_off) else "SECONDS"
        group.add_argument("--" + name.replace("_", "-"), type=kind, metavar=metavar, help=text)


def _workers(text: str) -> int | str:
    return text if text == "auto" else _count(text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _count_or_off(text: str) -> int | None:
    return None if text == "off" else _count(text)


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds") from None


def _seconds_or_off(text: str) -> float | None:
    return None if text == "off" else _seconds(text)


def _interval(text: str) -> float:
    seconds = _seconds(text)
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not is_token(name):
        raise argparse.ArgumentTypeError(f"{text!r} is no header field; give NAME:VALUE")
    return name, value.strip()


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; give a number from 0 to 65535")
    return int(text)


def _mode(text: str) -> int:
    if not text or text.strip("01234567"):
        raise argparse.ArgumentTypeError(f"{text!r} is no mode; give octal digits such as 660")
    return int(text, 8)


_TELLING: Final = (
    (
        "drain",
        "have a server close its clients one by one, and end",
        "Sends SIGUSR1, and waits until the process has ended. It takes the time that --drain said, or a minute.",
    ),
    (
        "reload",
        "have a server replace its workers one after another",
        "Sends SIGHUP, and waits until all workers are new ones and the old ones have ended, or one could not start.",
    ),
)
_TIMEOUT: Final = "to wait at most (default: %(default)g); the server goes on with what it does"

_LIMITS: Final[tuple[tuple[str, Callable[[str], Any], str], ...]] = (
    ("max_connections", _count, "connections in all; one more is answered with 503"),
    ("max_connections_per_address", _count, "connections of one address; one more is answered with 429 (default: any)"),
    ("max_handshakes", _count, "connections without a complete request yet; one more ends the oldest"),
    ("max_total_backlog", _count, "bytes that may wait for all slow clients together; beyond, the slowest are closed"),
    ("kernel_backlog", _count_or_off, "bytes that may lie unsent in the kernel for each client, or off for any number"),
    ("fanout_threads", _count, "threads that help to send a message to very many clients"),
    ("backlog", _count, "connections that wait in the kernel to be accepted"),
    ("handshake_timeout", _seconds, "for TLS, for the head of a request, and for its body"),
    ("keep_alive_timeout", _seconds, "for an HTTP connection between two requests"),
    ("close_timeout", _seconds, "for a closing handshake, and for handlers at the end"),
    ("drain", _seconds_or_off, "over which SIGTERM closes clients one by one (default: all at once)"),
    ("slow_handler_time", _seconds_or_off, "that a handler may hold up all others until the log names it, or off"),
    ("max_head_size", _count, "bytes of a request's head"),
    ("max_head_fields", _count, "header fields of a request"),
    ("max_body_size", _count, "bytes of a request's body"),
)
