"""What holds for every URL and every address, tried on many."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_network
from urllib.parse import urlsplit

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from requests import PreparedRequest
from urllib3.util import parse_url

from tests.support.resolvers import FixedAnswers
from tests.support.spellings import FORBIDDEN, MALFORMED, READ
from thumbnailer.addresses import GLOBAL_UNICAST_IPV6, SPECIAL_IPV4, SPECIAL_IPV6, Network
from thumbnailer.errors import InvalidTarget, TargetForbidden
from thumbnailer.guard import Guard
from thumbnailer.target import Target

GUARD = Guard(ports=frozenset({80, 443, 8080}))
DEFAULT_PORTS = {"http": 80, "https": 443}

# Every range that any standard takes away from global unicast, written down apart from the guard's own.
NEVER_PUBLIC = [
    *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
    *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
    *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4", "168.63.129.16/32"),
    *("::/128", "::1/128", "::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48"),
    *("100::/64", "100:0:0:1::/64", "2001::/32", "2001::/23", "2001:2::/48", "2001:10::/28", "2001:20::/28"),
    *("2001:30::/28", "2001:db8::/32", "2002::/16", "3fff::/20", "4000::/3", "5f00::/16", "fc00::/7"),
    *("fd00:ec2::254/128", "fe80::/10", "fec0::/10", "ff00::/8"),
]

urls = st.sampled_from(
    [*READ, *(url for table in (MALFORMED, FORBIDDEN) for kind in table.values() for url in kind)]
)
pieces = st.sampled_from(
    [
        *(
            "http",
            "https",
            "HTTP",
            "ftp",
            ":",
            "/",
            "//",
            "\\",
            "?",
            "#",
            "@",
            "%",
            "%41",
            "%0a",
            "[",
            "]",
            ",",
        ),
        *("example", "com", ".", "..", "127.0.0.1", "1.1.1.1", "0x7f", "0177", "1", "localhost", "::1"),
        *("2606:4700::1111", ":80", ":443", ":8080", ":0", "xn--", "xn--mnchen-3ya", "xn--ls8h", "-", "_"),
        *("\u00fc", "\u00df", "\u3002", "\uff0e", "\uff11", "\u2460", "\u00ad", "\u200d", "\u0661", "\u05d0"),
        *(
            "\ufe0f",
            "\u0301",
            "\U0001f4a9",
            "\ud800",
            "\t",
            " ",
            "\x00",
            "I",
            "K",
            "\u0130",
            "\u212a",
            "\u017f",
        ),
    ]
)
hosts = st.text(alphabet=st.characters(exclude_characters="/?#@:[]"), min_size=1, max_size=20)
url_texts = st.one_of(
    st.text(),
    st.lists(pieces, max_size=12).map("".join),
    st.lists(pieces, max_size=8).map(lambda parts: "http://" + "".join(parts)),
    hosts.map(lambda host: f"https://{host}.example.com/"),
    st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789-", max_size=30).map(
        lambda encoded: f"https://xn--{encoded}.example.com/"
    ),
    st.text(max_size=40).map(lambda rest: f"https://example.com/{rest}"),
    urls,
)


labels = st.text(alphabet="abcxyzABC019-_\u00fc\u00df\u4f8b\u05d0\U0001f4a9", min_size=1, max_size=6)
readable_urls = st.builds(
    "{}://{}{}{}".format,
    st.sampled_from(["http", "https", "HTTPS"]),
    labels.map(lambda label: f"{label}.example.com")
    | st.sampled_from(["1.1.1.1", "[2606:4700::1.1.1.1]", "a.bc."]),
    st.sampled_from(["", ":80", ":443", ":8080"]),
    st.text(alphabet=st.characters(exclude_categories=["C", "Z"]), max_size=20).map(lambda rest: f"/{rest}")
    | st.lists(pieces, max_size=6).map("/".join).map(lambda rest: f"?{rest}"),
)


def read(url: str) -> Target | None:
    try:
        return GUARD.parse(url)
    except (InvalidTarget, TargetForbidden):
        return None


def addresses_of(network: Network) -> st.SearchStrategy[IPv4Address | IPv6Address]:
    first, last = int(network.network_address), int(network.broadcast_address)
    whole = st.integers(first, last) | st.sampled_from([first, last])
    return whole.map(IPv4Address if network.version == 4 else IPv6Address)


def spelt(address: IPv4Address | IPv6Address) -> str:
    return f"[{address}]" if address.version == 6 else str(address)


def is_refused(address: IPv4Address | IPv6Address) -> bool:
    """Whether the guard refuses ``address`` as a literal, as an answer and as a connection."""
    guard = Guard(resolver=FixedAnswers("1.1.1.1", str(address)))
    target = guard.parse("https://example.com/")
    try:
        guard.check(target)
        as_answer = False
    except TargetForbidden:
        as_answer = True
    as_literal = read(f"http://{spelt(address)}/") is None
    as_connection = not guard.is_allowed_address(str(address), 443)
    assert as_answer == as_literal == as_connection
    return as_literal


@given(url_texts)
@settings(max_examples=1500, deadline=None)
def test_parsing_raises_nothing_but_refusals_and_is_done_after_once(url: str) -> None:
    target = read(url)
    if target is not None:
        assert target.url.isascii()
        assert GUARD.parse(target.url) == target


@given(readable_urls | urls)
@example("https://example.com/#@127.0.0.1")
@example("https://example.com/?\\@127.0.0.1")
@example("https://example.com//\u00e4")
@settings(max_examples=1500, deadline=None)
def test_other_parsers_read_the_same_host_and_port_from_the_normalised_url(url: str) -> None:
    target = read(url)
    assume(target is not None)
    assert target is not None
    prepared = PreparedRequest()
    prepared.prepare_url(target.url, None)
    assert prepared.url is not None

    for text in (target.url, prepared.url):
        by_urllib, by_urllib3 = urlsplit(text), parse_url(text)
        default = DEFAULT_PORTS[target.scheme]
        assert by_urllib.scheme == by_urllib3.scheme == target.scheme
        assert by_urllib.hostname == (by_urllib3.host or "").strip("[]") == target.host
        assert (by_urllib.port or default) == (by_urllib3.port or default) == target.port
        assert by_urllib.username is by_urllib.password is by_urllib3.auth is None


@given(st.sampled_from(NEVER_PUBLIC).flatmap(lambda network: addresses_of(ip_network(network))))
@settings(max_examples=500, deadline=None)
def test_no_address_of_a_special_range_is_visited(address: IPv4Address | IPv6Address) -> None:
    assert is_refused(address)


@pytest.mark.parametrize("network", NEVER_PUBLIC)
def test_a_special_range_is_refused_from_its_first_address_to_its_last(network: str) -> None:
    whole = ip_network(network)
    assert is_refused(whole.network_address)
    assert is_refused(whole.broadcast_address)


@given(addresses_of(ip_network("0.0.0.0/0")) | addresses_of(GLOBAL_UNICAST_IPV6))
@settings(max_examples=500, deadline=None)
def test_every_address_outside_the_special_ranges_is_visited(address: IPv4Address | IPv6Address) -> None:
    assume(not any(address in special.network for special in (*SPECIAL_IPV4, *SPECIAL_IPV6)))
    assume(not (address.version == 6 and int(address) >> 32 & 0xFCFFFFFF == 0x5EFE))
    assert not is_refused(address)


@pytest.mark.parametrize("network", [special.network for special in SPECIAL_IPV4 + SPECIAL_IPV6], ids=str)
def test_the_public_neighbours_of_a_special_range_are_visited(network: Network) -> None:
    kind = IPv4Address if network.version == 4 else IPv6Address
    neighbours = [int(network.network_address) - 1, int(network.broadcast_address) + 1]
    for neighbour in (kind(number) for number in neighbours if 0 <= number < 2**network.max_prefixlen):
        if not any(neighbour in ip_network(other) for other in NEVER_PUBLIC):
            assert not is_refused(neighbour)


@given(
    st.sampled_from([special.network for special in SPECIAL_IPV4]).flatmap(addresses_of),
    st.sampled_from(
        [
            *("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/96"),
            *("2606:4700:0:0:0:5efe::/96", "2606:4700::200:5efe:0:0/96", "2606:4700::100:5efe:0:0/96"),
        ]
    ),
)
@settings(max_examples=300, deadline=None)
def test_a_special_ipv4_address_is_refused_within_any_ipv6_address(
    embedded: IPv4Address | IPv6Address, prefix: str
) -> None:
    assert is_refused(IPv6Address(int(IPv6Network(prefix).network_address) | int(embedded)))


@given(
    st.sampled_from([special.network for special in SPECIAL_IPV4]).flatmap(addresses_of),
    st.integers(0, 2**64),
)
@settings(max_examples=300, deadline=None)
def test_6to4_and_teredo_addresses_are_refused(embedded: IPv4Address | IPv6Address, rest: int) -> None:
    assert is_refused(IPv6Address(0x2002 << 112 | int(embedded) << 80 | rest))
    assert is_refused(IPv6Address(0x20010000 << 96 | rest >> 1 << 32 | int(embedded) ^ 0xFFFFFFFF))


@given(addresses_of(ip_network("127.0.0.0/8")), st.data())
@settings(max_examples=300, deadline=None)
def test_loopback_is_refused_in_every_spelling_of_inet_aton(
    address: IPv4Address | IPv6Address, data: st.DataObject
) -> None:
    octets = list(address.packed)
    count = data.draw(st.integers(1, 4))
    numbers = [*octets[: count - 1], int.from_bytes(bytes(octets[count - 1 :]), "big")]
    spell = st.sampled_from(["{}", "0x{:x}", "0X{:X}", "0{:o}", "00{:o}"])
    host = ".".join(data.draw(spell).format(number) for number in numbers) + data.draw(
        st.sampled_from(["", "."])
    )
    assert read(f"http://{host}/") is None
