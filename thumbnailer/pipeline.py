"""The trip: from a request for a capture to its bytes, by way of the cache.

1. The options are held against what the providers can do, the target against the guard's syntax.
2. A cached capture that is young enough is the answer.
3. Otherwise the target's addresses are checked and the caller joins the flight for this picture:
   one of all callers takes the capture, the others get what comes of it.
4. The one pays for it (``Terms.admit``), takes a place in the bulkhead, and goes from provider to
   provider; every attempt checks the addresses again and judges the bytes.
5. What came is cached before anybody else hears of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from thumbnailer.arrival import Arrival, begin_capture, complete_capture
from thumbnailer.bulkhead import Bulkhead
from thumbnailer.cache import CaptureCache
from thumbnailer.errors import CaptureLost
from thumbnailer.flights import Flight, Flights
from thumbnailer.guard import Guard
from thumbnailer.imaging import PictureLimits
from thumbnailer.model import Capture, CaptureRequest, Deadline, capture_key
from thumbnailer.providers import Provider
from thumbnailer.providers.fallback import Failover
from thumbnailer.streaming import CaptureStream
from thumbnailer.telemetry import Timings

T = TypeVar("T")


class CacheStatus(StrEnum):
    """How an answer came about."""

    HIT = "hit"
    MISS = "miss"
    COLLAPSED = "collapsed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one caller gets.

    ``max_age_seconds`` is the oldest capture they accept; ``admit`` is called once before a capture
    is taken on their account, and raises ``CallerLimited`` where they may not; ``recapture`` asks for
    a capture newer than this request.
    """

    max_age_seconds: int
    deadline: Deadline
    admit: Callable[[], None]
    timings: Timings
    recapture: bool = False


@dataclass(frozen=True, slots=True)
class Delivery:
    """A whole capture and how it came about."""

    capture: Capture
    cache_status: CacheStatus


class Pipeline:
    """Makes the trip for every door; safe to use from many threads."""

    def __init__(
        self,
        *,
        guard: Guard,
        failover: Failover,
        cache: CaptureCache,
        flights: Flights,
        bulkhead: Bulkhead,
        limits: PictureLimits,
        retention_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._guard = guard
        self._failover = failover
        self._cache = cache
        self._flights = flights
        self._bulkhead = bulkhead
        self._limits = limits
        self._retention_seconds = retention_seconds
        self._clock = clock

    def fetch(self, request: CaptureRequest, terms: Terms) -> Delivery:
        """Bring the capture, whole and checked.

        Raises:
            ThumbnailerError: any of the tree but ``StorageError``.
        """
        found = self._find_or_lead(request, terms)
        if isinstance(found, Delivery):
            return found
        try:
            terms.admit()
            with self._bulkhead.place(terms.deadline), terms.timings.step("capture"):
                capture = self._attempt(request, terms, complete_capture)
            with terms.timings.step("store"):
                self._cache.store(capture_key(request), capture, retention_seconds=self._retention_for(terms))
        except BaseException as error:
            found.crash(error)
            raise
        found.land(capture)
        return Delivery(capture, CacheStatus.MISS)

    def stream(self, request: CaptureRequest, terms: Terms) -> Delivery | CaptureStream:
        """Bring the capture while it is still arriving, unless the cache has it.

        A ``CaptureStream`` must be iterated to its end or closed. Raises as ``fetch`` does.
        """
        found = self._find_or_lead(request, terms)
        if isinstance(found, Delivery):
            return found
        key = capture_key(request)
        with ExitStack() as held:
            held.push(_crash_on_error(found))
            terms.admit()
            held.enter_context(self._bulkhead.place(terms.deadline))
            with terms.timings.step("capture"):
                arrival = self._attempt(request, terms, lambda arrival: arrival)
            held.callback(arrival.close)
            return CaptureStream(
                arrival,
                self._cache.filling(key, retention_seconds=self._retention_for(terms)),
                held.pop_all(),
                on_landed=lambda: self._land_stream(key, found),
            )

    def _find_or_lead(self, request: CaptureRequest, terms: Terms) -> Delivery | Flight:
        self._failover.refuse_unsupported(request)
        target = self._guard.parse(request.url)
        key = capture_key(request)
        arrived_at = self._clock()

        def look_up() -> Capture | None:
            oldest = arrived_at if terms.recapture else self._clock() - terms.max_age_seconds
            capture = self._cache.load(key)
            return capture if capture and capture.record.captured_at >= oldest else None

        if not terms.recapture:
            with terms.timings.step("cache"):
                cached = look_up()
            if cached:
                return Delivery(cached, CacheStatus.HIT)
        self._guard.check(target, terms.deadline)
        with terms.timings.step("wait"):
            joined = self._flights.join(key, look_up, terms.deadline)
        return Delivery(joined, CacheStatus.COLLAPSED) if isinstance(joined, Capture) else joined

    def _attempt(self, request: CaptureRequest, terms: Terms, finish: Callable[[Arrival], T]) -> T:
        target = self._guard.parse(request.url)

        def attempt(provider: Provider) -> T:
            self._guard.check(target, terms.deadline)
            return finish(begin_capture(provider, request, terms.deadline, self._limits, self._clock))

        return self._failover.run(request, terms.deadline, attempt)

    def _land_stream(self, key: str, flight: Flight) -> None:
        capture = self._cache.load(key)
        if capture is None:
            flight.crash(CaptureLost("The cache could not keep the capture."))
        else:
            flight.land(capture)

    def _retention_for(self, terms: Terms) -> int:
        return max(self._retention_seconds, terms.max_age_seconds)


def _crash_on_error(
    flight: Flight,
) -> Callable[[type[BaseException] | None, BaseException | None, object], None]:
    def leave(_kind: object, error: BaseException | None, _trace: object) -> None:
        if error is not None:
            flight.crash(error)

    return leave
