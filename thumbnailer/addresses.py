"""Which IP addresses belong to the public internet.

``ipaddress.is_global`` is not asked: it takes multicast, 6to4, site-local and translated addresses
for global on some Python versions. The ranges stand here instead, each with its source. The two
registries behind them are
https://www.iana.org/assignments/iana-ipv4-special-registry and
https://www.iana.org/assignments/iana-ipv6-special-registry.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class SpecialRange:
    """Addresses that are no public web server's, what they are for, and who says so."""

    network: Network
    purpose: str
    source: str


def _special(network: str, purpose: str, source: str) -> SpecialRange:
    return SpecialRange(ip_network(network), purpose, source)


SPECIAL_IPV4 = (
    _special("0.0.0.0/8", "this network; 0.0.0.0 reaches loopback", "RFC 791, 3.2; RFC 1122, 3.2.1.3"),
    _special("10.0.0.0/8", "private use", "RFC 1918"),
    _special("100.64.0.0/10", "shared by carrier-grade NAT; Alibaba's metadata", "RFC 6598"),
    _special("127.0.0.0/8", "loopback", "RFC 1122, 3.2.1.3"),
    _special("169.254.0.0/16", "link-local; most clouds' metadata", "RFC 3927"),
    _special("172.16.0.0/12", "private use", "RFC 1918"),
    # Includes 192.0.0.9 and .10, which IANA calls globally reachable: they reach the nearest NAT.
    _special("192.0.0.0/24", "IETF protocol assignments", "RFC 6890, 2.1"),
    _special("192.0.2.0/24", "documentation (TEST-NET-1)", "RFC 5737"),
    _special("192.88.99.0/24", "6to4 relay anycast, deprecated", "RFC 7526"),
    _special("192.168.0.0/16", "private use", "RFC 1918"),
    _special("198.18.0.0/15", "benchmarking", "RFC 2544"),
    _special("198.51.100.0/24", "documentation (TEST-NET-2)", "RFC 5737"),
    _special("203.0.113.0/24", "documentation (TEST-NET-3)", "RFC 5737"),
    _special("224.0.0.0/4", "multicast", "RFC 5771"),
    _special("240.0.0.0/4", "reserved, and the limited broadcast address", "RFC 1112, 4; RFC 919, 7"),
    # Public address space, yet answered by the machine's own host.
    _special(
        "168.63.129.16/32",
        "Azure's platform services and metadata",
        "https://learn.microsoft.com/azure/virtual-network/what-is-ip-address-168-63-129-16",
    ),
)

#: All that IANA has given to global unicast (RFC 4291, 2.4, and the IPv6 address space registry).
#: Loopback, mapped, compatible, translated, NAT64, discard-only, unique-local, link-local,
#: site-local, SRv6 and multicast addresses all lie outside it.
GLOBAL_UNICAST_IPV6 = IPv6Network("2000::/3")

SPECIAL_IPV6 = (
    _special("2001::/23", "IETF protocol assignments: Teredo, benchmarking, ORCHID, drones", "RFC 2928"),
    _special("2001:db8::/32", "documentation", "RFC 3849"),
    _special("2002::/16", "6to4, which embeds any IPv4 address", "RFC 3056"),
    _special("3fff::/20", "documentation", "RFC 9637"),
)

_ISATAP_IDENTIFIER = 0x00005EFE
_UNIVERSAL_AND_GROUP_BITS = 0x03000000


def parse_address(text: str) -> Address | None:
    """The address that ``text`` spells in full, None where it spells none.

    IPv4 is four decimal numbers without leading zeros and nothing else: the shorter, octal and
    hexadecimal spellings of inet_aton mean different hosts to different parsers. An IPv6 address
    with a zone identifier (RFC 6874) is none, because it names an interface of this machine.
    """
    if "%" in text:
        return None
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether ``address`` can only be a host on the public internet."""
    if isinstance(address, IPv4Address):
        return not any(address in special.network for special in SPECIAL_IPV4)
    if address not in GLOBAL_UNICAST_IPV6 or any(address in special.network for special in SPECIAL_IPV6):
        return False
    embedded = _isatap_ipv4(address)
    return embedded is None or is_public(embedded)


def _isatap_ipv4(address: IPv6Address) -> IPv4Address | None:
    """The IPv4 address in an ISATAP interface identifier (RFC 5214, 6.1), which fits any prefix."""
    identifier = int(address) >> 32 & 0xFFFFFFFF
    if identifier & ~_UNIVERSAL_AND_GROUP_BITS != _ISATAP_IDENTIFIER:
        return None
    return IPv4Address(int(address) & 0xFFFFFFFF)
