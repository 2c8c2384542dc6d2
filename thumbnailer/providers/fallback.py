"""Trying again, and trying elsewhere.

=================  ==============================================================
an attempt raises  the same provider is tried again
=================  ==============================================================
UpstreamFailed     after the pause it asks for, else after a growing, random one
UpstreamBusy       likewise
NotAnImage         once, at once
PageChallenged     once, at once
any other          never
=================  ==============================================================

No provider gets more than ``attempts`` attempts, and none is begun for which a pause would leave less than
``SHORTEST_ATTEMPT_SECONDS`` of the provider's time: it could only end as a time-out, which would hide what
went wrong before. After that the next provider that can honour the request is tried, whatever
``UpstreamError`` the last one ended with; one whose breaker is open is passed over at once. What is the
request's or the target's fault is the answer: no provider would do better.

A provider that hangs must leave time for the next. Of what remains until the deadline,
``reserve_seconds`` are kept back for each provider that may still deliver, but never more than an equal
share: with 30 s, two providers and 10 s in reserve, the first has 20 s; with 6 s it has 3. Time that a
provider did not need goes to the next.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import structlog

from thumbnailer.breakers import Breakers
from thumbnailer.circuits import BreakerState, LocalCircuits
from thumbnailer.errors import (
    NotAnImage,
    OptionUnsupported,
    PageChallenged,
    ThumbnailerError,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamError,
    UpstreamFailed,
    UpstreamQuota,
)
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers import Provider

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 8.0
SHORTEST_ATTEMPT_SECONDS = 0.5
DEFAULT_RESERVE_SECONDS = 10.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ProviderHealth:
    """How a provider does: ``answered_at`` is when it last delivered, Unix time, None where not known.

    The one that ``is_in_charge`` is called first by a request that each of them can honour.
    """

    name: str
    breaker: BreakerState
    is_ready: bool
    is_in_charge: bool
    answered_at: float | None


#: How an attempt ended that brought a picture; the others are called by their errors.
DELIVERED = "delivered"


class Failover:
    """Goes from provider to provider, in their order, until one delivers.

    ``sleep`` takes seconds, ``clock`` gives them, ``jitter`` draws a number between its arguments.
    ``observe`` hears of each attempt: the provider, how it ended, and after how many seconds.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        attempts: int = 3,
        *,
        breakers: Breakers | None = None,
        reserve_seconds: float = DEFAULT_RESERVE_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
        observe: Callable[[str, str, float], None] = lambda _provider, _outcome, _seconds: None,
    ) -> None:
        if not providers or attempts < 1:
            raise ValueError("at least one provider and one attempt are needed")
        self.providers = tuple(providers)
        self.breakers = breakers or Breakers(LocalCircuits())
        self._reserve_seconds = reserve_seconds
        self._attempts = attempts
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter
        self._observe = observe
        self._closed = threading.Event()

    def close(self) -> None:
        """Release what the providers hold, and begin no attempt any more.

        One would start a browser anew, which ends with the process, and the page would be blamed for it.
        """
        self._closed.set()
        for provider in self.providers:
            provider.close()

    def refuse_unsupported(self, request: CaptureRequest) -> None:
        """Raise ``OptionUnsupported`` unless a provider can honour everything that was asked for."""
        self._capable(request)

    def health(self) -> list[ProviderHealth]:
        """How the providers do, in their order; calls none of them."""
        found: list[ProviderHealth] = []
        for provider in self.providers:
            state, is_ready = self.breakers.state(provider.name), provider.is_ready()
            can_start = is_ready and state is not BreakerState.OPEN
            is_first = can_start and not any(each.is_in_charge for each in found)
            answered_at = self.breakers.answered_at(provider.name)
            found.append(ProviderHealth(provider.name, state, is_ready, is_first, answered_at))
        return found

    def is_outage(self, error: ThumbnailerError) -> bool:
        """Whether the provider that failed so fails whatever is asked of it: its breaker has opened."""
        name = error.provider if isinstance(error, UpstreamError) else None
        return name is not None and self.breakers.state(name) is not BreakerState.CLOSED

    def run(
        self, request: CaptureRequest, deadline: Deadline, attempt: Callable[[Provider, Deadline], T]
    ) -> T:
        """Call ``attempt`` with a provider, and the deadline of its share, until it returns.

        Raises:
            OptionUnsupported: no provider can honour the request.
            UpstreamError: every provider failed; the error that tells a caller most.
            ThumbnailerError: what else ``attempt`` raises, at once.
        """
        failures: list[UpstreamError] = []
        capable = self._capable(request)
        for position, provider in enumerate(capable, start=1):
            if failures and deadline.has_passed():
                break
            try:
                return self._insist(provider, self._share(deadline, capable[position:]), attempt)
            except UpstreamError as error:
                error.provider = error.provider or provider.name
                failures.append(error)
        raise _most_telling(failures)

    def _capable(self, request: CaptureRequest) -> list[Provider]:
        refusals = [(provider, provider.unsupported_option(request)) for provider in self.providers]
        capable = [provider for provider, option in refusals if option is None]
        if not capable:
            provider, option = refusals[0]
            raise OptionUnsupported(option or "", provider.name)
        return capable

    def _share(self, deadline: Deadline, later: Sequence[Provider]) -> Deadline:
        """When a provider has to be done, so that the ``later`` ones still have time."""
        hopeful = sum(self.breakers.state(each.name) is not BreakerState.OPEN for each in later)
        kept_back = min(
            self._reserve_seconds * hopeful, deadline.remaining_seconds() * hopeful / (hopeful + 1)
        )
        return Deadline(deadline.at - kept_back)

    def _insist(
        self, provider: Provider, deadline: Deadline, attempt: Callable[[Provider, Deadline], T]
    ) -> T:
        seen: Counter[type[UpstreamError]] = Counter()
        while True:
            if self._closed.is_set():
                raise UpstreamFailed("The service is being stopped.")
            admission = self.breakers.admit(provider.name, deadline)
            started_at = self._clock()
            try:
                result = attempt(provider, deadline)
            except BaseException as error:
                seconds = self._clock() - started_at
                self._observe(provider.name, type(error).__name__, seconds)
                if self._closed.is_set():
                    self.breakers.withdraw(admission)
                else:
                    self.breakers.settle(admission, error)
                log.warning(
                    "capture_attempt_failed",
                    provider=provider.name,
                    error=type(error).__name__,
                    seconds=round(seconds, 3),
                )
                if not isinstance(error, UpstreamError):
                    raise
                seen[type(error)] += 1
                pause = self._pause_before_retry(error, seen)
                if pause is None or pause + SHORTEST_ATTEMPT_SECONDS > deadline.remaining_seconds():
                    raise
            else:
                self._observe(provider.name, DELIVERED, self._clock() - started_at)
                self.breakers.settle(admission, None)
                return result
            self._sleep(pause)

    def _pause_before_retry(self, error: UpstreamError, seen: Counter[type[UpstreamError]]) -> float | None:
        if seen.total() >= self._attempts:
            return None
        if isinstance(error, NotAnImage | PageChallenged):
            return 0.0 if seen[type(error)] == 1 else None
        if not isinstance(error, UpstreamFailed | UpstreamBusy):
            return None
        if error.retry_after_seconds is not None:
            return error.retry_after_seconds
        ceiling = min(FIRST_PAUSE_SECONDS * 2 ** seen.total(), LONGEST_PAUSE_SECONDS)
        return self._jitter(ceiling / 2, ceiling)


def _most_telling(failures: Sequence[UpstreamError]) -> UpstreamError:
    """The last failure of the kind that tells a caller most.

    "Come back in a moment" beats what went wrong, which beats what only the operator can mend.
    """

    def rank(error: UpstreamError) -> int:
        if isinstance(error, UpstreamBusy):
            return 3
        return 1 if isinstance(error, UpstreamQuota | UpstreamAuth) else 2

    return max(reversed(failures), key=rank)
