"""What ALLOWED_PRIVATE_TARGETS opens, and what stays shut."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tests.support.resolvers import PUBLIC, PUBLIC_V6, FixedAnswers, guard_with, no_such_name, verdict
from thumbnailer.errors import TargetForbidden
from thumbnailer.guard import Guard, OpenAddresses, OpenName, parse_private_exceptions


def test_private_exceptions_are_read_in_every_form() -> None:
    text = " 10.0.0.0/8,192.168.1.7, fd00::/8 ,::1,[::1]:8080,127.0.0.1:9000,Web:5000,München.local:80, "
    assert parse_private_exceptions(text) == (
        OpenAddresses(ip_network("10.0.0.0/8")),
        OpenAddresses(ip_network("192.168.1.7/32")),
        OpenAddresses(ip_network("fd00::/8")),
        OpenAddresses(ip_network("::1/128")),
        OpenAddresses(ip_network("::1/128"), 8080),
        OpenAddresses(ip_network("127.0.0.1/32"), 9000),
        OpenName("web", 5000),
        OpenName("xn--mnchen-3ya.local", 80),
    )
    assert parse_private_exceptions("") == ()


@pytest.mark.parametrize(
    "item",
    [
        "localhost",
        "10.0.0.1/8",
        "10.0.0.0/33",
        "10.0.0",
        "0177.0.0.1:80",
        "[::1]",
        "[::1]:",
        "[::1]:0",
        "web:",
        "web:http",
        "web:70000",
        "web:080",
        "a@web:80",
        "http://web:80",
        "10.0.0.0/8:80",
        "fe80::1%eth0",
        "[fe80::1%eth0]:80",
        "*:80",
    ],
)
def test_a_faulty_exception_is_named(item: str) -> None:
    with pytest.raises(ValueError, match="is neither a network") as refusal:
        parse_private_exceptions(f"127.0.0.1:80,{item},10.0.0.0/8")
    assert repr(item) in str(refusal.value)


@pytest.mark.parametrize(
    ("exceptions", "url", "answers", "expected"),
    [
        ("127.0.0.0/8", "http://127.0.0.1:5000/", (), "allow"),
        ("127.0.0.0/8", "http://127.0.0.1/", (), "allow"),
        ("127.0.0.0/8", "http://[::1]/", (), "block"),
        ("127.0.0.0/8", "http://[::ffff:127.0.0.1]/", (), "block"),
        ("127.0.0.0/8", "http://10.0.0.1/", (), "block"),
        ("127.0.0.0/8", "http://2130706433/", (), "block"),
        ("127.0.0.0/8", "http://user@127.0.0.1/", (), "block"),
        ("127.0.0.0/8", "http://localhost:5000/", ("127.0.0.1",), "allow"),
        ("127.0.0.0/8", "http://localhost/", ("127.0.0.1", "::1"), "block"),
        ("127.0.0.0/8", "http://localhost/", (PUBLIC,), "block"),
        ("127.0.0.0/8", "http://localhost/", (), "block"),
        ("10.0.0.0/8", "http://wiki.corp/", ("10.0.0.9",), "allow"),
        ("10.0.0.0/8", "http://wiki.example.com:8080/", ("10.0.0.9",), "allow"),
        ("10.0.0.0/8", "http://wiki.example.com/", ("10.0.0.9", PUBLIC), "allow"),
        ("10.0.0.0/8", "http://wiki.example.com:8080/", ("10.0.0.9", PUBLIC), "block"),
        ("10.0.0.0/8", "http://wiki.example.com:8080/", (PUBLIC,), "block"),
        ("10.0.0.0/8", "http://wiki.example.com/", ("192.168.0.9",), "block"),
        ("127.0.0.1:5000", "http://127.0.0.1:5000/", (), "allow"),
        ("127.0.0.1:5000", "http://127.0.0.1:5001/", (), "block"),
        ("127.0.0.1:5000", "http://127.0.0.1/", (), "block"),
        ("127.0.0.1:5000", "http://127.0.0.2:5000/", (), "block"),
        ("127.0.0.1:5000", "http://localhost/", ("127.0.0.1",), "block"),
        ("[::1]:5000", "http://[0:0::1]:5000/", (), "allow"),
        ("[::1]:5000", "http://[::1]:5001/", (), "block"),
        ("localhost:5000", "http://LOCALHOST:5000/", ("127.0.0.1", "::1"), "allow"),
        ("localhost:5000", "http://localhost:5001/", ("127.0.0.1",), "block"),
        ("localhost:5000", "http://127.0.0.1:5000/", (), "block"),
        ("localhost:5000", "http://a.localhost:5000/", ("127.0.0.1",), "block"),
        ("localhost:80", "https://localhost/", ("127.0.0.1",), "block"),
        ("localhost:80", "http://localhost/", ("127.0.0.1",), "allow"),
        ("shop.example.com:8443", "https://shop.example.com:8443/", (PUBLIC,), "allow"),
        ("shop.example.com:8443", "https://shop.example.com/", ("10.0.0.1",), "block"),
        ("shop.example.com:8443", "https://other.example.com:8443/", (PUBLIC,), "block"),
        ("0.0.0.0/0", "http://[fd00::1]/", (), "block"),
    ],
)
def test_an_exception_opens_what_it_names_and_no_more(
    exceptions: str, url: str, answers: tuple[str, ...], expected: str
) -> None:
    assert verdict(guard_with(exceptions, *answers), url) == expected


def test_a_private_name_cannot_be_probed_where_networks_are_open() -> None:
    for resolver in (no_such_name, FixedAnswers("192.168.0.1")):
        guard = Guard(resolver=resolver, exceptions=parse_private_exceptions("10.0.0.0/8"))
        with pytest.raises(TargetForbidden, match=r"^The target is not a public web address\.$"):
            guard.check(guard.parse("http://wiki.corp/"))


@pytest.mark.parametrize("unreadable", ["not an address", "", "10.1", "fe80::1%eth0", "010.0.0.1"])
def test_an_opened_network_opens_no_answer_that_cannot_be_read(unreadable: str) -> None:
    for answers in ([unreadable], [unreadable, "10.0.0.1"], ["10.0.0.1", unreadable]):
        assert verdict(guard_with("0.0.0.0/0,::/0", *answers), "http://wiki.corp/") == "block", answers


@pytest.mark.parametrize(
    ("address", "port", "expected"),
    [
        (PUBLIC, 443, True),
        (PUBLIC_V6, 80, True),
        (PUBLIC, 22, False),
        ("10.0.0.1", 22, True),
        ("11.0.0.1", 22, False),
        ("127.0.0.1", 5000, True),
        ("127.0.0.1", 80, False),
        ("169.254.169.254", 80, False),
        ("::ffff:10.0.0.1", 22, False),
        ("fe80::1%lo", 80, False),
        ("web", 6000, False),
        ("", 80, False),
    ],
)
def test_a_connection_is_allowed_by_address_and_port(address: str, port: int, expected: bool) -> None:
    assert guard_with("10.0.0.0/8,127.0.0.1:5000,web:6000").is_allowed_address(address, port) is expected


def test_the_operator_can_add_ports_for_public_hosts_only() -> None:
    guard = Guard(resolver=FixedAnswers(PUBLIC), ports=frozenset({80, 443, 8080}))
    assert verdict(guard, "http://example.com:8080/") == "allow"
    assert verdict(guard, "http://example.com:8081/") == "block"
    assert verdict(guard, "http://127.0.0.1:8080/") == "block"
