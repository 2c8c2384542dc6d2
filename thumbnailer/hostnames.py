"""Host names in a URL: one spelling for each, and which of them can be public.

A name is never mended: what browsers, curl and Python would read as different hosts is refused.
Only what all of them agree on is brought to one form, that is upper case, internationalised names
and the dot that ends an absolute name.
"""

from __future__ import annotations

import re

import idna

from thumbnailer.addresses import parse_address

MAX_NAME_LENGTH = 253  # RFC 1035, 2.3.4, without the length bytes
MAX_LABEL_LENGTH = 63  # the same; an A-label is longer than what it stands for
_A_LABEL_PREFIX = "xn--"
_JOINERS = ("\u200c", "\u200d")

# RFC 1123, 2.1, and the underscore, which is no host name's but stands in many a web address.
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
# https://url.spec.whatwg.org/#ends-in-a-number-checker
_NUMBER = re.compile(r"0x[0-9a-f]*")
# "The TLD will be alphabetic": RFC 1123, 2.1, and RFC 3696, 2; internationalised ones are A-labels.
_TOP_LABEL = re.compile(r"[a-z]{2,}|xn--[a-z0-9-]+")

#: Names that only a private network or another system than the public DNS resolves.
SPECIAL_NAMES = {
    "localhost": "RFC 6761, 6.3",
    "localdomain": "host files: localhost.localdomain",
    "invalid": "RFC 6761, 6.4",
    "local": "RFC 6762, 3",
    "onion": "RFC 7686",
    "alt": "RFC 9476",
    "internal": "ICANN board resolution 2024.07.29.06",
    "home.arpa": "RFC 8375",
    "service.arpa": "RFC 9665",
    "intranet": "RFC 6762, appendix G",
    "private": "RFC 6762, appendix G",
    "corp": "RFC 6762, appendix G",
    "home": "RFC 6762, appendix G",
    "lan": "RFC 6762, appendix G",
}


def normalise_host(text: str) -> str:
    """``text`` as a lower-case ASCII name or canonical IPv4 address.

    Internationalised names become A-labels by UTS #46, non-transitional, as in browsers; names that
    IDNA 2008 lacks but browsers visit (emoji) are kept. A host whose last label is a number must be
    a canonical IPv4 address, written in ASCII.

    Raises:
        ValueError: it is no host, or parsers disagree on which.
    """
    mapped = text.lower() if text.isascii() else idna.uts46_remap(text, std3_rules=False)
    labels = mapped.removesuffix(".").split(".")
    if labels[-1].isdigit() or _NUMBER.fullmatch(labels[-1]):
        if mapped != text or parse_address(text) is None:
            raise ValueError("not a canonical IPv4 address")
        return text
    host = ".".join(_normalise_label(label) for label in labels)
    if len(host) > MAX_NAME_LENGTH:
        raise ValueError("host name too long")
    return host


def is_public_name(host: str) -> bool:
    """Whether the public DNS may hold the normalised name ``host``.

    Only the end of a name counts: ``localhost.example.com`` is as public as any other.
    """
    labels = host.split(".")
    if len(labels) == 1 or not _TOP_LABEL.fullmatch(labels[-1]):
        return False
    return not any(".".join(labels[start:]) in SPECIAL_NAMES for start in range(len(labels)))


def _normalise_label(label: str) -> str:
    # Before Punycode, which takes the square of a label's length.
    if len(label) > MAX_LABEL_LENGTH:
        raise ValueError("label too long")
    if not label.isascii():
        _check_u_label(label)
        label = _A_LABEL_PREFIX + label.encode("punycode").decode("ascii")
    elif label.startswith(_A_LABEL_PREFIX):
        _check_a_label(label)
    if not _LABEL.fullmatch(label):
        raise ValueError("not a label of a host name")
    return label


def _check_a_label(label: str) -> None:
    """Raise ValueError unless ``label`` is what its Unicode form would be encoded to."""
    encoded = label.removeprefix(_A_LABEL_PREFIX)
    decoded = encoded.encode("ascii").decode("punycode")
    if decoded.isascii() or decoded.encode("punycode").decode("ascii") != encoded:
        raise ValueError("not a canonical A-label")
    if idna.uts46_remap(decoded, std3_rules=False) != decoded:
        raise ValueError("an A-label of characters that are mapped")
    _check_u_label(decoded)


def _check_u_label(label: str) -> None:
    """Raise ValueError unless the mapped ``label`` is valid by UTS #46, 4.1."""
    if label.startswith(_A_LABEL_PREFIX):
        raise ValueError("an A-label within a U-label")
    idna.check_nfc(label)
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    for position, character in enumerate(label):
        if character in _JOINERS and not idna.valid_contextj(label, position):
            raise ValueError("a joiner out of place")
