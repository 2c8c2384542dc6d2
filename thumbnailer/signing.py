"""Signed URLs: who holds a key writes them, and nobody can change one afterwards.

The signature is HMAC-SHA256 (RFC 2104) over this text, in base64url without padding (RFC 4648, section 5)::

    v1\\n
    /thumb?thumb_width=400&url=https%3A%2F%2Fexample.com%2F

- The path is that of the route, without any prefix below which the service is published. Like
  the query it is percent-encoded; its slashes stay as they are.
- The query is every parameter but ``sig``. Names and values are what a form decoder makes of the
  query as it came (``+`` is a space, ``%c3`` is ``%C3``, ``a`` is ``a=``), encoded anew as UTF-8 by
  RFC 3986, section 2.3: letters, digits and ``-._~`` bare, everything else as ``%XX`` in capitals.
- Parameters are sorted by the encoded name, then by the encoded value. Both are ASCII, so that
  every language sorts them alike; names are compared whole, so that ``a`` comes before ``a-b``.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, quote

from thumbnailer.errors import InvalidParameters, SignatureExpired, SignatureInvalid, SignatureRequired
from thumbnailer.model import END_OF_DATES

VERSION = "v1"
#: 256 bits: below the size of the hash, HMAC loses strength (RFC 2104, section 3; RFC 7518, section 3.2).
MIN_SECRET_BYTES = 32
#: The block of SHA-256: HMAC hashes a longer secret down, so it would only look stronger.
MAX_SECRET_BYTES = 64
#: A URL without ``kid`` is tried with each of them.
MAX_KEYS = 16
#: Random bytes repeat themselves less; a row of zeros is somebody's placeholder.
MIN_DISTINCT_BYTES = 12
#: Milliseconds are beyond it.
MAX_EXP = END_OF_DATES - 1

KID = re.compile(r"[A-Za-z0-9_-]{1,32}")
EXP = re.compile(r"[1-9]\d{0,11}", re.ASCII)
#: What signing itself puts into the query.
OWN_PARAMETERS = ("sig", "kid", "exp")

Parameter = tuple[str, str]

NOT_UTF_8 = "The query holds bytes that are no UTF-8."
DOES_NOT_FIT = "The signature does not fit this path and these parameters."


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key; ``kid`` is its public name."""

    kid: str
    secret: bytes = field(repr=False)

    def signature(self, text: str) -> str:
        """The signature of a canonical string."""
        return encode_signature(hmac.digest(self.secret, text.encode(), hashlib.sha256))

    def fits(self, text: str, signature: str) -> bool:
        """Whether ``signature`` is that of ``text``; the time taken tells nothing about the right one."""
        return hmac.compare_digest(self.signature(text).encode(), signature.encode(errors="replace"))


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """The keys that are live: the first signs, each verifies."""

    keys: tuple[SigningKey, ...]

    def named(self, kid: str | None) -> tuple[SigningKey, ...]:
        """The keys that a URL may have been signed with: the one that ``kid`` picks, else all of them."""
        return tuple(key for key in self.keys if kid is None or key.kid == kid)


def parse_signing_keys(text: str) -> SigningKeys:
    """Read ``kid:hex,kid:hex``.

    Raises ValueError, which counts the keys instead of quoting any part of them.
    """
    keys = tuple(_signing_key(part.strip(), number) for number, part in enumerate(text.split(","), 1))
    if len(keys) > MAX_KEYS:
        raise ValueError(f"must be at most {MAX_KEYS} keys")
    if len({key.kid for key in keys}) < len(keys):
        raise ValueError("gives two keys the same id")
    if len({key.secret for key in keys}) < len(keys):
        raise ValueError("holds the same key twice, under two ids")
    return SigningKeys(keys)


def _signing_key(text: str, number: int) -> SigningKey:
    kid, colon, digits = text.partition(":")
    if not colon or not KID.fullmatch(kid):
        raise ValueError(
            f"must be keys such as k2:<hex>,k1:<hex>; key {number} has no id of up to 32 letters, "
            "digits, - and _ before a colon"
        )
    if not re.fullmatch(r"([0-9a-fA-F]{2})*", digits):
        raise ValueError(f"key {number} is not written in pairs of hexadecimal digits")
    secret = bytes.fromhex(digits)
    if not MIN_SECRET_BYTES <= len(secret) <= MAX_SECRET_BYTES:
        raise ValueError(
            f"key {number} has {len(secret)} bytes; it must have {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES}, "
            "for instance from: openssl rand -hex 32"
        )
    if len(set(secret)) < MIN_DISTINCT_BYTES:
        raise ValueError(f"key {number} is not random; make one with: openssl rand -hex 32")
    return SigningKey(kid, secret)


@dataclass(frozen=True, slots=True)
class Signed:
    """What a good signature says: which key made it, and the unix second from which it counts no more."""

    kid: str
    exp: int | None


@dataclass(frozen=True, slots=True)
class SignedPath:
    """A path and its query, signed; ``str`` of it goes behind the service's base URL."""

    path: str
    query: str
    sig: str
    kid: str
    exp: int | None

    def __str__(self) -> str:
        return f"{self.path}?{self.query}&sig={self.sig}"


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """Signs and verifies. With ``longest_life_seconds`` every URL has an end, and none is further off."""

    keys: SigningKeys
    longest_life_seconds: int | None = None

    def sign(
        self, path: str, parameters: Iterable[Parameter], *, now: float, exp: int | None = None
    ) -> SignedPath:
        """Sign with the first key; without ``exp`` the URL lives as long as it may.

        Raises:
            InvalidParameters: a parameter is signing's own or no text, or ``exp`` is past or too far off.
        """
        given = tuple(parameters)
        own = [name for name, _ in given if name in OWN_PARAMETERS]
        if own:
            raise InvalidParameters({name: ["Is set by signing itself."] for name in own})
        if exp is None and self.longest_life_seconds is not None:
            exp = int(now) + self.longest_life_seconds
        if exp is not None and (fault := self._exp_fault(exp, now)):
            raise InvalidParameters({"exp": [fault]})
        key = self.keys.keys[0]
        given = (*given, ("kid", key.kid), *([("exp", str(exp))] if exp is not None else []))
        try:
            query, sig = canonical_query(given), key.signature(canonical_string(path, given))
        except UnicodeEncodeError:
            raise InvalidParameters({}, "A parameter holds text that UTF-8 cannot encode.") from None
        return SignedPath(quote(path, safe="/"), query, sig, key.kid, exp)

    def verify(self, path: str, parameters: Sequence[Parameter], now: float) -> Signed:
        """Check a path and the parameters of its query, as ``read_parameters`` reads them.

        Raises:
            SignatureRequired: there is none.
            SignatureInvalid: it was made with no live key, for another URL, or without an end it needs.
            SignatureExpired: it was good before.
        """
        own = {name: _only(name, parameters) for name in OWN_PARAMETERS}
        if own["sig"] is None:
            raise SignatureRequired
        candidates = self.keys.named(own["kid"])
        if not candidates:
            raise SignatureInvalid("No live key has the id that kid names.")
        try:
            text = canonical_string(path, parameters)
        except UnicodeEncodeError:
            raise SignatureInvalid(NOT_UTF_8) from None
        fitting = [key for key in candidates if key.fits(text, own["sig"])]
        if not fitting:
            raise SignatureInvalid(DOES_NOT_FIT)
        return Signed(fitting[0].kid, self._still_good(own["exp"], now))

    def _still_good(self, exp: str | None, now: float) -> int | None:
        """The end that a fitting signature names, if that is not reached."""
        if exp is None:
            if self.longest_life_seconds is not None:
                raise SignatureInvalid("Signed URLs of this service need an exp.")
            return None
        if not EXP.fullmatch(exp):
            raise SignatureInvalid("exp must be unix seconds: a whole number, no milliseconds.")
        if int(exp) <= now:
            raise SignatureExpired
        if fault := self._exp_fault(int(exp), now):
            raise SignatureInvalid(f"exp: {fault}")
        return int(exp)

    def _exp_fault(self, exp: int, now: float) -> str | None:
        if exp <= now:
            return "Must be later than now."
        if exp > MAX_EXP:
            return "Must be unix seconds, no milliseconds."
        if self.longest_life_seconds is not None and exp > now + self.longest_life_seconds:
            return f"Must be within {self.longest_life_seconds} seconds from now."
        return None


def read_parameters(query: bytes) -> tuple[Parameter, ...]:
    """The parameters of a query as it came, in its order, just as the routes read them.

    Raises:
        SignatureInvalid: its bytes are no UTF-8, so that nobody can say what was signed.
    """
    try:
        return tuple(parse_qsl(query.decode(), keep_blank_values=True, errors="strict"))
    except UnicodeDecodeError:
        raise SignatureInvalid(NOT_UTF_8) from None


def canonical_string(path: str, parameters: Iterable[Parameter]) -> str:
    """The text that is signed. Raises UnicodeEncodeError where UTF-8 cannot encode the parts."""
    return f"{VERSION}\n{quote(path, safe='/')}?{canonical_query(parameters)}"


def canonical_query(parameters: Iterable[Parameter]) -> str:
    """Every parameter but ``sig``, encoded and sorted. Raises UnicodeEncodeError, as above."""
    pairs = sorted((encode(name), encode(value)) for name, value in parameters if name != "sig")
    return "&".join(f"{name}={value}" for name, value in pairs)


def encode(text: str) -> str:
    """Percent-encode all but the unreserved characters of RFC 3986."""
    return quote(text, safe="", errors="strict")


def encode_signature(digest: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _only(name: str, parameters: Sequence[Parameter]) -> str | None:
    """The value of a parameter that may stand there once. Raises ``SignatureInvalid``."""
    values = [value for each, value in parameters if each == name]
    if len(values) > 1:
        raise SignatureInvalid(f"{name} stands there more than once.")
    return values[0] if values else None
