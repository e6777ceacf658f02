"""Counting: handshakes, of which the oldest has to go, and connections of an address."""

from __future__ import annotations

import pytest

from fastws.net.limits import Limits, address_key


class Newcomer:
    def __init__(self, name: str, gone: list[str]) -> None:
        self.name = name
        self.gone = gone

    def on_deadline(self) -> None:
        self.gone.append(self.name)


def test_one_handshake_too_many_ends_the_oldest_that_is_in_progress():
    gone: list[str] = []
    a, b, c, d, e = (Newcomer(name, gone) for name in "abcde")
    limits = Limits(max_handshakes=3, max_per_address=None)
    for newcomer in (a, b, c):
        limits.begin_handshake(newcomer)
    limits.end_handshake(a)
    limits.begin_handshake(d)
    assert gone == []
    limits.begin_handshake(e)
    assert gone == ["b"]
    assert limits.handshakes == 3
    limits.end_handshake(b)
    for newcomer in (c, d, e):
        limits.end_handshake(newcomer)
    assert limits.handshakes == 0


def test_an_address_has_so_many_places_and_gets_them_back():
    limits = Limits(max_handshakes=1, max_per_address=2)
    first, second = limits.enter("192.0.2.1"), limits.enter("192.0.2.1")
    assert limits.enter("192.0.2.1") is None
    assert limits.enter("192.0.2.2") is not None
    first()
    third = limits.enter("192.0.2.1")
    assert limits.enter("192.0.2.1") is None
    second()
    third()
    assert [limits.enter("192.0.2.1") is None for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("host", [None, "", "/run/chat.sock", "unknown", "_hidden"])
def test_what_is_no_address_is_not_counted(host):
    limits = Limits(max_handshakes=1, max_per_address=1)
    assert [limits.enter(host) is None for _ in range(3)] == [False] * 3


def test_nothing_is_kept_when_addresses_are_not_counted():
    limits = Limits(max_handshakes=1, max_per_address=None)
    assert limits.enter("192.0.2.1") is limits.enter("192.0.2.2")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::7", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
    ],
)
def test_ipv6_counts_by_its_first_half(one, other, same):
    assert (address_key(one) == address_key(other)) is same
