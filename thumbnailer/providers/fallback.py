"""Trying again, and trying elsewhere.

=================  ==============================================================
an attempt raises  the same provider is tried again
=================  ==============================================================
UpstreamFailed     after the pause it asks for, else after a growing, random one
UpstreamBusy       likewise
NotAnImage         once, at once
any other          never
=================  ==============================================================

No pause reaches beyond the deadline, and no provider gets more than ``attempts`` attempts. After that
the next provider that can honour the request is tried, whatever ``UpstreamError`` the last one ended
with. What is the request's or the target's fault is the answer: no provider would do better.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from thumbnailer.errors import (
    NotAnImage,
    OptionUnsupported,
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

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Failover:
    """Goes from provider to provider, in their order, until one delivers.

    ``sleep`` takes seconds, ``clock`` gives them, ``jitter`` draws a number between its arguments.
    """

    def __init__(
        self,
        providers: Sequence[Provider],
        attempts: int = 3,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        if not providers or attempts < 1:
            raise ValueError("at least one provider and one attempt are needed")
        self.providers = tuple(providers)
        self._attempts = attempts
        self._sleep = sleep
        self._clock = clock
        self._jitter = jitter

    def refuse_unsupported(self, request: CaptureRequest) -> None:
        """Raise ``OptionUnsupported`` unless a provider can honour everything that was asked for."""
        self._capable(request)

    def run(self, request: CaptureRequest, deadline: Deadline, attempt: Callable[[Provider], T]) -> T:
        """Call ``attempt`` with a provider until it returns.

        Raises:
            OptionUnsupported: no provider can honour the request.
            UpstreamError: every provider failed; the error that tells a caller most.
            ThumbnailerError: what else ``attempt`` raises, at once.
        """
        failures: list[UpstreamError] = []
        for provider in self._capable(request):
            if failures and deadline.has_passed():
                break
            try:
                return self._insist(provider, deadline, attempt)
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

    def _insist(self, provider: Provider, deadline: Deadline, attempt: Callable[[Provider], T]) -> T:
        seen: Counter[type[UpstreamError]] = Counter()
        while True:
            started_at = self._clock()
            try:
                return attempt(provider)
            except Exception as error:
                log.warning(
                    "capture_attempt_failed",
                    provider=provider.name,
                    error=type(error).__name__,
                    seconds=round(self._clock() - started_at, 3),
                )
                if not isinstance(error, UpstreamError):
                    raise
                seen[type(error)] += 1
                pause = self._pause_before_retry(error, seen)
                if pause is None or pause >= deadline.remaining_seconds():
                    raise
            self._sleep(pause)

    def _pause_before_retry(self, error: UpstreamError, seen: Counter[type[UpstreamError]]) -> float | None:
        if seen.total() >= self._attempts:
            return None
        if isinstance(error, NotAnImage):
            return 0.0 if seen[NotAnImage] == 1 else None
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
