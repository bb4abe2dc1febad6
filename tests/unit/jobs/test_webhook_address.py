from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from steadyocr.errors import InvalidOption
from steadyocr.jobs.webhook_address import Target, as_address, is_allowed, parse_target, refuse_literal
from steadyocr.jobs.webhook_models import receiver_of
from steadyocr.jobs.webhook_post import signed_headers, signing_key

KEY = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "100.100.100.200",
        "169.254.169.254",
        "192.0.0.192",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "2002:7f00:1::",
        "64:ff9b::a00:1",
        "2001:db8::1",
        "fec0::1",
        "feff::1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
        "64:ff9b:1::1",
    ],
)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not is_allowed(ip_address(address))


@pytest.mark.parametrize(
    "address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"]
)
def test_what_is_public_is_allowed(address: str) -> None:
    assert is_allowed(ip_address(address))


def test_a_network_is_allowed_by_name_and_no_other_with_it() -> None:
    networks = [ip_network("10.1.0.0/16"), ip_network("::1/128")]
    assert is_allowed(ip_address("10.1.2.3"), networks)
    assert is_allowed(ip_address("::ffff:10.1.2.3"), networks), "whatever it is wrapped in"
    assert is_allowed(ip_address("::1"), networks)
    assert not is_allowed(ip_address("10.2.2.3"), networks)
    assert not is_allowed(ip_address("127.0.0.1"), networks)


def test_an_address_with_a_zone_is_understood() -> None:
    assert not is_allowed(as_address("fe80::1%eth0"))


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "10.0.0.7",
        "127.1",
        "0x7f.1",
        "2130706433",
        "[::1]",
        "[fec0::7]",
        "[fe80::1%25eth0]",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
    ],
)
def test_a_host_that_says_that_it_is_not_public_is_refused_without_a_look_up(host: str) -> None:
    with pytest.raises(InvalidOption):
        refuse_literal(parse_target(f"http://{host}/"))


def test_names_and_allowed_literals_are_not_refused() -> None:
    for host in ("a.example", "localhost.example", "93.184.216.34", "[2606:2800::1]"):
        refuse_literal(parse_target(f"http://{host}/"))
    for host in ("127.0.0.1", "localhost", "2130706433"):
        refuse_literal(parse_target(f"http://{host}/"), [ip_network("127.0.0.0/8")])
    refuse_literal(parse_target("http://localhost/"), [ip_network("::1/128")])


def test_urls_are_taken_apart() -> None:
    assert parse_target("https://a.example") == Target(True, "a.example", 443, "/")
    assert parse_target("http://a.example:8080/x/y?z=1") == Target(False, "a.example", 8080, "/x/y?z=1")
    assert parse_target("https://[2606:2800::1]/x") == Target(True, "2606:2800::1", 443, "/x")
    assert parse_target("https://[2606:2800::1]:8443/").authority == "[2606:2800::1]:8443"
    assert parse_target("https://a.example:443/").authority == "a.example"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example/x",
        "ftp://a.example/",
        "file:///etc/passwd",
        "https://",
        "https:///x",
        "https://user:secret@a.example/",
        "https://user@a.example/",
        "https://a.example/#part",
        "https://a.example/\r\nX-Evil: 1",
        "https://a.example/a b",
        "https://a.exämple/",
        "https://a.example:99999/",
        "https://a.example:x/",
        "https://[::1",
        "https://[2606:2800::1]x/",
        "https://[2606:2800::1]./",
        "https://x[2606:2800::1]/",
        "https://a.example/" + "x" * 2048,
    ],
)
def test_what_is_no_url_for_a_webhook_is_refused(url: str) -> None:
    with pytest.raises(InvalidOption):
        parse_target(url)


@pytest.mark.parametrize("path", ["", "/", "/x/y?z=https://b.example/", "?z=1", "/x:1", "/[x]"])
@pytest.mark.parametrize("port", ["", ":", ":443", ":8443"])
def test_a_receiver_is_its_host_however_that_is_written(port: str, path: str) -> None:
    for url in ("https://a.example", "HTTP://A.Example", "https://a.example."):
        assert receiver_of(url + port + path) == "a.example"
    assert receiver_of(f"https://[2606:2800::A]{port}{path}") == "[2606:2800::a]"


def test_a_url_at_the_limit_is_taken() -> None:
    url = "https://a.example/"
    assert parse_target(url + "x" * (2048 - len(url))).host == "a.example"


def test_the_signature_is_that_of_the_standard_webhooks_specification() -> None:
    # The example of the specification's own reference implementations.
    headers = signed_headers(KEY, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_any_text_is_a_secret_as_it_is() -> None:
    assert signing_key("just some text") == b"just some text"
    with pytest.raises(ValueError, match=r"(?i)base64"):
        signing_key("whsec_not base64!")
