"""permessage-deflate, the negotiation of RFC 7692: the client's offers in, the accepted one out, no I/O.

`negotiate`, of a server, takes the offers in the order of the client's preference and accepts the first one that can be
honoured exactly as it stands. `offers`, of a client, says what it would like, and after that what it can do; `agree`
reads what the server chose. The names of parameters speak of client and server; `Deflate`, what the core is given,
speaks of sending and receiving.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from ..errors import HandshakeError, InvalidHandshake
from .fields import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Deflate", "Options", "agree", "negotiate", "offers"]

# Window bits that zlib can do.
SMALLEST: Final = 9
LARGEST: Final = 15


class Options(Protocol):
    """A service's options as the negotiation reads them; `options.UpgradeOptions` is one."""

    @property
    def compression(self) -> str | None:
        """``"shared"``, ``"dedicated"`` or None."""

    @property
    def compression_window_bits(self) -> int:
        """9 to 15: the largest window of either direction, as a power of two of bytes."""


class Deflate(NamedTuple):
    """The outcome of a negotiation.

    Attributes:
        response: the value of the ``Sec-WebSocket-Extensions`` that accepts it.
        send_window_bits: 9 to 15, the window that the peer has for what we compress, as a power of two of bytes. A
            server may want 8 of a client, for which there is no compressor: what that sends is not compressed.
        receive_window_bits: 9 to 15, likewise for what the peer compresses.
        send_takeover: whether what we compress may refer to earlier messages.
        receive_takeover: whether what the peer compresses may.
    """

    response: bytes
    send_window_bits: int
    receive_window_bits: int
    send_takeover: bool
    receive_takeover: bool


# RFC 6455 section 9.1: a value is a token, quoted or not.
_TOKEN: Final = TOKEN.encode()
_PARAMETER: Final = re.compile(rb"[ \t]*;[ \t]*(%b)(?:[ \t]*=[ \t]*(?:(%b)|\"(%b)\"))?" % (_TOKEN, _TOKEN, _TOKEN))
_NAME: Final = re.compile(rb"[ \t]*(%b)" % _TOKEN)
_END: Final = re.compile(rb"[ \t]*(?:,|\Z)")

_Parameters = list[tuple[bytes, bytes | None]]


def negotiate(offers: bytes, options: Options) -> Deflate | None:
    """Accept one of a client's offers (RFC 7692 section 5.1 and 7.1).

    Args:
        offers: the value of ``Sec-WebSocket-Extensions``, several lines joined with commas.
        options: of the service.

    Returns:
        What was negotiated; None when there is no offer that can be accepted.

    Raises:
        HandshakeError: 400, `offers` is no list of extensions.
    """
    accepted = None
    for name, parameters in _parse(offers):
        if accepted is None and name == b"permessage-deflate" and options.compression is not None:
            accepted = _accept(parameters, options)
    return accepted


def _parse(offers: bytes) -> Iterator[tuple[bytes, _Parameters]]:
    place = 0
    while place < len(offers):
        if end := _END.match(offers, place):  # an empty element of a list means nothing (RFC 9110 section 5.6.1)
            place = end.end()
            continue
        name = _NAME.match(offers, place)
        if name is None:
            raise HandshakeError(400, (), b"Sec-WebSocket-Extensions is malformed\n")
        place = name.end()
        parameters: _Parameters = []
        while parameter := _PARAMETER.match(offers, place):
            parameters.append((parameter[1], parameter[2] or parameter[3]))
            place = parameter.end()
        end = _END.match(offers, place)
        if end is None:
            raise HandshakeError(400, (), b"Sec-WebSocket-Extensions is malformed\n")
        place = end.end()
        yield name[1], parameters


class _Offer:
    """The parameters of one offer, each checked as section 7.1 defines it.

    Raises:
        ValueError: the offer must be declined: a parameter is unknown, repeated, or has an invalid value.
    """

    def __init__(self, parameters: _Parameters) -> None:
        values = dict(parameters)
        if len(values) < len(parameters):
            raise ValueError("a parameter is repeated")
        self.limits_server = b"server_max_window_bits" in values
        self.limits_client = b"client_max_window_bits" in values
        self.server_no_context_takeover = _flag(values, b"server_no_context_takeover")
        self.client_no_context_takeover = _flag(values, b"client_no_context_takeover")
        # "This parameter can have no value": the client then only says that it would obey (7.1.2.2).
        if values.get(b"client_max_window_bits", b"") is None:
            del values[b"client_max_window_bits"]
        self.server_max_window_bits = _bits(values, b"server_max_window_bits")
        self.client_max_window_bits = _bits(values, b"client_max_window_bits")
        if values:
            raise ValueError("a parameter is unknown")


def _flag(values: dict[bytes, bytes | None], name: bytes) -> bool:
    if name not in values:
        return False
    if values.pop(name) is not None:
        raise ValueError("a flag has a value")
    return True


def _bits(values: dict[bytes, bytes | None], name: bytes) -> int:
    if name not in values:
        return LARGEST
    value = values.pop(name)
    # "a decimal integer value without leading zeroes between 8 to 15, inclusive"
    if value not in (b"8", b"9", b"10", b"11", b"12", b"13", b"14", b"15"):
        raise ValueError("window bits are out of range")
    return int(value)


def _accept(parameters: _Parameters, options: Options) -> Deflate | None:
    """Answer an offer, or decline it."""
    try:
        offer = _Offer(parameters)
    except ValueError:
        return None
    if offer.server_max_window_bits < SMALLEST:
        # zlib cannot keep to 256 bytes, and a window larger than the client's would break every longer message.
        return None
    most = options.compression_window_bits
    shared = options.compression == "shared"
    send_bits = min(offer.server_max_window_bits, most)
    receive_bits = min(offer.client_max_window_bits, most) if offer.limits_client else LARGEST
    send_takeover = not shared and not offer.server_no_context_takeover
    # A client that cannot be told to keep to our window has a larger one: some that offer no limit ignore that they
    # are to forget, too, so that keeping what they refer to is the only way to understand them.
    receive_takeover = not shared and not offer.client_no_context_takeover
    answer = [b"permessage-deflate"]
    if not send_takeover:
        answer.append(b"server_no_context_takeover")
    if not receive_takeover:
        answer.append(b"client_no_context_takeover")
    # Unasked it may be said, too (7.1.2.1), but some clients refuse it, and a larger window holds whatever we refer to.
    if offer.limits_server:
        answer.append(b"server_max_window_bits=%d" % send_bits)
    if receive_bits < offer.client_max_window_bits:
        answer.append(b"client_max_window_bits=%d" % receive_bits)
    # A window of zlib's smallest size holds whatever a client with 256 bytes refers to.
    return Deflate(b"; ".join(answer), send_bits, max(receive_bits, SMALLEST), send_takeover, receive_takeover)


# --- The client's side.


def offers(options: Options) -> bytes:
    """Return what a client offers: the value of ``Sec-WebSocket-Extensions``, or nothing.

    First what suits its options, so that no history or a small one is kept; then whatever the server likes better.
    """
    if options.compression is None:
        return b""
    wanted = [b"permessage-deflate"]
    if options.compression == "shared":
        wanted += [b"server_no_context_takeover", b"client_no_context_takeover"]
    if options.compression_window_bits < LARGEST:
        wanted.append(b"server_max_window_bits=%d" % options.compression_window_bits)
    wanted.append(b"client_max_window_bits")
    plain = b"permessage-deflate; client_max_window_bits"
    first = b"; ".join(wanted)
    return first if first == plain else first + b", " + plain


def agree(answer: bytes, options: Options) -> Deflate | None:
    """Read what the server chose of `offers` (RFC 6455 section 4.1, RFC 7692 section 7.1).

    Args:
        answer: the value of its ``Sec-WebSocket-Extensions``, several lines joined with commas; empty without.
        options: of the client.

    Raises:
        InvalidHandshake: it is malformed, or nothing that was offered.
    """
    try:
        chosen = list(_parse(answer))
    except HandshakeError:
        raise InvalidHandshake("the Sec-WebSocket-Extensions of the answer is malformed") from None
    if not chosen:
        return None
    if options.compression is None or len(chosen) > 1 or chosen[0][0] != b"permessage-deflate":
        raise InvalidHandshake(f"the server uses extensions that were not offered: {answer.decode('latin-1')[:200]}")
    try:
        return _use(answer, _Answer(chosen[0][1]), options)
    except ValueError as error:
        raise InvalidHandshake(f"the server's permessage-deflate is none that was offered: {error}") from None


class _Answer(_Offer):
    """The parameters of an answer: those of an offer, but that each of a window's size has a value (7.1.2)."""

    def __init__(self, parameters: _Parameters) -> None:
        if (b"client_max_window_bits", None) in parameters:
            raise ValueError("client_max_window_bits has no value")
        super().__init__(parameters)


def _use(answer: bytes, chosen: _Answer, options: Options) -> Deflate:
    return Deflate(
        answer,
        min(chosen.client_max_window_bits, options.compression_window_bits),
        max(chosen.server_max_window_bits, SMALLEST),
        # Nobody minds if we remember less than we may
        options.compression == "dedicated" and not chosen.client_no_context_takeover,
        not chosen.server_no_context_takeover,
    )
