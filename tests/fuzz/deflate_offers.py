"""permessage-deflate is negotiated exactly when RFC 7692 allows it, and the answer keeps to the offer that it accepts.

Choices: one byte, how the service compresses and its largest window. The wire: a `Sec-WebSocket-Extensions`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from fastws.errors import HandshakeError
from fastws.handshake.deflate import Deflate, negotiate
from fastws.options import UpgradeOptions

OPTIONS = [
    UpgradeOptions(compression=compression, compression_window_bits=bits)
    for compression in ("shared", "dedicated", None)
    for bits in (15, 12, 9)
]
FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
WINDOWS = ("server_max_window_bits", "client_max_window_bits")
SIZES = ("8", "9", "10", "11", "12", "13", "14", "15")
TOKEN = r"([!#$%&'*+\-.^_`|~0-9A-Za-z]+)"
LEXEME = re.compile(rf'{TOKEN}|"{TOKEN}"|([,;=])|[ \t]+')

Offer = dict[str, str | None]


def check(data: bytes) -> None:
    options, offers = OPTIONS[(data[0] if data else 0) % len(OPTIONS)], data[1:]
    check_answer(offers, options, answer(offers, options))


def answer(offers: bytes, options: UpgradeOptions) -> Deflate | str | None:
    try:
        return negotiate(offers, options)
    except HandshakeError as error:
        return "malformed" if error.status == 400 else "refused"


def check_answer(offers: bytes, options: UpgradeOptions, given: Deflate | str | None) -> None:
    """Compare an answer with what the RFC says of the first offer that can be accepted."""
    try:
        possible = [offer for offer in read(offers.decode("latin-1")) if is_possible(offer)]
    except ValueError:
        assert given == "malformed"
        return
    if options.compression is None or not possible:
        assert given is None
        return
    assert isinstance(given, Deflate)
    check_accepted(possible[0], options, given)


def check_accepted(offer: Offer, options: UpgradeOptions, given: Deflate) -> None:
    [answered] = read(given.response.decode("ascii"))
    most = options.compression_window_bits
    # 7.1.1: what is asked of the server is done, and said; it may do the same unasked
    assert set(answered) <= {*FLAGS, *WINDOWS}
    assert (answered.keys() >= {FLAGS[0]}) == (not given.send_takeover)
    assert (answered.keys() >= {FLAGS[1]}) == (not given.receive_takeover)
    assert FLAGS[0] not in offer or not given.send_takeover
    assert options.compression == "dedicated" or not (given.send_takeover or given.receive_takeover)
    # 7.1.2.1: the window that the server is asked to keep to; unasked it keeps to what it likes, and does not say so
    assert 9 <= given.send_window_bits <= min(most, int(offer.get(WINDOWS[0]) or 15))
    assert answered.get(WINDOWS[0]) == (str(given.send_window_bits) if WINDOWS[0] in offer else None)
    # 7.1.2.2: the client is only asked to keep to a window when it said that it can
    assert WINDOWS[1] not in answered or WINDOWS[1] in offer
    used = min(int(answered.get(WINDOWS[1]) or 15), int(offer.get(WINDOWS[1]) or 15))
    assert used <= given.receive_window_bits <= max(used, 9)
    assert not given.receive_takeover or given.receive_window_bits <= most or WINDOWS[1] not in offer


def is_possible(offer: Offer) -> bool:
    """Whether an offer is as section 7.1 says, and zlib can do it."""
    return (
        set(offer) <= {*FLAGS, *WINDOWS}
        and all(offer.get(name) is None for name in FLAGS)
        and offer.get(WINDOWS[0], "15") in SIZES[1:]
        and (offer.get(WINDOWS[1]) is None or offer[WINDOWS[1]] in SIZES)
    )


def read(text: str) -> list[Offer]:
    """The offers of permessage-deflate that repeat no parameter; ValueError for what is no list of extensions."""
    offers = []
    for element in elements(text):
        [name, *parameters] = [list(part) for part in split(element, ";")]
        if len(name) != 1 or name[0][0] in '="' or not all(is_parameter(parameter) for parameter in parameters):
            raise ValueError(element)
        offer = {parameter[0]: (parameter[2].lstrip('"') if len(parameter) == 3 else None) for parameter in parameters}
        if name == ["permessage-deflate"] and len(offer) == len(parameters):
            offers.append(offer)
    return offers


def is_parameter(lexemes: list[str]) -> bool:
    return len(lexemes) in (1, 3) and lexemes[0][0] not in '="' and lexemes[1:2] in ([], ["="]) and lexemes[-1] != "="


def elements(text: str) -> Iterator[list[str]]:
    """The elements of the list that are not empty, as lexemes; what was quoted begins with its quote."""
    lexemes = []
    place = 0
    while place < len(text):
        match = LEXEME.match(text, place)
        if match is None:
            raise ValueError(text)
        place = match.end()
        token, quoted, separator = match.groups()
        lexemes += [part for part in (token, quoted and f'"{quoted}', separator) if part]
    return (element for element in split(lexemes, ",") if element)


def split(lexemes: list[str], separator: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for lexeme in lexemes:
        if lexeme == separator:
            parts.append([])
        else:
            parts[-1].append(lexeme)
    return parts


def seeds() -> list[bytes]:
    offers = [
        b"permessage-deflate",
        b"permessage-deflate; client_max_window_bits",
        b'permessage-deflate; server_max_window_bits=10; client_max_window_bits="12"',
        b"permessage-deflate; server_no_context_takeover ;client_no_context_takeover",
        b"permessage-deflate; server_max_window_bits=8, permessage-deflate;client_max_window_bits=8",
        b"foo; bar = baz,, permessage-deflate; unknown, permessage-deflate",
        b"permessage-deflate; client_max_window_bits; client_max_window_bits",
        b"permessage-deflate; server_max_window_bits",
        b"permessage-deflate; server_no_context_takeover=1",
        b"permessage deflate",
    ]
    return [bytes([choice]) + offer for offer in offers for choice in (0, 4)] + [b"\6permessage-deflate"]
