"""How much one caller may have: captures are counted, answers from the cache only loosely."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask import g
from flask_limiter import Limiter, RateLimitExceeded
from limits import parse_many
from limits.errors import StorageError

from blueprints.callers import caller
from blueprints.credits import Credits
from thumbnailer.errors import CallerLimited


@dataclass(frozen=True, slots=True)
class LimitTexts:
    """Limits as Flask-Limiter writes them, e.g. ``30 per minute``, one for each kind of answer."""

    thumb: str
    screenshot: str
    persist: str
    jobs: str
    cached: str
    purge: str


class Allowance:
    """Charges callers for what they get; all routes of a kind share one allowance.

    ``thumb``, ``screenshot`` and ``persist`` are called when a capture is taken on a caller's
    account, ``jobs`` for every job that is accepted, ``answer`` for every answer, ``purge`` for every
    purge. Each raises ``CallerLimited``. Answers are counted in batches that each process takes for itself.
    """

    def __init__(self, limiter: Limiter, texts: LimitTexts) -> None:
        self.thumb = _charge(limiter, texts.thumb, "thumb")
        self.screenshot = _charge(limiter, texts.screenshot, "screenshot")
        self.persist = _charge(limiter, texts.persist, "persist")
        self.jobs = _charge(limiter, texts.jobs, "jobs")
        self.purge = _charge(limiter, texts.purge, "purge")
        self._limiter = limiter
        self._charge_answers = _charge(limiter, texts.cached, "answers", cost=lambda: int(g.answers_batch))
        quotas = parse_many(texts.cached)
        self._credits = Credits(
            min(limit.amount for limit in quotas), min(limit.get_expiry() for limit in quotas)
        )

    def answer(self) -> None:
        """Charge the current caller for one answer; raises ``CallerLimited``."""
        identity = caller().identity
        if self.spend_answer(identity):
            return
        g.answers_batch = batch = self._credits.next_batch(identity)
        self._charge_answers()
        self._credits.grant(identity, batch, self._remaining_answers())

    def spend_answer(self, identity: str) -> bool:
        """Charge a caller for one answer without asking anybody; False where that needs ``answer``."""
        return self._credits.spend(identity) or not self._limiter.enabled

    def _remaining_answers(self) -> int:
        """What the counter has left for the current caller, as far as it can tell."""
        counted = self._limiter.current_limit
        try:
            return counted.remaining if counted else 0
        except StorageError:
            return 0


def _charge(limiter: Limiter, text: str, scope: str, cost: Callable[[], int] | int = 1) -> Callable[[], None]:
    def charge() -> None:
        """Flask-Limiter counts the calls of this function."""

    charge.__qualname__ = f"charge_{scope}"  # Flask-Limiter tells limited functions apart by this name
    counted = limiter.shared_limit(text, scope=scope, cost=cost)(charge)

    def charge_or_refuse() -> None:
        try:
            _call_again_in_memory(counted)
        except RateLimitExceeded:
            raise _limited(limiter, scope) from None

    return charge_or_refuse


def _call_again_in_memory(counted: Callable[[], None]) -> None:
    """Count, be it in memory.

    When its Redis dies, Flask-Limiter counts in memory for the first request that meets the error
    and raises it to all others that meet it at the same time.
    """
    try:
        counted()
    except StorageError:
        counted()


def _limited(limiter: Limiter, scope: str) -> CallerLimited:
    """The error for a caller who reached a limit; its headers: draft-ietf-httpapi-ratelimit-headers."""
    reached = limiter.current_limit
    assert reached is not None, "Flask-Limiter has just said so"
    quota, window_seconds = reached.limit.amount, reached.limit.get_expiry()
    # Flask-Limiter rounds the end of the window up to the next whole second, and past it.
    seconds = min(window_seconds, max(1, math.ceil(reached.reset_at - time.time())))
    return CallerLimited(
        f"No more than {quota} in {window_seconds} seconds. Try again in {seconds} seconds.",
        retry_after_seconds=seconds,
        headers={
            "RateLimit-Policy": f'"{scope}";q={quota};w={window_seconds}',
            "RateLimit": f'"{scope}";r={reached.remaining};t={seconds}',
        },
    )
