"""Whom a proxy speaks for, in both header fields; every garbage ends at the last proxy that is trusted."""

from __future__ import annotations

import asyncio
import functools
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws import http, ws
from fastws.errors import ConfigurationError
from fastws.http1.connection import HttpProtocol
from fastws.http1.forwarded import MAX_HOPS, ContradictionError, TrustedProxies

from ..kit.client import REQUEST, within
from ..kit.guarded import answer
from ..kit.services import Watch, at

PEER = ("10.0.0.1", 40000)
PROXIES = TrustedProxies("10.0.0.0/8, 2001:db8:ffff::/48,unix")


def xff(*lines: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-for", line.encode("latin-1")) for line in lines]


def forwarded(*lines: str) -> list[tuple[bytes, bytes]]:
    return [(b"forwarded", line.encode("latin-1")) for line in lines]


def protos(*lines: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-forwarded-proto", line.encode("latin-1")) for line in lines]


def address_told(peer, headers):
    return PROXIES.client(peer, headers).address


# --- Who is trusted.


@pytest.mark.parametrize(
    ("trusted", "address", "is_trusted"),
    [
        (True, ("127.0.0.1", 1), True),
        (True, ("127.8.9.1", 1), True),
        (True, ("::1", 1), True),
        (True, ("::ffff:127.0.0.1", 1), True),
        (True, None, True),
        (True, ("10.0.0.1", 1), False),
        (False, ("127.0.0.1", 1), False),
        ("127.0.0.1", ("127.0.0.1", 1), True),
        ("127.0.0.1", ("127.0.0.2", 1), False),
        ("127.0.0.1", None, False),
        ("unix", None, True),
        ("unix", ("127.0.0.1", 1), False),
        (["10.0.0.0/8", "fe80::/10"], ("10.200.0.1", 1), True),
        (["10.0.0.0/8", "fe80::/10"], ("::ffff:10.200.0.1", 1), True),
        (["10.0.0.0/8", "fe80::/10"], ("fe80::1%eth0", 1), True),
        (("10.0.0.0/8",), ("11.0.0.1", 1), False),
        ("10.0.0.0/8", ("a name", 1), False),
        ([], ("127.0.0.1", 1), False),
    ],
)
def test_addresses_networks_and_unix_sockets_are_trusted_as_given(trusted, address, is_trusted):
    assert TrustedProxies(trusted).trusts(address) is is_trusted


@pytest.mark.parametrize(
    "trusted", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", "", ["127.0.0.1", 5], 5, b"::1", "*"]
)
def test_what_is_no_address_is_refused_by_name(trusted):
    with pytest.raises(ConfigurationError, match=r"proxy_headers.*(such as \"10\.0\.0\.1\"|give a list of addresses)"):
        TrustedProxies(trusted)


# --- The walk.


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([], PEER),
        ([""], PEER),
        (["203.0.113.7"], ("203.0.113.7", 0)),
        (["203.0.113.7:4711"], ("203.0.113.7", 4711)),
        (["2001:db8::1"], ("2001:db8::1", 0)),
        (["[2001:DB8::1]"], ("2001:db8::1", 0)),
        (["[2001:db8::1]:4711"], ("2001:db8::1", 4711)),
        (["::ffff:203.0.113.7"], ("203.0.113.7", 0)),
        # What stands left of the first address that is not trusted is the client's own invention.
        (["6.6.6.6, 203.0.113.7"], ("203.0.113.7", 0)),
        (["6.6.6.6, 203.0.113.7, 10.0.0.2,\t10.0.0.3"], ("203.0.113.7", 0)),
        (["6.6.6.6", "203.0.113.7", "10.0.0.2"], ("203.0.113.7", 0)),
        (["203.0.113.7, 2001:db8:ffff::9"], ("203.0.113.7", 0)),
        (["garbage, 203.0.113.7"], ("203.0.113.7", 0)),
        # Who asks from one of the proxies.
        (["10.0.0.3, 10.0.0.2"], ("10.0.0.3", 0)),
        ([" , 203.0.113.7,, "], ("203.0.113.7", 0)),
    ],
)
def test_the_first_address_from_the_right_that_is_not_trusted_is_the_client(lines, client):
    assert address_told(PEER, xff(*lines)) == client
    assert address_told(PEER, [(b"host", b"a"), *xff(*lines), (b"accept", b"6.6.6.6")]) == client


GARBAGE = [
    "unknown",
    "_hidden",
    "203.0.113",
    "203.0.113.7.8",
    "203.0.113.256",
    "0203.0.113.7",
    "203.0.113.7:",
    "203.0.113.7:65536",
    "203.0.113.7:4711:4711",
    "203.0.113.7/32",
    "[203.0.113.7]",
    "[2001:db8::1",
    "2001:db8::1]",
    "[2001:db8::1]4711",
    "2001:db8:::1",
    "fe80::1%eth0",
    "localhost",
    "::1" + ":" * 16000,
    "\xb2\xb3.0.113.7",
]


@pytest.mark.parametrize("node", GARBAGE)
def test_garbage_ends_the_walk_and_nothing_left_of_it_is_believed(node):
    assert address_told(PEER, xff(f"203.0.113.7, {node}")) == PEER
    assert address_told(PEER, xff(f"203.0.113.7, {node}, 10.0.0.2")) == ("10.0.0.2", 0)
    quoted = f'for=203.0.113.7, for="{node}"'
    assert address_told(PEER, forwarded(quoted)) == PEER
    assert address_told(PEER, forwarded(f"{quoted}, for=10.0.0.2")) == ("10.0.0.2", 0)


# --- Forwarded.


@pytest.mark.parametrize(
    ("lines", "client"),
    [
        ([""], PEER),
        (["for=203.0.113.7"], ("203.0.113.7", 0)),
        (["For=203.0.113.7;proto=https;by=_gate"], ("203.0.113.7", 0)),
        (['proto=http;FOR="203.0.113.7:4711"'], ("203.0.113.7", 4711)),
        (['for="[2001:db8::1]:4711"'], ("2001:db8::1", 4711)),
        (['for="[2001:db8::1]:_port"'], ("2001:db8::1", 0)),
        ([r'for="\2\03.0.113.7"'], ("203.0.113.7", 0)),
        ([";for=203.0.113.7;"], ("203.0.113.7", 0)),
        (["for=6.6.6.6, for=203.0.113.7,for=10.0.0.2"], ("203.0.113.7", 0)),
        (["for=6.6.6.6", "for=203.0.113.7", "for=10.0.0.2"], ("203.0.113.7", 0)),
        ([' , for=203.0.113.7;host="a,b";ext="\\",", '], ("203.0.113.7", 0)),
        # What a client leaves open swallows nothing of what the proxy appends.
        (['for="6.6.6.6', "for=203.0.113.7"], ("203.0.113.7", 0)),
        (['for=6.6.6.6;x="', 'for="203.0.113.7"'], ("203.0.113.7", 0)),
        (['for=6.6.6.6;x="', 'for="[2001:db8::1]:1";host="a"'], ("2001:db8::1", 1)),
        # A host that the client chose, and that the proxy quotes, is not an element.
        ([r'for=203.0.113.7;host="x, for=6.6.6.6"'], ("203.0.113.7", 0)),
        ([r'for=203.0.113.7;host="x\", for=\"6.6.6.6"'], ("203.0.113.7", 0)),
        # Elements that name nobody, or two, or that are none.
        (["for=203.0.113.7, proto=https"], PEER),
        (["for=203.0.113.7, for=203.0.113.8;for=203.0.113.9"], PEER),
        (["for=203.0.113.7, for"], PEER),
        (["for=203.0.113.7, for="], PEER),
        (["for=203.0.113.7, for=[2001:db8::1]"], PEER),
        (["for=203.0.113.7, for = 203.0.113.8"], PEER),
        (['for=203.0.113.7, for="203.0.113.8'], PEER),
        (["for=203.0.113.7, 203.0.113.8"], PEER),
    ],
)
def test_elements_of_forwarded_are_read_from_the_right(lines, client):
    assert address_told(PEER, forwarded(*lines)) == client


# --- Both.


@pytest.mark.parametrize(
    ("headers", "client"),
    [
        (xff("203.0.113.7") + forwarded("for=203.0.113.7"), ("203.0.113.7", 0)),
        (xff("203.0.113.7") + forwarded('for="203.0.113.7:4711"'), ("203.0.113.7", 4711)),
        (forwarded("for=203.0.113.7") + xff("203.0.113.7:4711"), ("203.0.113.7", 4711)),
        (xff("6.6.6.6, 203.0.113.7") + forwarded("for=203.0.113.7, for=10.0.0.2"), ("203.0.113.7", 0)),
        (xff("unknown") + forwarded("for=unknown"), PEER),
    ],
)
def test_both_may_be_there_if_they_name_the_same_client(headers, client):
    assert address_told(PEER, headers) == client


@pytest.mark.parametrize("invented", ["for=6.6.6.6", "for=unknown", "proto=https", 'for="', ""])
def test_both_with_different_clients_are_refused(invented):
    with pytest.raises(ContradictionError):
        address_told(PEER, forwarded(invented) + xff("203.0.113.7"))
    with pytest.raises(ContradictionError):
        address_told(None, forwarded(invented) + xff("203.0.113.7"))


# --- The scheme.


@pytest.mark.parametrize(
    ("headers", "scheme"),
    [
        ([], None),
        (xff("203.0.113.7"), None),
        (xff("203.0.113.7") + protos("https"), "https"),
        (xff("203.0.113.7") + protos("http"), "http"),
        (xff("203.0.113.7") + protos("WSS"), "https"),
        (xff("203.0.113.7") + protos("ws"), "http"),
        (protos("https"), "https"),
        (protos("ftp"), None),
        (protos(""), None),
        # Of a list it is the entry beside that of the client, or the left end of a list that is shorter.
        (xff("203.0.113.7, 10.0.0.2") + protos("https, http"), "https"),
        (xff("203.0.113.7, 10.0.0.2") + protos("http", "https"), "http"),
        (xff("203.0.113.7, 10.0.0.2") + protos("https"), "https"),
        (xff("203.0.113.7, 10.0.0.2, 10.0.0.3") + protos("https, http"), "https"),
        (xff("203.0.113.7") + protos("https, http"), "http"),
        (xff("6.6.6.6, 203.0.113.7") + protos("https, http"), "http"),
        (xff("unknown") + protos("https"), "https"),
        (forwarded("for=203.0.113.7;proto=https"), "https"),
        (forwarded('proto="wss";for=203.0.113.7'), "https"),
        (forwarded("for=203.0.113.7"), None),
        (forwarded("for=203.0.113.7;proto=https;proto=http"), None),
        (forwarded("for=203.0.113.7;proto=https, for=10.0.0.2;proto=http"), "https"),
        (forwarded("for=6.6.6.6;proto=https, for=203.0.113.7;proto=http"), "http"),
        (forwarded("for=_hidden;proto=https"), "https"),
        (forwarded("proto=https"), "https"),
        (forwarded("for=203.0.113.7;proto=https") + xff("203.0.113.7") + protos("https"), "https"),
        (forwarded("for=203.0.113.7") + xff("203.0.113.7") + protos("https"), "https"),
        (forwarded("for=203.0.113.7;proto=https") + xff("203.0.113.7"), "https"),
        (forwarded("for=203.0.113.7") + protos("https"), "https"),
    ],
)
def test_the_scheme_is_the_one_that_is_told_of_the_client(headers, scheme):
    assert PROXIES.client(PEER, headers).scheme == scheme


@pytest.mark.parametrize("address", [[], xff("203.0.113.7")])
def test_two_schemes_are_refused(address):
    with pytest.raises(ContradictionError):
        PROXIES.client(PEER, forwarded("for=203.0.113.7;proto=https") + address + protos("http"))


# --- One field.


EVERYTHING = (
    forwarded("for=203.0.113.1;proto=https")
    + xff("203.0.113.2")
    + protos("http")
    + [(b"x-real-ip", b"203.0.113.3"), (b"x-real-ip", b"203.0.113.4")]
)


@pytest.mark.parametrize(
    ("field", "host", "scheme"),
    [
        ("Forwarded", "203.0.113.1", "https"),
        ("x-forwarded-for", "203.0.113.2", "http"),
        ("X-Forwarded-For", "203.0.113.2", "http"),
        ("X-Real-IP", "203.0.113.4", "http"),
        ("CF-Connecting-IP", "10.0.0.1", "http"),
    ],
)
def test_of_one_field_alone_the_others_are_the_client_s_affair(field, host, scheme):
    address, told = TrustedProxies("10.0.0.0/8", field).client(PEER, EVERYTHING)
    assert (address[0], told) == (host, scheme)


# --- What a server makes of it.


@at()
class Where(Watch):
    """Tells its clients where they are."""

    @http.get("/where")
    def where(self, request: http.Request) -> object:
        return request.remote_address

    @http.get("/scheme")
    def scheme(self, request: http.Request) -> object:
        return request.scheme

    @ws.on_upgrade
    def check(self, request: http.Request, upgrade: ws.Upgrade) -> None:
        upgrade.headers["X-Where"] = str(request.remote_address)

    @ws.on_text_message
    def said(self, connection: ws.Connection, text: str) -> str:
        return str(connection.secure if text == "secure?" else connection.remote_address)


async def test_a_trusted_proxy_tells_where_requests_connections_and_the_log_have_their_client(serve, connect, caplog):
    server = await serve(Where, proxy_headers="127.0.0.1", access_log=True)
    client = await connect(server, fields=b"X-Forwarded-For: 6.6.6.6, 203.0.113.7:4711\r\n")
    assert b"\r\nX-Where: ('203.0.113.7', 4711)\r\n" in client.head
    assert await client.asks("where am I?") == "('203.0.113.7', 4711)"
    get = b"GET /where HTTP/1.1\r\nHost: a\r\n%b\r\n"
    close = b"Connection: close\r\n"
    # Each request of a connection has its own client, as a proxy shares its connections among all of theirs.
    pieces = [get % b"Forwarded: for=203.0.113.8\r\n", get % b"", get % (b"X-Forwarded-For: 203.0.113.9\r\n" + close)]
    answered = await answer(server, *pieces)
    assert answered.count(b'\r\n\r\n["203.0.113.8",0]HTTP/1.1 200 OK\r\n') == 1
    assert answered.count(b'\r\n\r\n["127.0.0.1",') == 1
    assert answered.endswith(b'\r\n\r\n["203.0.113.9",0]')
    lines = [record.getMessage() for record in caplog.records if record.name == "fastws.access"]
    assert [line.split()[0] for line in lines] == ["203.0.113.7", "203.0.113.8", "127.0.0.1", "203.0.113.9"]


@pytest.mark.parametrize("trusted", [None, False, "10.0.0.1", "unix"])
async def test_nobody_else_is_believed(serve, connect, trusted):
    server = await serve(Where, proxy_headers=trusted)
    client = await connect(server, fields=b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=7.7.7.7\r\n")
    assert (await client.asks("where am I?")).startswith("('127.0.0.1', ")


TWO_CLIENTS = b"X-Forwarded-For: 203.0.113.7\r\nForwarded: for=6.6.6.6\r\n"


@pytest.mark.parametrize("path", [b"/", b"/where"])
async def test_a_request_with_two_clients_gets_400_which_the_log_explains_once(serve, path, caplog):
    server = await serve(Where, proxy_headers=True, access_log=True)
    for _ in range(2):
        answered = await answer(server, REQUEST % (path + b"?token=secret", TWO_CLIENTS))
        assert answered.startswith(b"HTTP/1.1 400 Bad Request\r\n")
        assert answered.endswith(b"\r\n\r\n400 Bad Request\n")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning.startswith(f"GET {path.decode()} refused with 400: Forwarded and X-Forwarded-For lead to different")
    assert warning.endswith("forwarded_field=")
    lines = [record.getMessage() for record in caplog.records if record.name == "fastws.access"]
    assert [line.split()[0] for line in lines] == ["127.0.0.1", "127.0.0.1"]


async def test_a_field_of_the_client_s_own_changes_nothing_where_one_is_named(serve, connect):
    server = await serve(Where, proxy_headers=True, forwarded_field="X-Forwarded-For")
    client = await connect(server, fields=TWO_CLIENTS)
    assert await client.asks("where am I?") == "('203.0.113.7', 0)"


@pytest.mark.parametrize("field", ["", "X Forwarded", "Forwarded:", 5])
async def test_what_names_no_field_is_refused(serve, field):
    with pytest.raises(ConfigurationError, match=r"forwarded_field.*the name of a header field"):
        await serve(Where, proxy_headers=True, forwarded_field=field)


@pytest.mark.parametrize(
    ("fields", "secure"),
    [
        (b"X-Forwarded-Proto: wss\r\n", True),
        (b"Forwarded: for=203.0.113.7;proto=https\r\n", True),
        (b"X-Forwarded-Proto: http\r\n", False),
    ],
)
async def test_a_trusted_proxy_tells_whether_its_client_speaks_tls(serve, connect, fields, secure):
    server = await serve(Where, proxy_headers=True)
    client = await connect(server, fields=fields)
    assert await client.asks("secure?") == str(secure)
    answered = await answer(server, b"GET /scheme HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%b\r\n" % fields)
    assert answered.endswith(b"\r\n\r\nhttps" if secure else b"\r\n\r\nhttp")


async def test_without_a_proxy_s_word_the_scheme_is_that_of_the_connection(serve, connect):
    server = await serve(Where)
    client = await connect(server, fields=b"X-Forwarded-Proto: wss\r\n")
    assert await client.asks("secure?") == str(server.secure)
    answered = await answer(server, b"GET /scheme HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answered.endswith(b"\r\n\r\nhttps" if server.secure else b"\r\n\r\nhttp")


async def test_a_unix_socket_may_be_a_trusted_proxy_and_what_a_proxy_protocol_told_is_a_peer(serve):
    server = await serve(Where, proxy_headers="unix,10.0.0.1")
    request = b"GET /where HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"
    forwarded_for = b'["203.0.113.7",0]'
    for told, client in ((None, forwarded_for), (PEER, forwarded_for), (("10.0.0.2", 5), b'["10.0.0.2",5]')):
        ours, theirs = socket.socketpair()
        await server.loop.connect_accepted_socket(functools.partial(HttpProtocol, server._site, told), theirs)
        reader, writer = await asyncio.open_connection(sock=ours)
        writer.write(request)
        assert (await within(reader.read(-1))).endswith(b"\r\n\r\n" + client)
        writer.close()


# --- Bounds.


def test_a_list_is_read_to_a_bounded_length():
    hops = ["10.0.0.2"] * (MAX_HOPS - 1)
    assert address_told(PEER, xff(",".join(["203.0.113.7", *hops]))) == ("203.0.113.7", 0)
    assert address_told(PEER, xff(",".join(["203.0.113.7", "10.0.0.2", *hops]))) == ("10.0.0.2", 0)
    elements = [f"for={hop}" for hop in hops]
    assert address_told(PEER, forwarded(",".join(["for=203.0.113.7", *elements]))) == ("203.0.113.7", 0)
    assert address_told(PEER, forwarded(",".join(["for=203.0.113.7", "for=10.0.0.2", *elements]))) == ("10.0.0.2", 0)


@pytest.mark.parametrize(
    "part",
    [",", ";", "for=", 'for="', '"', "\\", '",', 'a="\\",', "a=b;", "a=b,", "for=10.0.0.2,", " ", "\t;", "::,", "[:"],
)
def test_no_list_costs_much(part):
    text = part * (16000 // len(part))
    start = time.process_time()
    for tail in ("", "x", '"'):
        address_told(PEER, forwarded(text + tail))
        address_told(PEER, xff(text + tail))
    assert time.process_time() - start < 1  # some milliseconds; backtracking would take ages


@given(st.text(alphabet='for=";,\\ \t_a1.:[]', max_size=60))
def test_nothing_that_a_client_writes_changes_what_the_proxy_appends(text):
    for appended, client in (("203.0.113.7", "203.0.113.7"), ("[2001:db8::1]:99", "2001:db8::1")):
        assert address_told(PEER, xff(text, appended))[0] == client
        assert address_told(PEER, forwarded(text, f'for="{appended}"'))[0] == client
        assert address_told(PEER, forwarded(text, f'proto=http;for="{appended}";host="a\\"b"'))[0] == client
