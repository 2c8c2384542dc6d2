"""Remembers that a target failed, so that a dead page is left alone for a while."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from thumbnailer.backend import UNREADABLE, ResilientBackend
from thumbnailer.errors import (
    ImageTooLarge,
    NotAnImage,
    PageChallenged,
    TargetFailed,
    TargetStatus,
    ThumbnailerError,
    UpstreamTimeout,
)
from thumbnailer.failures import describe, restore
from thumbnailer.model import CaptureRequest, capture_key

FIRST_PAUSE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 3600.0

#: Failures of the page, whatever the picture of it. A provider that is busy, broken or out of quota
#: says nothing about the page.
BLAMED_ON_TARGET = (TargetFailed, PageChallenged)
#: What a page may answer by: a failure under one face is none under another. Else anybody could keep
#: others from a page by calling it in a way that it refuses.
FACE = ("user_agent", "device", "locale", "timezone", "geolocation")
#: Failures that another choice of options may well avoid: nobody shall be able to keep others from
#: a page by asking for an impossible picture of it.
BLAMED_ON_CAPTURE = (UpstreamTimeout, NotAnImage, ImageTooLarge)


@dataclass(frozen=True, slots=True)
class Setback:
    """The last failure of a target: how many there were in a row, and when to try again (Unix time)."""

    error: ThumbnailerError
    count: int
    retry_at: float


class Setbacks:
    """The failures of targets, shared by all who share the cache.

    The pause after a failure is a minute, and doubles with each further one up to an hour. A
    success ends it, and so does twice its length without a further try.
    """

    def __init__(self, backend: ResilientBackend, *, clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._clock = clock

    def refuse(self, request: CaptureRequest) -> None:
        """Raise the failure of the target again while its pause lasts."""
        setback = self.read(request)
        if setback is None:
            return
        remaining_seconds = setback.retry_at - self._clock()
        if remaining_seconds > 0:
            setback.error.retry_after_seconds = remaining_seconds
            raise setback.error

    def note(self, request: CaptureRequest, error: ThumbnailerError) -> None:
        """Remember a failure and tell the error when the next try is; others are not remembered."""
        if isinstance(error, BLAMED_ON_TARGET):
            key = _target_key(request)
        elif isinstance(error, BLAMED_ON_CAPTURE):
            key = _capture_key(request)
        else:
            return
        before = self._load(key)
        count = before.count + 1 if before else 1
        pause_seconds = min(FIRST_PAUSE_SECONDS * 2 ** (count - 1), LONGEST_PAUSE_SECONDS)
        error.retry_after_seconds = pause_seconds
        content = {"count": count, "retry_at": self._clock() + pause_seconds, **describe(error)}
        written = json.dumps(content, default=str).encode()
        self._backend.set(key, written, timeout_seconds=round(3 * pause_seconds))

    def forget(self, request: CaptureRequest) -> None:
        """The target works again."""
        for key in (_target_key(request), _capture_key(request)):
            if self._backend.has(key):
                self._backend.delete(key)

    def read(self, request: CaptureRequest) -> Setback | None:
        """The last failure of the target, None if there is none or ``request`` would not call it one."""
        of_target = self._load(_target_key(request))
        if of_target is not None and _concerns(of_target.error, request):
            return of_target
        return self._load(_capture_key(request))

    def _load(self, key: str) -> Setback | None:
        content = self._backend.get(key)
        if content is None:
            return None
        try:
            described = json.loads(content)
            return Setback(restore(described), int(described["count"]), float(described["retry_at"]))
        except UNREADABLE:
            return None


def _concerns(error: ThumbnailerError, request: CaptureRequest) -> bool:
    """A status is a failure only to those who count it as one."""
    if not isinstance(error, TargetStatus):
        return True
    return any(error.status in statuses for statuses in request.fail_on_status)


def _target_key(request: CaptureRequest) -> str:
    identity = "\n".join([request.url, *(repr(getattr(request, name)) for name in FACE)])
    return f"setback:{hashlib.sha256(identity.encode()).hexdigest()}"


def _capture_key(request: CaptureRequest) -> str:
    return f"setback:{capture_key(request)}"
