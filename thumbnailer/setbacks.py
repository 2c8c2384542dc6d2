"""Remembers that a target failed, so that a dead page is left alone for a while."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thumbnailer.backend import UNREADABLE, ResilientBackend
from thumbnailer.errors import (
    ImageTooLarge,
    NotAnImage,
    PageChallenged,
    PageCrashed,
    TargetFailed,
    ThumbnailerError,
    UpstreamTimeout,
)
from thumbnailer.failures import describe, restore
from thumbnailer.model import CLOCK_MARGIN_SECONDS, CaptureRequest, capture_key
from thumbnailer.purges import ADDRESS, Purges
from thumbnailer.sites import Kind, Site

#: After so many doublings of a second a pause has a day's length. Two to the power of what months bring is no
#: float.
MOST_DOUBLINGS = 17

#: Failures of the page, whatever the picture of it. A provider that is busy, broken or out of quota
#: says nothing about the page.
BLAMED_ON_TARGET = (TargetFailed, PageChallenged)
#: What a page may answer by, and which answers are failures: a failure under one face is none under another.
#: Else anybody could keep others from a page by calling it in a way that it refuses, or by calling it bad.
FACE = ("user_agent", "device", "locale", "timezone", "geolocation", "fail_on_status")
#: Failures that another choice of options may well avoid: nobody shall be able to keep others from
#: a page by asking for an impossible picture of it.
BLAMED_ON_CAPTURE = (UpstreamTimeout, NotAnImage, ImageTooLarge, PageCrashed)


@dataclass(frozen=True, slots=True)
class Setback:
    """The last failure of a target: how many there were in a row, when, and when to try again (Unix time)."""

    error: ThumbnailerError
    count: int
    retry_at: float
    noted_at: float


@dataclass(frozen=True, slots=True)
class Pauses:
    """How long a target is left alone after one failure, and at most, in seconds."""

    first_seconds: float = 60.0
    longest_seconds: float = 3600.0

    def after(self, failures: int) -> float:
        """The pause after so many failures in a row: doubled with each."""
        return min(self.first_seconds * 2.0 ** min(failures - 1, MOST_DOUBLINGS), self.longest_seconds)


USUAL_PAUSES = Pauses()


class Setbacks:
    """The failures of targets, shared by all who share the cache.

    The pause after a failure doubles with each further one. A success ends it, and so does twice its length
    without a further try, or a purge of the page.
    """

    def __init__(
        self,
        backend: ResilientBackend,
        purges: Purges,
        pauses: Pauses = USUAL_PAUSES,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._purges = purges
        self._pauses = pauses
        self._clock = clock

    def refuse(self, request: CaptureRequest) -> None:
        """Raise the failure of the target again while its pause lasts; asks for purges as well."""
        setback = self._judge(request, *self._ask(request))
        if setback is None:
            return
        remaining_seconds = setback.retry_at - self._clock()
        if remaining_seconds > 0:
            setback.error.retry_after_seconds = remaining_seconds
            raise setback.error

    def note(
        self, request: CaptureRequest, error: ThumbnailerError, *, begun_at: float, is_outage: bool = False
    ) -> None:
        """Remember a failure and tell the error when the next try is; others are not remembered.

        ``begun_at`` is the Unix time of the try. Tries of one page that were under way at once, for pictures
        of several sizes, fail together: that is one failure. So are all those of an ``is_outage``, while the
        provider is down: a picture is not to be left alone for an hour after it is back.
        """
        if isinstance(error, BLAMED_ON_TARGET):
            name = _target_name(request)
        elif isinstance(error, BLAMED_ON_CAPTURE):
            name = capture_key(request)
        else:
            return
        site, now = Site.of(request.url), self._clock()
        address = site.address(Kind.SETBACK, name)
        before = self._read(site, self._backend.get(address))
        count = 1 if before is None else before.count + (before.noted_at < begun_at and not is_outage)
        pause_seconds = self._pauses.after(count)
        error.retry_after_seconds = pause_seconds
        content = {"count": count, "noted_at": now, "retry_at": now + pause_seconds, **describe(error)}
        written = json.dumps(content, default=str).encode()
        self._backend.set(address, written, timeout_seconds=round(3 * pause_seconds))

    def forget(self, request: CaptureRequest) -> None:
        """The target works again; asks for purges as well."""
        for address, content in zip(_addresses(request), self._ask(request), strict=True):
            if content is not None:
                self._backend.delete(address)

    def read(self, request: CaptureRequest) -> Setback | None:
        """The last failure of the target, None if there is none or ``request`` would not call it one."""
        return self._judge(request, *self._backend.get_many(_addresses(request)))

    def _ask(self, request: CaptureRequest) -> Sequence[bytes | None]:
        """What stands under the request's addresses; the same question is for the marks of purges.

        Who asks here looks at those next.
        """
        asked_at = time.monotonic()
        *contents, marks = self._backend.get_many((*_addresses(request), ADDRESS))
        self._purges.hear(marks, asked_at=asked_at)
        return contents

    def _judge(
        self, request: CaptureRequest, of_target: bytes | None, of_capture: bytes | None
    ) -> Setback | None:
        site = Site.of(request.url)
        return self._read(site, of_target) or self._read(site, of_capture)

    def _read(self, site: Site, content: bytes | None) -> Setback | None:
        if content is None:
            return None
        try:
            described = json.loads(content)
            error, count = restore(described), int(described["count"])
            found = Setback(error, count, float(described["retry_at"]), float(described["noted_at"]))
        except UNREADABLE:
            return None
        is_pause = 0 <= found.noted_at <= found.retry_at <= found.noted_at + self._pauses.longest_seconds
        is_of_another_time = found.noted_at > self._clock() + CLOCK_MARGIN_SECONDS
        is_over = is_of_another_time or found.noted_at < self._purges.newest(site)
        return found if is_pause and not is_over else None


def _addresses(request: CaptureRequest) -> tuple[str, str]:
    """Where failures of the target are, and where those of this capture of it."""
    site = Site.of(request.url)
    return site.address(Kind.SETBACK, _target_name(request)), site.address(Kind.SETBACK, capture_key(request))


def _target_name(request: CaptureRequest) -> str:
    """Who brings something of their own, a cookie or a program, learns nothing of the page for others."""
    if request.partition:
        return capture_key(request)
    identity = "\n".join([request.url, *(repr(getattr(request, name)) for name in FACE)])
    return hashlib.sha256(identity.encode()).hexdigest()
