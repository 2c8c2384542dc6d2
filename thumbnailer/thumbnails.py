"""Thumbnails: one capture, any number of renditions of it, each cached under a key of its own.

1. A cached rendition that is young enough is the answer; the capture is not looked at.
2. Otherwise the pipeline brings the capture, by whatever way; an old rendition does for it where
   it is gone from the cache, or would be the answer to an error.
3. A cached rendition of that very capture is as good as new; else one of all callers renders it.
   An older one is better than none where too many are being rendered.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from thumbnailer.bounded_calls import BoundedCalls
from thumbnailer.errands import Errands
from thumbnailer.errors import Overloaded, ThumbnailerError
from thumbnailer.flights import Flight, Flights, Landing
from thumbnailer.model import Capture, CaptureRequest, Deadline, capture_key
from thumbnailer.picture_cache import Boarding, PictureCache
from thumbnailer.pipeline import Pipeline
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import Rendition, rendition_key
from thumbnailer.sites import Kind, PictureKey, Site
from thumbnailer.telemetry import Timings
from thumbnailer.terms import CacheStatus, Delivery, Terms, waits_elsewhere


@dataclass(frozen=True, slots=True)
class ThumbnailRequest:
    """A capture, and what is to be made of it; without a rendition, the capture as it is."""

    capture: CaptureRequest
    rendition: Rendition | None = None

    @property
    def key(self) -> str:
        """What tells this picture from every other of the same moment."""
        key = capture_key(self.capture)
        return rendition_key(key, self.rendition) if self.rendition else key

    @property
    def picture(self) -> PictureKey:
        """Where the cache keeps it."""
        kind = Kind.RENDITION if self.rendition else Kind.CAPTURE
        return PictureKey(Site.of(self.capture.url), kind, self.key)


class Thumbnails:
    """Brings pictures in the size asked for; safe to use from many threads.

    A rendition is as old as its capture: it has the same ``captured_at``.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        renderer: Renderer,
        pictures: PictureCache,
        flights: Flights,
        calls: BoundedCalls,
        errands: Errands,
        retention_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pipeline = pipeline
        self._renderer = renderer
        self._pictures = pictures
        self._flights = flights
        self._calls = calls
        self._errands = errands
        self._retention_seconds = retention_seconds
        self._clock = clock

    def fetch(self, request: ThumbnailRequest, terms: Terms) -> Delivery:
        """Bring the picture, whole and checked.

        Raises:
            ThumbnailerError: any of the tree but ``StorageError``.
        """
        if request.rendition is None:
            return self.pipeline.fetch(request.capture, terms)
        key, cached = request.picture, self._load(request, terms)
        if cached and self._is_good_enough(cached, terms):
            return Delivery(cached, CacheStatus.HIT)
        delivery = self.pipeline.fetch(request.capture, terms, stand_in=cached)
        if cached and delivery.trouble:
            self._pictures.prolong(key, retention_seconds=self._retention_seconds)
        if cached and cached.record.captured_at == delivery.capture.record.captured_at:
            return replace(delivery, capture=cached)
        try:
            return self._render(key, request.rendition, delivery, terms)
        except Overloaded as error:
            old = self._old(key.site, cached, error)
            if old is None:
                raise
            return old

    def fetch_within(self, request: ThumbnailRequest, terms: Terms, seconds: float) -> Delivery | None:
        """As ``fetch``, but for hardly longer than ``seconds``; the picture is made all the same.

        After that an old picture does, however old; None where there is none. ``terms.admit`` is called in
        another thread, within the context of this one.

        Raises:
            ThumbnailerError: any of the tree but ``StorageError``.
        """
        key, cached = request.picture, self._load(request, terms)
        if cached and self._is_good_enough(cached, terms):
            return Delivery(cached, CacheStatus.HIT)
        try:
            if seconds:
                terms.line_up()
            with terms.timings.step("wait"):
                delivery = self._await(request, terms, seconds)
        except Overloaded as error:
            old = self._old(key.site, cached, error)
            if old is None:
                raise
            return old
        return delivery or self._old(key.site, cached)

    def _await(self, request: ThumbnailRequest, terms: Terms, seconds: float) -> Delivery | None:
        """What comes of the errand for this picture in time, be it somebody else's on the same terms."""

        def run(begin: Callable[[], None]) -> Delivery:
            def admit() -> None:
                terms.admit()
                begin()

            behind = replace(terms, admit=admit, line_up=waits_elsewhere, timings=Timings())
            return self.fetch(request, behind)

        age = f"{terms.max_age_seconds} {terms.stale_use.name} {terms.recapture}"
        key, until = f"{self._pictures.board(request.picture).flight_key} {age}", Deadline.after(seconds)
        while True:
            errand, is_own = self._errands.join(key, run)
            try:
                delivery = errand.wait(until.remaining_seconds())
            except ThumbnailerError as error:
                if is_own or error.shared:
                    raise
                continue  # that concerned the other caller alone
            if delivery and delivery.cache_status is CacheStatus.MISS and not is_own:
                return replace(delivery, cache_status=CacheStatus.COLLAPSED)
            return delivery

    def look_up(self, request: ThumbnailRequest) -> Capture | None:
        """The picture as the cache has it, however old; None where there is none."""
        return self._pictures.load(request.picture)

    def _load(self, request: ThumbnailRequest, terms: Terms) -> Capture | None:
        """What the cache has, however old, for a request that is in order."""
        self.pipeline.judge(request.capture)
        with terms.timings.step("cache"):
            return self._pictures.load(request.picture)

    def _is_good_enough(self, cached: Capture, terms: Terms) -> bool:
        is_fresh = cached.record.overdue_seconds(self._clock(), terms.max_age_seconds) <= 0
        return is_fresh and not terms.recapture

    def _old(
        self, site: Site, cached: Capture | None, error: ThumbnailerError | None = None
    ) -> Delivery | None:
        """The old picture as the answer; None where there is none, or its page has been purged."""
        if cached is None or self._pictures.is_purged(site, cached.record):
            return None
        return Delivery(cached, CacheStatus.STALE, error)

    def _render(self, key: PictureKey, rendition: Rendition, delivery: Delivery, terms: Terms) -> Delivery:
        """The rendition of what came, made once however many ask."""
        terms.line_up()
        boarding = self._pictures.board(key)
        joined = self._join(boarding, delivery.capture.record.captured_at, terms.deadline)
        if isinstance(joined, Landing):
            was_purged = delivery.was_purged or self._pictures.is_purged(key.site, joined.capture.record)
            is_kept = joined.is_kept and not was_purged
            return replace(delivery, capture=joined.capture, is_kept=is_kept, was_purged=was_purged)
        try:
            with terms.timings.step("render"):
                thumbnail, is_kept = self._calls.run(
                    lambda: self._make(boarding, rendition, delivery, terms.max_age_seconds),
                    terms.deadline.remaining_seconds(),
                )
        except TimeoutError:
            error = Overloaded("The picture could not be rendered in time.", retry_after_seconds=1)
            joined.crash(error)
            raise error from None
        except BaseException as error:
            joined.crash(error)
            raise
        joined.land(thumbnail, is_kept=is_kept)
        was_purged = not is_kept and not self._pictures.is_wanted(boarding, thumbnail.record)
        return replace(
            delivery, capture=thumbnail, is_kept=is_kept, was_purged=delivery.was_purged or was_purged
        )

    def _join(self, boarding: Boarding, captured_at: float, deadline: Deadline) -> Landing | Flight:
        """A rendition that another makes of this capture or of a newer one, or the flight to make it.

        Who waited for one of an older capture, which was under way, tries again.
        """

        def is_new(capture: Capture) -> bool:
            record = capture.record
            is_newer = record.captured_at > captured_at and not record.is_ahead_of(self._clock())
            return is_newer or record.captured_at == captured_at

        def look_up() -> Capture | None:
            found = self._pictures.load(boarding.key)
            return found if found and is_new(found) else None

        while True:
            joined = self._flights.join(boarding.flight_key, look_up, deadline)
            if isinstance(joined, Flight) or is_new(joined.capture):
                return joined

    def _make(
        self, boarding: Boarding, rendition: Rendition, delivery: Delivery, max_age_seconds: int
    ) -> tuple[Capture, bool]:
        """Render, and cache what came; even where nobody waits for it any more, for the next who asks.

        The flag says whether the cache has it.
        """
        capture = delivery.capture
        rendered = self._renderer.render(capture.body(), rendition)
        record = replace(
            capture.record,
            content_type=rendered.content_type,
            size_bytes=len(rendered.body),
            sha256=sha256(rendered.body).hexdigest(),
            width=rendered.width,
            height=rendered.height,
        )
        thumbnail = Capture.of_bytes(record, rendered.body)
        if delivery.was_purged:
            return thumbnail, False
        retention_seconds = max(self._retention_seconds, max_age_seconds)
        return thumbnail, self._pictures.store(boarding, thumbnail, retention_seconds=retention_seconds)
