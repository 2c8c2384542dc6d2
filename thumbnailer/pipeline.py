"""The trip: from a request for a capture to its bytes, by way of the cache.

1. The options are held against what the providers can do, the target against the guard's syntax.
2. A cached capture that is young enough is the answer. One that is a little too old is the answer
   as well, and a new one is taken behind it.
3. Otherwise, unless the target has just failed, the caller joins the line of those who wait
   (``Terms.line_up``), its addresses are checked and it joins the flight for this picture: one of all
   callers takes the capture, the others get what comes of it.
4. The one pays for it (``Terms.admit``), takes a place in the bulkhead, and goes from provider to
   provider; every attempt checks the addresses again and judges the bytes.
5. What came is cached before anybody else hears of it. What failed is remembered for a while; an
   old capture, however old, is better than an error and becomes the answer.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TypeVar

from thumbnailer.arrival import Arrival, begin_capture, complete_capture
from thumbnailer.blanks import Blanks
from thumbnailer.bulkhead import Bulkhead
from thumbnailer.errors import CallerLimited, RequestRefused, ThumbnailerError, UpstreamTimeout
from thumbnailer.flights import Flight, Flights, Landing
from thumbnailer.guard import Guard
from thumbnailer.imaging import PictureLimits
from thumbnailer.model import Capture, CaptureRequest, Deadline, capture_key
from thumbnailer.picture_cache import Boarding, PictureCache
from thumbnailer.providers import Provider
from thumbnailer.providers.fallback import Failover
from thumbnailer.refreshing import Refresher
from thumbnailer.setbacks import Setbacks
from thumbnailer.sites import Kind, PictureKey, Site
from thumbnailer.streaming import CaptureStream
from thumbnailer.telemetry import Timings
from thumbnailer.terms import CacheStatus, Delivery, StaleUse, Terms, waits_elsewhere

T = TypeVar("T")

ExitCallback = Callable[[type[BaseException] | None, BaseException | None, object], None]

#: How long after its time a capture is still served while a new one is taken, in seconds: a week.
STALE_WHILE_REVALIDATE_SECONDS = 604_800


class Pipeline:
    """Makes the trip for every door; safe to use from many threads."""

    def __init__(  # noqa: PLR0913  finished parts, by keyword
        self,
        *,
        guard: Guard,
        failover: Failover,
        pictures: PictureCache,
        flights: Flights,
        setbacks: Setbacks,
        refresher: Refresher,
        bulkhead: Bulkhead,
        limits: PictureLimits,
        blanks: Blanks,
        retention_seconds: int,
        refresh_seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._guard = guard
        self._failover = failover
        self._pictures = pictures
        self._flights = flights
        self._setbacks = setbacks
        self._refresher = refresher
        self._bulkhead = bulkhead
        self._limits = limits
        self._blanks = blanks
        self._retention_seconds = retention_seconds
        self._refresh_seconds = refresh_seconds
        self._clock = clock

    def fetch(self, request: CaptureRequest, terms: Terms, *, stand_in: Capture | None = None) -> Delivery:
        """Bring the capture, whole and checked; a stale one before an error.

        ``stand_in`` is what was made of a capture before, to be served where that is not there any more.

        Raises:
            ThumbnailerError: any of the tree but ``StorageError``.
        """
        cached = self._load(request, terms) or stand_in
        served = self._serve(request, terms, cached)
        if served is not None:
            return served
        try:
            return self._fetch_new(request, terms)
        except ThumbnailerError as error:
            return self._stale_instead(request, cached, error)

    def stream(self, request: CaptureRequest, terms: Terms) -> Delivery | CaptureStream:
        """Bring the capture while it is still arriving, unless the cache has it.

        A ``CaptureStream`` must be closed in the end. Raises as ``fetch`` does.
        """
        cached = self._load(request, terms)
        served = self._serve(request, terms, cached)
        if served is not None:
            return served
        try:
            return self._stream_new(request, terms)
        except ThumbnailerError as error:
            return self._stale_instead(request, cached, error)

    def judge(self, request: CaptureRequest) -> None:
        """Refuse a request that no provider can honour, or whose target shows that it is forbidden.

        Raises:
            OptionUnsupported, InvalidTarget, TargetForbidden: it is refused.
        """
        self._failover.refuse_unsupported(request)
        self._guard.parse(request.url)

    def _load(self, request: CaptureRequest, terms: Terms) -> Capture | None:
        """What the cache has, however old, for a request that is in order."""
        self.judge(request)
        with terms.timings.step("cache"):
            return self._pictures.load(_picture_key(request))

    def _serve(self, request: CaptureRequest, terms: Terms, cached: Capture | None) -> Delivery | None:
        """The cached capture, where that is good enough for the caller."""
        if cached is None or terms.recapture:
            return None
        overdue_seconds = cached.record.overdue_seconds(self._clock(), terms.max_age_seconds)
        if overdue_seconds <= 0:
            return Delivery(cached, CacheStatus.HIT)
        is_tolerable = overdue_seconds <= STALE_WHILE_REVALIDATE_SECONDS
        if is_tolerable and terms.stale_use is StaleUse.AT_ONCE:
            setback = self._setbacks.read(request)
            if setback is None or setback.retry_at <= self._clock():
                self._refresh(request, terms)
            return Delivery(cached, CacheStatus.STALE, setback.error if setback else None)
        return None

    def _refresh(self, request: CaptureRequest, terms: Terms) -> None:
        """Take a new capture behind the answer, on this caller's account; not where that is used up."""

        def refresh() -> None:
            deadline = Deadline.after(self._refresh_seconds)
            behind = replace(
                terms, deadline=deadline, admit=_is_admitted, line_up=waits_elsewhere, timings=Timings()
            )
            self._fetch_new(request, behind)

        def admit() -> bool:
            if self._look_up(request, terms)() is not None:
                return False  # another refresh has ended since the old capture was loaded
            terms.admit()
            return True

        with contextlib.suppress(CallerLimited):
            self._refresher.submit(capture_key(request), refresh, admit)

    def _look_up(self, request: CaptureRequest, terms: Terms) -> Callable[[], Capture | None]:
        """Asks the cache for a capture that was young enough when this was called."""
        key = _picture_key(request)
        oldest = self._clock() - (0 if terms.recapture else terms.max_age_seconds)

        def look_up() -> Capture | None:
            capture = self._pictures.load(key)
            if capture is None or capture.record.is_ahead_of(self._clock()):
                return None
            return capture if capture.record.captured_at >= oldest else None

        return look_up

    def _fetch_new(self, request: CaptureRequest, terms: Terms) -> Delivery:
        boarding, joined = self._join(request, terms)
        if isinstance(joined, Landing):
            return self._collapsed(boarding, joined)
        with ExitStack() as held:
            self._begin(held, request, terms, joined)
            with terms.timings.step("capture"):
                capture = self._attempt(request, terms, partial(self._complete, request))
            terms.timings.describe("capture", capture.record.provider)
            with terms.timings.step("store"):
                taken_at, seconds = time.monotonic(), self._retention_for(terms)
                self._setbacks.forget(request)
                is_kept = self._pictures.store(boarding, capture, retention_seconds=seconds, since=taken_at)
        joined.land(capture, is_kept=is_kept)
        was_purged = not is_kept and not self._pictures.is_wanted(boarding, capture.record)
        return Delivery(capture, CacheStatus.MISS, is_kept=is_kept, was_purged=was_purged)

    def _stream_new(self, request: CaptureRequest, terms: Terms) -> Delivery | CaptureStream:
        boarding, joined = self._join(request, terms)
        if isinstance(joined, Landing):
            return self._collapsed(boarding, joined)
        with ExitStack() as held:
            self._begin(held, request, terms, joined)
            with terms.timings.step("capture"):
                arrival = self._attempt(request, terms, lambda arrival: arrival)
            held.callback(arrival.close)
            terms.timings.describe("capture", arrival.provider)
            arrival.extend(terms.deadline)  # no other provider is tried any more
            filling = self._pictures.filling(boarding, retention_seconds=self._retention_for(terms))
            stream = CaptureStream(
                arrival,
                filling,
                judge=partial(self._blanks.refuse, request),
                on_landed=lambda: self._land_stream(request, joined),
            )
            stream.start(held)
            return stream

    def _collapsed(self, boarding: Boarding, landing: Landing) -> Delivery:
        """Somebody else's capture; they have asked the backend for purges when they stored it."""
        was_purged = self._pictures.is_purged(boarding.key.site, landing.capture.record)
        return Delivery(
            landing.capture,
            CacheStatus.COLLAPSED,
            is_kept=landing.is_kept and not was_purged,
            was_purged=was_purged,
        )

    def _join(self, request: CaptureRequest, terms: Terms) -> tuple[Boarding, Landing | Flight]:
        """The capture that another takes, or the flight to take it; not while its target's pause lasts.

        A caller whose time is up already does not try: the failure would be blamed on the page.
        """
        begun_at = time.monotonic()
        self._setbacks.refuse(request)
        if terms.deadline.has_passed():
            raise UpstreamTimeout("The request waited until no time was left to take the capture.")
        terms.line_up()
        look_up = self._look_up(request, terms)
        self._check_addresses(request, terms)
        with terms.timings.step("wait"):
            boarding = self._pictures.board(_picture_key(request), since=begun_at)
            return boarding, self._flights.join(
                boarding.flight_key, look_up, terms.deadline, is_followed=terms.has_company
            )

    def _begin(self, held: ExitStack, request: CaptureRequest, terms: Terms, flight: Flight) -> None:
        """Pay for the capture and take a place; an error with which ``held`` ends is told to all who wait."""
        held.push(self._crash_on_error(request, flight))
        terms.admit()
        held.enter_context(self._bulkhead.place(terms.deadline))

    def _check_addresses(self, request: CaptureRequest, terms: Terms) -> None:
        self._guard.check(self._guard.parse(request.url), terms.deadline)

    def _attempt(self, request: CaptureRequest, terms: Terms, finish: Callable[[Arrival], T]) -> T:
        def attempt(provider: Provider, share: Deadline) -> T:
            self._check_addresses(request, terms)
            return finish(begin_capture(provider, request, share, self._limits, self._clock))

        return self._failover.run(request, terms.deadline, attempt)

    def _complete(self, request: CaptureRequest, arrival: Arrival) -> Capture:
        capture = complete_capture(arrival)
        self._blanks.refuse(request, capture.record, capture.body)
        return capture

    def _land_stream(self, request: CaptureRequest, flight: Flight) -> None:
        self._setbacks.forget(request)
        capture = self._pictures.load(_picture_key(request))
        if capture is None:
            flight.abandon()  # the cache could not keep it: those who wait have to see for themselves
        else:
            flight.land(capture)

    def _crash_on_error(self, request: CaptureRequest, flight: Flight) -> ExitCallback:
        begun_at = self._clock()

        def leave(_kind: object, error: BaseException | None, _trace: object) -> None:
            if error is None:
                return
            try:
                if isinstance(error, ThumbnailerError):
                    is_outage = self._failover.is_outage(error)
                    self._setbacks.note(request, error, begun_at=begun_at, is_outage=is_outage)
                    self._keep_last_good(request, error)
            finally:
                flight.crash(error)

        return leave

    def _keep_last_good(self, request: CaptureRequest, error: ThumbnailerError) -> None:
        """Let the picture that could not be replaced live on, at least until that is tried again."""
        seconds = max(self._retention_seconds, math.ceil(2 * (error.retry_after_seconds or 0)))
        self._pictures.prolong(_picture_key(request), retention_seconds=seconds)

    def _retention_for(self, terms: Terms) -> int:
        return max(self._retention_seconds, terms.max_age_seconds)

    def _stale_instead(
        self, request: CaptureRequest, cached: Capture | None, error: ThumbnailerError
    ) -> Delivery:
        """The old capture, however old, unless the request itself is at fault."""
        if cached is None or isinstance(error, RequestRefused):
            raise error
        if self._pictures.is_purged(Site.of(request.url), cached.record):
            raise error
        return Delivery(cached, CacheStatus.STALE, error)


def _picture_key(request: CaptureRequest) -> PictureKey:
    return PictureKey(Site.of(request.url), Kind.CAPTURE, capture_key(request))


def _is_admitted() -> None:
    """The caller has paid already."""
