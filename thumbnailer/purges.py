"""Marks of what has been purged: a capture that was begun before its newest mark is not there any more.

All marks are one small value in the cache backend, which every process reads again every two seconds.
So nobody serves what was purged, whatever was under way when the purge came or could not be deleted,
and a hit costs no further question to the backend.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from thumbnailer.backend import UNREADABLE, ResilientBackend
from thumbnailer.errors import CacheUnavailable
from thumbnailer.locks import Locks
from thumbnailer.model import CLOCK_MARGIN_SECONDS, CaptureRecord, Deadline
from thumbnailer.sites import EVERYTHING, Scope, Site

ADDRESS = "purges"
#: How old this process's knowledge of the marks may be.
REREAD_SECONDS = 2.0
LOCK_SECONDS = 5.0
#: More marks than these, and the oldest become one on everything: a value of at most half a megabyte.
MAX_MARKS = 5000


@dataclass(frozen=True, slots=True)
class Mark:
    """That what was captured within ``scope`` before ``at``, Unix time in seconds, was purged."""

    scope: Scope
    at: float


class Purges:
    """Marks, shared by all who share the cache; safe to use from many threads.

    ``horizon_seconds`` is how long anything may stay in the cache: older marks concern nothing.
    """

    def __init__(
        self,
        backend: ResilientBackend,
        locks: Locks,
        *,
        horizon_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._backend = backend
        self._locks = locks
        self._horizon_seconds = horizon_seconds
        self._clock = clock
        self._guard = threading.Lock()
        self._reread_at = float("-inf")
        self._heard_at = float("-inf")
        self._content: bytes | None = None
        self._marks: Mapping[str, float] = {}
        self._version = 0

    @property
    def version(self) -> int:
        """Grows whenever this process hears of a purge."""
        return self._version

    def newest(self, site: Site, *, since: float | None = None) -> float:
        """When the page was purged last, by any mark; zero for never.

        What is known in this process will do, unless it must have been asked of the backend ``since`` a
        moment on the monotonic clock.
        """
        return max((mark.at for mark in self.marks_of(site, since=since)), default=0.0)

    def marks_of(self, site: Site, *, since: float | None = None) -> list[Mark]:
        """The marks that concern a page; ``since`` as for ``newest``."""
        marks = self._known(since)
        if not marks:
            return []
        return [Mark(scope, marks[scope.text]) for scope in site.scopes() if scope.text in marks]

    def covers(self, site: Site, record: CaptureRecord) -> bool:
        """Whether a picture of the page is one that has been purged."""
        return record.captured_at - record.upstream_seconds < self.newest(site)

    def mark(self, scopes: Sequence[Scope], at: float) -> None:
        """Purge ``scopes`` of what was begun before ``at``.

        Raises:
            CacheUnavailable: the mark could not be left where all see it.
        """
        with self._locked():
            marks = dict(self._merged(self._backend.require(ADDRESS)))
            for scope in scopes:
                marks[scope.text] = max(at, marks.get(scope.text, 0.0))
            content = json.dumps(self._bounded(marks), separators=(",", ":")).encode()
            if not self._backend.set(ADDRESS, content, timeout_seconds=self._horizon_seconds):
                raise CacheUnavailable
        self._take_in(content)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._locks.hold(ADDRESS, Deadline.after(LOCK_SECONDS)):
                yield
        except OSError as error:
            raise CacheUnavailable from error

    def hear(self, content: bytes | None, *, asked_at: float) -> None:
        """Take in what stands under ``ADDRESS``, by a question put at that moment on the monotonic clock."""
        if content is not None and content != self._content:
            self._take_in(content)
        self._heed_the_clock()
        self._reread_at = asked_at + REREAD_SECONDS
        self._heard_at = max(asked_at, self._heard_at)

    def _known(self, since: float | None) -> Mapping[str, float]:
        now = time.monotonic()
        if now >= self._reread_at or (since is not None and self._heard_at < since):
            is_first = self._reread_at == float("-inf")
            if not is_first:
                self._reread_at = now + REREAD_SECONDS
            self.hear(self._backend.get(ADDRESS), asked_at=now)
        return self._marks

    def _take_in(self, content: bytes) -> None:
        with self._guard:
            self._marks = self._merged(content)
            self._content = content
            self._version += 1

    def _heed_the_clock(self) -> None:
        """Where it was set back since a purge: what is captured from now on has not been purged."""
        with self._guard:
            now = self._clock()
            if any(at > now + CLOCK_MARGIN_SECONDS for at in self._marks.values()):
                limit = now + CLOCK_MARGIN_SECONDS
                self._marks = {text: now if at > limit else at for text, at in self._marks.items()}

    def _merged(self, content: bytes | None) -> Mapping[str, float]:
        """What is known here and what stands in ``content``: a store that lost its marks loses none here."""
        marks, now = dict(self._marks), self._clock()
        for text, at in _parsed(content).items():
            known = marks.get(text, 0.0)
            marks[text] = max(known, at if at <= now + CLOCK_MARGIN_SECONDS else known or now)
        oldest = now - self._horizon_seconds
        return {text: at for text, at in marks.items() if at > oldest}

    def _bounded(self, marks: Mapping[str, float]) -> Mapping[str, float]:
        if len(marks) <= MAX_MARKS:
            return marks
        by_age = sorted(marks.items(), key=lambda mark: mark[1], reverse=True)
        kept, merged = dict(by_age[: MAX_MARKS // 2]), by_age[MAX_MARKS // 2 :]
        kept[EVERYTHING.text] = max(kept.get(EVERYTHING.text, 0.0), merged[0][1])
        return kept


def _parsed(content: bytes | None) -> dict[str, float]:
    """The marks in a value of the backend; none where it is no value of ours."""
    if content is None:
        return {}
    try:
        marks = {str(text): float(at) for text, at in json.loads(content).items()}
    except UNREADABLE:
        return {}
    return {text: at for text, at in marks.items() if math.isfinite(at)}
