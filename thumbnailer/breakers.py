"""Circuit breakers: a provider that is down is left alone for a while, then tried by one caller.

=======================================================  ==========================================
an attempt ends with                                     and the breaker
=======================================================  ==========================================
a picture whose first bytes are good                     closes, and forgets the failures
UpstreamFailed, UpstreamAuth, UpstreamQuota, NotAnImage  counts a failure
UpstreamTimeout after the time a provider can expect     counts a failure
UpstreamTimeout after less, because the caller was late  learns nothing
TargetTooSlow: the page hung, and the provider says so   learns nothing
UpstreamBusy: it lives, and names its own pause          learns nothing
PageCrashed, BlankPicture, PageChallenged,
ImageTooLarge, what the target or the request is at fault for, and errors that
are none of the tree                                     learns nothing
=======================================================  ==========================================

So nobody can switch a provider off for others by asking for pages that hang, fail or are too large.
What an attempt teaches nothing about gives the probe back: the next caller is the probe instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from thumbnailer.circuits import BreakerState, Circuit, Circuits
from thumbnailer.errors import (
    BlankPicture,
    NotAnImage,
    PageCrashed,
    TargetTooSlow,
    UpstreamAuth,
    UpstreamError,
    UpstreamFailed,
    UpstreamQuota,
    UpstreamTimeout,
)
from thumbnailer.model import CLOCK_MARGIN_SECONDS, Deadline

#: A probe is believed lost so many seconds after its deadline; then there is another one.
PROBE_MARGIN_SECONDS = 2.0

#: A probe that would take longer than any may, in seconds, was begun before the clock was set back.
LONGEST_PROBE_SECONDS = 3600.0

#: Kinds that an open breaker goes on to tell. The others would be blamed on the capture that meets it.
LASTING_FAULTS: dict[str, type[UpstreamError]] = {
    kind.__name__: kind for kind in (UpstreamAuth, UpstreamQuota)
}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to call a provider once; ``seconds`` is how long the call may take."""

    provider: str
    seconds: float
    is_probe: bool


class Breakers:
    """One breaker for each provider; safe to use from many threads.

    After ``threshold`` failures in a row a breaker is open for ``pause_seconds``. A provider that was
    given less than ``fair_seconds`` is not blamed for its silence. ``clock`` is Unix time.
    """

    def __init__(
        self,
        circuits: Circuits,
        *,
        threshold: int = 5,
        pause_seconds: float = 30.0,
        fair_seconds: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._circuits = circuits
        self._threshold = threshold
        self._pause_seconds = pause_seconds
        self._fair_seconds = fair_seconds
        self._clock = clock

    def state(self, provider: str) -> BreakerState:
        return self._read(provider).state(self._clock())

    def answered_at(self, provider: str) -> float | None:
        """When the provider last delivered, in Unix time; None where that is not known."""
        return self._circuits.read(provider).answered_at

    def admit(self, provider: str, deadline: Deadline) -> Admission:
        """Leave to call the provider once, before ``deadline``; ``settle`` has to follow.

        Raises:
            UpstreamAuth, UpstreamQuota, UpstreamFailed: the breaker is open, or another caller is
                the probe; with the seconds until the next probe.
        """
        circuit, seconds = self._read(provider), deadline.remaining_seconds()
        if circuit.state(self._clock()) is BreakerState.CLOSED:
            return Admission(provider, seconds, is_probe=False)
        before, after = self._circuits.change(provider, lambda found: self._claim_probe(found, seconds))
        if after.state(self._clock()) is BreakerState.CLOSED:
            return Admission(provider, seconds, is_probe=False)
        if before == after:
            raise self._refusal(provider, after)
        self._tell(provider, BreakerState.OPEN, BreakerState.HALF_OPEN, after)
        return Admission(provider, seconds, is_probe=True)

    def refusal(self, provider: str) -> UpstreamError | None:
        """What ``admit`` would raise now; None where it would admit. Changes nothing."""
        circuit = self._read(provider)
        return self._refusal(provider, circuit) if circuit.state(self._clock()) is BreakerState.OPEN else None

    def settle(self, admission: Admission, error: BaseException | None) -> None:
        """Say how the call ended; ``error`` is None where it delivered."""
        now = self._clock()
        if error is None:
            step = _delivered(now)
        elif self._counts(error, admission):
            step = self._failed(now, type(error).__name__)
        else:
            self.withdraw(admission)
            return
        self._change(admission.provider, step)

    def withdraw(self, admission: Admission) -> None:
        """Say that how the call ended tells nothing of the provider."""
        if admission.is_probe:
            self._change(admission.provider, _undecided)

    def _change(self, provider: str, step: Callable[[Circuit], Circuit]) -> None:
        now, seen = self._clock(), self._circuits.read(provider)
        if step(seen) == seen:
            return
        before, after = self._circuits.change(provider, step)
        self._tell(provider, before.state(now), after.state(now), after)

    def _read(self, provider: str) -> Circuit:
        return self._as_of_now(self._circuits.read(provider))

    def _as_of_now(self, circuit: Circuit) -> Circuit:
        """A circuit as it was written, unless the clock has been set back since: then its pause is over."""
        now = self._clock()
        if circuit.open_until > now + self._pause_seconds + CLOCK_MARGIN_SECONDS:
            return replace(circuit, open_until=now, probe_until=0.0)
        is_probe_lost = circuit.probe_until > now + LONGEST_PROBE_SECONDS
        return replace(circuit, probe_until=0.0) if is_probe_lost else circuit

    def _claim_probe(self, found: Circuit, seconds: float) -> Circuit:
        now, circuit = self._clock(), self._as_of_now(found)
        is_claimable = circuit.state(now) is BreakerState.HALF_OPEN and circuit.probe_until <= now
        return replace(circuit, probe_until=now + seconds + PROBE_MARGIN_SECONDS) if is_claimable else found

    def _counts(self, error: BaseException, admission: Admission) -> bool:
        if isinstance(error, UpstreamTimeout):
            return not isinstance(error, TargetTooSlow) and admission.seconds >= self._fair_seconds
        if isinstance(error, BlankPicture | PageCrashed):
            return False
        return isinstance(error, UpstreamFailed | UpstreamAuth | UpstreamQuota | NotAnImage)

    def _failed(self, now: float, fault: str) -> Callable[[Circuit], Circuit]:
        def step(found: Circuit) -> Circuit:
            circuit = self._as_of_now(found)
            if circuit.state(now) is BreakerState.OPEN:  # begun before it opened: that is no news
                return found
            failures = circuit.failures + 1
            is_over = circuit.state(now) is BreakerState.HALF_OPEN or failures >= self._threshold
            open_until = now + self._pause_seconds if is_over else 0.0
            return replace(circuit, failures=failures, fault=fault, open_until=open_until, probe_until=0.0)

        return step

    def _refusal(self, provider: str, circuit: Circuit) -> UpstreamError:
        now = self._clock()
        kind = LASTING_FAULTS.get(circuit.fault or "", UpstreamFailed)
        return kind(
            f"The provider {provider} failed several times in a row and is left alone for a while.",
            provider=provider,
            retry_after_seconds=max(1.0, max(circuit.open_until, circuit.probe_until) - now),
        )

    def _tell(self, provider: str, before: BreakerState, after: BreakerState, circuit: Circuit) -> None:
        if before is after:
            return
        write = log.info if after is BreakerState.CLOSED else log.warning
        write(
            "breaker_changed",
            provider=provider,
            before=before.value,
            after=after.value,
            failures=circuit.failures,
            fault=circuit.fault,
        )


def _delivered(now: float) -> Callable[[Circuit], Circuit]:
    def step(circuit: Circuit) -> Circuit:
        known = circuit.answered_at
        is_recent = known is not None and 0 <= now - known < 1  # spares Redis a write for each picture
        return Circuit(answered_at=known if is_recent else now)

    return step


def _undecided(circuit: Circuit) -> Circuit:
    return replace(circuit, probe_until=0.0)
