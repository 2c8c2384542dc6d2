"""Targets: URLs of web pages that every parser reads alike."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from urllib.parse import quote

from thumbnailer.addresses import parse_address
from thumbnailer.errors import InvalidTarget, TargetForbidden, ThumbnailerError
from thumbnailer.hostnames import normalise_host

DEFAULT_PORTS = {"http": 80, "https": 443}

#: Of a target, as it is given and as it is normalised.
MAX_CHARACTERS = 2048

# re.ASCII: without it, ignoring case also takes U+017F for an s.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.ASCII | re.IGNORECASE)
_WEB_URL = re.compile(
    r"(?P<scheme>https?)://(?P<authority>[^/?#]+)(?P<path>[^?#]*)(?P<query>\?[^#]*)?(?P<fragment>#.*)?",
    re.ASCII | re.IGNORECASE,
)
_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(?P<port>:.*)?", re.ASCII | re.IGNORECASE
)
_PORT = re.compile(r":([1-9][0-9]{0,4})")

# Raw, these are cut off, skipped or shown differently by one program or another. The joiners are
# the exception: Persian and Indic words and emoji are spelt with them.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
_JOINERS = frozenset("\u200c\u200d")

# RFC 3986, 3.3 to 3.5: what may stand bare, besides the unreserved characters.
_PATH_CHARACTERS = "%/:@!$&'()*+,;="
_QUERY_CHARACTERS = _PATH_CHARACTERS + "?"
_LONE_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class Target:
    """A web page's URL in the one form that every parser reads alike.

    ``url`` is ASCII, its scheme and host in lower case, without the default port, its path never
    empty and without dots to resolve; ``host`` has no brackets and no final dot; ``port`` is the one to
    connect to.
    """

    url: str
    scheme: str
    host: str
    port: int


def parse_target(url: str) -> Target:
    """Read ``url`` by RFC 3986, as far as browsers agree with it, and normalise it.

    The authority is never mended. In path, query and fragment, what may not stand there bare is
    percent-encoded as UTF-8.

    Raises:
        InvalidTarget: it is too long, malformed or ambiguous.
        TargetForbidden: it has another scheme than http and https, or user information.
    """
    if len(url) > MAX_CHARACTERS:
        raise InvalidTarget(f"The target is longer than {MAX_CHARACTERS} characters.")
    if any(_is_refused(character) for character in set(url)):
        raise InvalidTarget("The target contains a space, control or invisible character.")
    parts = _WEB_URL.fullmatch(url)
    if parts is None:
        raise _not_a_web_url(url)
    if "\\" in parts["authority"] or "\\" in parts["path"]:
        raise InvalidTarget("The target contains a backslash.")
    scheme = parts["scheme"].lower()
    host, port = parse_authority(parts["authority"], DEFAULT_PORTS[scheme])
    shown_port = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    shown_host = f"[{host}]" if ":" in host else host
    normalised = f"{scheme}://{shown_host}{shown_port}{_encode_rest(parts)}"
    if len(normalised) > MAX_CHARACTERS:
        raise InvalidTarget(f"The target is longer than {MAX_CHARACTERS} characters once percent-encoded.")
    return Target(normalised, scheme, host, port)


def said_of(subject: str, error: ThumbnailerError) -> str:
    """What ``error`` says of the target, said of another address, for which the same holds."""
    return re.sub(r"^The target\b", subject, str(error))


def parse_authority(authority: str, default_port: int) -> tuple[str, int]:
    """The normalised host and the port of ``host``, ``host:port``, ``[IPv6]`` or ``[IPv6]:port``.

    Raises:
        InvalidTarget: it is malformed, or parsers disagree on its host.
        TargetForbidden: it carries user information.
    """
    if "@" in authority:
        raise TargetForbidden("The target must not carry a user name or password.")
    parts = _AUTHORITY.fullmatch(authority)
    if parts is None:
        raise InvalidTarget("The target's host is malformed.")
    port = _parse_port(parts["port"], default_port)
    if parts["ipv6"] is not None:
        return _parse_ipv6(parts["ipv6"]), port
    try:
        return normalise_host(parts["name"]), port
    except ValueError as error:
        raise InvalidTarget("The target's host is malformed.") from error


def _is_refused(character: str) -> bool:
    return unicodedata.category(character) in _REFUSED_CATEGORIES and character not in _JOINERS


def _not_a_web_url(url: str) -> InvalidTarget | TargetForbidden:
    scheme = _SCHEME.match(url)
    if scheme is None or scheme[0][:-1].lower() in DEFAULT_PORTS:
        return InvalidTarget("The target must be a whole URL: http:// or https://, then a host.")
    return TargetForbidden("The target must be an http or https URL.")


def _parse_port(text: str | None, default: int) -> int:
    if text is None:
        return default
    digits = _PORT.fullmatch(text)
    if digits is None or int(digits[1]) > 65535:
        raise InvalidTarget("The target's port is malformed.")
    return int(digits[1])


def _parse_ipv6(text: str) -> str:
    address = parse_address(text)
    if address is None or address.version != 6:
        raise InvalidTarget("The target's host is malformed.")
    return str(address)


def _encode_rest(parts: re.Match[str]) -> str:
    """Path, query and fragment, percent-encoded."""
    encoded = _without_dots(_encode(parts["path"], _PATH_CHARACTERS)) or "/"
    for part in (parts["query"], parts["fragment"]):
        if part is not None:
            encoded += part[0] + _encode(part[1:], _QUERY_CHARACTERS)
    return encoded


def _without_dots(path: str) -> str:
    """``path`` without its segments ``.`` and ``..``, however they are written, as browsers ask for it.

    https://url.spec.whatwg.org/#path-state
    """
    kept: list[str] = []
    segments = path.split("/")[1:]
    for number, segment in enumerate(segments, 1):
        dots = segment.replace("%2E", ".")
        if dots == "..":
            kept = kept[:-1]
        elif dots != ".":
            kept.append(segment)
        if dots in (".", "..") and number == len(segments):
            kept.append("")
    return "/" + "/".join(kept) if path else ""


def _encode(text: str, bare: str) -> str:
    """``text`` with all but ``bare`` and unreserved characters percent-encoded, hex in upper case."""
    whole = _LONE_PERCENT.sub("%25", text)
    return quote(_ESCAPE.sub(lambda escape: escape[0].upper(), whole), safe=bare)
