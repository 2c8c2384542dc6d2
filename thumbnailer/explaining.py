"""Why a request yields the picture it does, and what would happen to it now.

Nothing is captured for it, and no name is looked up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from thumbnailer.circuits import BreakerState
from thumbnailer.errors import OptionUnsupported, ThumbnailerError, UpstreamError
from thumbnailer.model import Capture, CaptureRecord, CaptureRequest, capture_key
from thumbnailer.picture_cache import PictureCache
from thumbnailer.pipeline import STALE_WHILE_REVALIDATE_SECONDS
from thumbnailer.providers.fallback import Failover
from thumbnailer.purges import Mark, Purges
from thumbnailer.setbacks import Setback, Setbacks
from thumbnailer.sites import Kind, PictureKey, Site
from thumbnailer.thumbnails import ThumbnailRequest


class Action(StrEnum):
    """What would happen to a request."""

    HIT = "hit"
    RENDER = "render"
    STALE = "stale"
    CAPTURE = "capture"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What would happen now: ``reason`` in words, ``trouble`` where something stands in the way.

    ``provider`` would be called first for a new capture, be it behind the answer (``refreshes``).
    """

    action: Action
    reason: str
    provider: str | None = None
    refreshes: bool = False
    trouble: ThumbnailerError | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider, the option it lacks for this request, and how it does.

    ``refusal`` is what a capture would end with because the provider is left alone.
    """

    name: str
    lacks: str | None
    breaker: BreakerState
    is_ready: bool
    refusal: UpstreamError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All that is known of a request; the pictures are those in the cache that have not been purged."""

    site: Site
    capture_key: str
    rendition_key: str | None
    capture: CaptureRecord | None
    rendition: CaptureRecord | None
    setback: Setback | None
    marks: Sequence[Mark]
    candidates: Sequence[Candidate]
    outcome: Outcome


class Explainer:
    """Looks at everything that decides what a request gets, and changes none of it."""

    def __init__(
        self,
        *,
        failover: Failover,
        pictures: PictureCache,
        setbacks: Setbacks,
        purges: Purges,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._failover = failover
        self._pictures = pictures
        self._setbacks = setbacks
        self._purges = purges
        self._clock = clock

    def explain(
        self, request: ThumbnailRequest, *, max_age_seconds: int, wants_new: bool = False
    ) -> Explanation:
        """Say why ``request`` yields what it does, for a caller who takes pictures of ``max_age_seconds``.

        ``wants_new``: an older one will do only where a new one cannot be taken.
        """
        site = Site.of(request.capture.url)
        marks = self._purges.marks_of(site, since=time.monotonic())
        key = capture_key(request.capture)
        capture = _record(self._pictures.load(PictureKey(site, Kind.CAPTURE, key)))
        rendition = _record(self._pictures.load(request.picture)) if request.rendition else None
        setback = self._setbacks.read(request.capture)
        candidates = self._candidates(request.capture)
        judge = _Judge(self._clock(), max_age_seconds, wants_new, setback, candidates)
        return Explanation(
            site=site,
            capture_key=key,
            rendition_key=request.key if request.rendition else None,
            capture=capture,
            rendition=rendition,
            setback=setback,
            marks=marks,
            candidates=candidates,
            outcome=judge.of(capture, rendition, is_rendered=request.rendition is not None),
        )

    def _candidates(self, request: CaptureRequest) -> list[Candidate]:
        lacks = {each.name: each.unsupported_option(request) for each in self._failover.providers}
        return [
            Candidate(
                health.name,
                lacks[health.name],
                health.breaker,
                health.is_ready,
                self._failover.breakers.refusal(health.name),
            )
            for health in self._failover.health()
        ]


@dataclass(frozen=True, slots=True)
class _Judge:
    """Decides as ``Thumbnails`` and ``Pipeline`` would; tests hold it to what these then do."""

    now: float
    max_age_seconds: int
    wants_new: bool
    setback: Setback | None
    candidates: Sequence[Candidate]

    def of(
        self, capture: CaptureRecord | None, rendition: CaptureRecord | None, *, is_rendered: bool
    ) -> Outcome:
        if all(each.lacks for each in self.candidates):
            first = self.candidates[0]
            error = OptionUnsupported(first.lacks or "", first.name)
            return Outcome(Action.REFUSE, str(error), trouble=error)
        if rendition is not None and self._overdue_seconds(rendition) <= 0:
            return Outcome(Action.HIT, "The thumbnail is in the cache and young enough.")
        found = capture or rendition
        outcome = self._of_capture(found)
        if is_rendered and outcome.action is Action.HIT and capture and not _are_alike(capture, rendition):
            return Outcome(Action.RENDER, "The capture is in the cache; the thumbnail is made of it.")
        return outcome

    def _of_capture(self, found: CaptureRecord | None) -> Outcome:
        if found is None:
            return self._of_new()
        overdue_seconds = self._overdue_seconds(found)
        if overdue_seconds <= 0:
            return Outcome(Action.HIT, "The picture is in the cache and young enough.")
        if overdue_seconds <= STALE_WHILE_REVALIDATE_SECONDS and not self.wants_new:
            trouble = self.setback.error if self.setback else None
            if self._pause_is_over():
                reason = "The picture is a little too old: it is served, and replaced behind the answer."
                return Outcome(Action.STALE, reason, self._first(), refreshes=True, trouble=trouble)
            reason = "The picture is too old, but its target failed: it is served until that is tried again."
            return Outcome(Action.STALE, reason, trouble=trouble)
        new = self._of_new()
        if new.trouble is None:
            return new
        return Outcome(
            Action.STALE, "A new picture cannot be taken: the old one is served.", trouble=new.trouble
        )

    def _of_new(self) -> Outcome:
        if self.setback and not self._pause_is_over():
            return Outcome(Action.REFUSE, "The target failed and is left alone.", trouble=self.setback.error)
        first = self._first()
        if first is None:
            refusals = [each.refusal for each in self.candidates if each.lacks is None]
            return Outcome(
                Action.REFUSE, "Every provider that could take it is left alone.", trouble=refusals[0]
            )
        return Outcome(
            Action.CAPTURE, "A new picture is taken, where the target's addresses are public.", first
        )

    def _first(self) -> str | None:
        """Who is called first; None where all who could are left alone."""
        hopeful = [each for each in self.candidates if each.lacks is None and each.refusal is None]
        return next((each.name for each in hopeful if each.is_ready), hopeful[0].name if hopeful else None)

    def _pause_is_over(self) -> bool:
        return self.setback is None or self.setback.retry_at <= self.now

    def _overdue_seconds(self, record: CaptureRecord) -> float:
        return record.overdue_seconds(self.now, self.max_age_seconds)


def _record(picture: Capture | None) -> CaptureRecord | None:
    return picture.record if picture else None


def _are_alike(capture: CaptureRecord, rendition: CaptureRecord | None) -> bool:
    """Whether a thumbnail is of this very capture."""
    return rendition is not None and rendition.captured_at == capture.captured_at
