"""The URLs of engines."""

from __future__ import annotations

import pytest

from fastws.backplane.address import Address, Server, server_of
from fastws.errors import ConfigurationError

from ..kit import certificates


def read(url: str, *parameters: str) -> Address:
    return Address(url, port=4222, parameters=parameters)


def places(url: str) -> list[str]:
    return [str(server) for server in read(url).servers]


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("nats://a", ["a:4222"]),
        ("NATS://a:1", ["a:1"]),
        (" nats://a:65535\n", ["a:65535"]),
        ("nats://a:1,b,c:3", ["a:1", "b:4222", "c:3"]),
        ("nats://a:1,nats://b:2", ["a:1", "b:2"]),
        ("nats://[::1]:1,[fe80::1]", ["[::1]:1", "[fe80::1]:4222"]),
        ("nats://127.0.0.1:1/", ["127.0.0.1:1"]),
        ("nats://a?ca=/x", ["a:4222"]),
    ],
)
def test_servers_stand_between_commas(url, servers):
    address = Address(url, port=4222, parameters=["ca"])
    assert [str(server) for server in address.servers] == servers
    assert address.scheme == "nats"


def test_the_host_of_an_ipv6_address_has_no_brackets():
    assert read("nats://[::1]:7").servers == (Server("::1", 7),)


@pytest.mark.parametrize(
    ("host", "is_one"), [("127.0.0.1", True), ("::1", True), ("fe80::1%eth0", True), ("localhost", False), ("1", False)]
)
def test_a_host_is_an_address_or_a_name(host, is_one):
    assert Server(host, 7).has_address is is_one


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("nats://a", [(None, None)]),
        ("nats://token@a", [("token", None)]),
        ("nats://u:p@a", [("u", "p")]),
        ("nats://u:@a", [("u", "")]),
        ("nats://:p@a", [("", "p")]),
        ("nats://u%40x:p%3A%2F%2C%23%C3%A9@a", [("u@x", "p:/,#é")]),
        ("nats://u:p@a,b", [("u", "p"), ("u", "p")]),
        ("nats://u:p@a,v:q@b", [("u", "p"), ("v", "q")]),
        ("nats://u:a:b@c", [("u", "a:b")]),
    ],
)
def test_credentials_stand_with_the_first_server_or_with_each(url, credentials):
    assert [(server.user, server.password) for server in read(url).servers] == credentials


def test_path_and_parameters_are_decoded():
    address = read("redis://a/my%2Fmaster/3?ca=%2Ftmp%2Fx&flag=", "ca", "flag")
    assert address.path == "my/master/3"
    assert address.parameters == {"ca": "/tmp/x", "flag": ""}
    assert address.flag("flag")
    assert not address.flag("other")


WRONG = {
    "nats": "does not begin with a scheme",
    "u:s3cret@a": "does not begin with a scheme",
    "nats://": "no host",
    "nats://a,,b": "no host",
    "nats://u:s3cret@": "no host",
    "nats://a b": "no host",
    "nats://a:x": "a port is a number from 1 to 65535",
    "nats://a:0": "a port is a number",
    "nats://a:65536": "a port is a number",
    "nats://a:99999999999999999999": "a port is a number",
    "nats://a:-1": "a port is a number",
    "nats://::1": "stands in brackets",
    "nats://a,u:s3cret@b": "with the first server or with each",
    # Passwords that are not encoded
    "nats://u:s3cret/x@a": "percent-encode",
    "nats://u:s3cret?x@a": "percent-encode",
    "nats://u:s3cret#x@a": "percent-encode",
    "nats://u:s3cret,x@a": "percent-encode",
    "nats://a?s3cret@b=1": "percent-encode",
    "nats://a/path#fragment": "percent-encode",
    "nats://a?token=s3cret": "there is no parameter 'token'; there are ca, flag",
    "nats://" + ",".join(["a"] * 65): "65 servers are more than 64",
}


@pytest.mark.parametrize("url", WRONG)
def test_what_is_wrong_is_told_without_a_secret(url):
    with pytest.raises(ConfigurationError, match=WRONG[url]) as caught:
        read(url, "ca", "flag")
    assert "s3cret" not in str(caught.value)


def test_a_flag_is_true_or_false():
    for text, value in (("true", True), ("1", True), ("False", False), ("0", False)):
        assert read(f"nats://a?flag={text}", "flag").flag("flag") is value
    with pytest.raises(ConfigurationError, match="flag is true or false"):
        read("nats://a?flag=perhaps", "flag").flag("flag")


def test_nothing_shows_a_secret():
    address = read("nats://someone:s3cret@a:1,other:s3cret@[::1]/x?ca=s3cret", "ca")
    assert address.redacted == "nats://***@a:1,[::1]:4222/x"
    shown = repr(address) + repr(address.servers) + str(address.servers)
    assert "s3cret" not in shown
    assert "someone" not in shown
    assert read("nats://a").redacted == "nats://a:4222"


@pytest.mark.parametrize("place", ["", ":1", "a:b", "[::1", "::1]", "a/b", "[]:1"])
def test_a_place_that_is_none_is_not_shown(place):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        server_of(place, 1)
    assert not place or place not in str(caught.value)


# --- TLS


def context(query: str):
    return read(f"tls://a?{query}", "ca", "cert", "key").make_tls_context()


def test_a_server_is_checked_by_the_given_authority_or_those_of_the_system(tmp_path):
    import ssl

    own = context(f"ca={certificates.authority_file()}")
    assert (own.verify_mode, own.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert own.cert_store_stats()["x509"] == 1
    assert context("").verify_mode == ssl.CERT_REQUIRED


def test_a_certificate_of_ours_is_loaded(tmp_path):
    files = certificates.Files(tmp_path)
    context(f"cert={files.certfile}&key={files.keyfile}")
    context(f"cert={files.in_one()}")


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("ca=/nowhere", "ca or cert or key cannot be loaded: No such file"),
        ("cert={certfile}&key=/nowhere", "cannot be loaded: No such file"),
        ("ca={keyfile}", "cannot be loaded"),
        ("cert={client_ca}&key={keyfile}", "cannot be loaded"),
        ("key={keyfile}", "key is given without cert"),
        ("cert={encrypted}", "key is encrypted"),
    ],
)
def test_a_file_of_no_use_is_refused_at_once(tmp_path, query, why):
    files = certificates.Files(tmp_path)
    encrypted = tmp_path / "encrypted.pem"
    encrypted.write_bytes(files.certfile.read_bytes() + _encrypted(files.keyfile.read_bytes()))
    with pytest.raises(ConfigurationError, match=why):
        context(query.format(encrypted=encrypted, **vars(files)))


def _encrypted(pem: bytes) -> bytes:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pem, None)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.BestAvailableEncryption(b"x"),
    )
