"""The nouns of the trip: requests, captures and their keys.

Pure data and standard library only. Option names are those of the public contract, so that
schemas, keys and providers can speak of an option by one name.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum

KEY_VERSION = "c1"

#: How old a picture a caller may accept, at least and at most, in seconds: a minute, and thirty days. The
#: operator may narrow these bounds (``TTL_MIN``, ``TTL_MAX``).
MIN_TTL_SECONDS = 60
MAX_TTL_SECONDS = 2_592_000

#: Unix time in seconds at the end of the year 9999: later moments cannot be written as a date.
END_OF_DATES = 253_402_300_800

#: What lies further ahead than this, in seconds, was noted before the clock was set back: those of different
#: machines hardly differ by as much.
CLOCK_MARGIN_SECONDS = 60.0

#: What JPEG, WebP and AVIF are encoded with where nobody asks for another quality.
DEFAULT_QUALITY = 80


class Format(StrEnum):
    """What a capture can be encoded as."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    PDF = "pdf"

    @property
    def content_type(self) -> str:
        return "application/pdf" if self is Format.PDF else f"image/{self.value}"

    @property
    def takes_quality(self) -> bool:
        return self in (Format.JPEG, Format.WEBP)


class WaitUntil(StrEnum):
    """The moment of page loading after which the picture is taken."""

    LOAD = "load"
    DOMCONTENTLOADED = "domcontentloaded"
    NETWORKIDLE = "networkidle"


@dataclass(frozen=True, slots=True)
class Clip:
    """A rectangle of the page, in CSS pixels from its top left corner."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Geolocation:
    """Where the browser claims to be: WGS 84 degrees."""

    latitude: float
    longitude: float


@dataclass(frozen=True, slots=True)
class Cookie:
    """A cookie for the target's host and no other; ``host`` is that of the normalised target."""

    name: str
    value: str = field(repr=False)
    host: str


@dataclass(frozen=True, slots=True)
class StatusRange:
    """HTTP statuses from ``first`` to ``last``, both included."""

    first: int
    last: int

    def __contains__(self, status: int) -> bool:
        return self.first <= status <= self.last


ERROR_STATUSES = (StatusRange(400, 599),)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRequest:
    """One screenshot to take: a target and every option that changes the picture.

    ``url`` is normalised; ``width`` and ``height`` are CSS pixels; ``delay`` is milliseconds;
    ``quality`` is 1-100, and None where the format has none. ``device`` names a preset of
    ``thumbnailer.devices``; width, height and device_scale_factor are then already the preset's
    unless the caller asked otherwise.

    ``css``, ``js``, ``headers`` and ``cookies`` (``POWERFUL``) change the page or say who asks for it;
    what they hold is nobody else's business and stays out of every ``repr``. ``partition`` names the
    caller who wrote one of them: the picture is theirs, and nobody who asks for the same finds it.

    ``asked`` holds the names of the options that the caller wrote themselves: a provider may leave
    out a default that it lacks, but never one of these. It does not change the picture, so it is
    no part of the identity.
    """

    url: str
    width: int = 1280
    height: int = 720
    device_scale_factor: float = 1.0
    device: str | None = None
    format: Format = Format.PNG
    quality: int | None = None
    full_page: bool = False
    selector: str | None = None
    clip: Clip | None = None
    delay: int = 0
    wait_until: WaitUntil = WaitUntil.LOAD
    wait_for: str | None = None
    dark_mode: bool = False
    reduced_motion: bool = False
    block_ads: bool = False
    block_cookie_banners: bool = False
    hide_selectors: tuple[str, ...] = ()
    user_agent: str | None = None
    locale: str | None = None
    timezone: str | None = None
    geolocation: Geolocation | None = None
    fail_on_status: tuple[StatusRange, ...] = ERROR_STATUSES
    css: str | None = field(default=None, repr=False)
    js: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    cookies: tuple[Cookie, ...] = field(default=(), repr=False)
    partition: str = ""
    asked: frozenset[str] = field(default=frozenset(), compare=False)


#: Options that change the page or say who asks for it.
POWERFUL = frozenset({"css", "js", "headers", "cookies"})

#: What each option is when nobody wants anything special; a provider that lacks the option
#: honours it in this value all the same.
NEUTRAL_OPTIONS: dict[str, object] = {
    option.name: option.default
    for option in fields(CaptureRequest)
    if option.name not in ("url", "partition", "asked")
}


def wanted_options(request: CaptureRequest) -> dict[str, object]:
    """The options of ``request`` that differ from doing nothing special, by name."""
    return {
        name: getattr(request, name)
        for name, neutral in NEUTRAL_OPTIONS.items()
        if getattr(request, name) != neutral
    }


def capture_key(request: CaptureRequest) -> str:
    """The cache key of a capture: hexadecimal SHA-256 over target, partition and every option."""
    content = {name: getattr(request, name) for name in ("url", "partition", *NEUTRAL_OPTIONS)}
    canonical = json.dumps(content, default=_plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{KEY_VERSION}\n{canonical}".encode()).hexdigest()


def _plain(value: object) -> object:
    return [getattr(value, part.name) for part in fields(value)]  # type: ignore[arg-type]  # only dataclasses reach here


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureRecord:
    """What is known of a capture besides its bytes.

    ``captured_at`` is Unix time in seconds; ``width`` and ``height`` are image pixels, None for
    a PDF; ``sha256`` is the hexadecimal digest of the bytes; ``provider`` took the picture and
    ``upstream_seconds`` is how long that lasted.
    """

    content_type: str
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    captured_at: float
    provider: str
    upstream_seconds: float

    @property
    def etag(self) -> str:
        """The strong entity tag (RFC 9110, section 8.8.3), without its quotes."""
        return self.sha256[:32]

    def is_ahead_of(self, now: float) -> bool:
        """Whether the clock was set back after it was taken: nobody can say how old it is."""
        return self.captured_at > now + CLOCK_MARGIN_SECONDS

    def overdue_seconds(self, now: float, max_age_seconds: float) -> float:
        """By how much it is too old at ``now``, or is not yet where negative.

        What is ahead of ``now`` is a little too old: it would be young for as long as the clock was set back.
        """
        return 1.0 if self.is_ahead_of(now) else now - self.captured_at - max_age_seconds


@dataclass(frozen=True, slots=True)
class Capture:
    """A whole, checked screenshot. ``chunks()`` yields its bytes from the start, each time anew."""

    record: CaptureRecord
    chunks: Callable[[], Iterator[bytes]]

    @classmethod
    def of_bytes(cls, record: CaptureRecord, body: bytes) -> Capture:
        return cls(record, lambda: iter((body,)))

    def body(self) -> bytes:
        return b"".join(self.chunks())


@dataclass(frozen=True, slots=True)
class Deadline:
    """The moment, on the monotonic clock in seconds, after which nobody waits any more."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    def remaining_seconds(self) -> float:
        """Seconds left, never below zero."""
        return max(0.0, self.at - time.monotonic())

    def share_seconds(self, parts: int, most: float) -> float:
        """The n-th part of the seconds left, at most ``most``."""
        return min(most, self.remaining_seconds() / parts)

    def has_passed(self) -> bool:
        return self.remaining_seconds() == 0.0
