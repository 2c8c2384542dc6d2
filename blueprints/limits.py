"""How much one caller may have: captures are counted, answers from the cache only loosely."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from flask_limiter import Limiter, RateLimitExceeded
from limits.errors import StorageError

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
    purge. Each raises ``CallerLimited``.
    """

    def __init__(self, limiter: Limiter, texts: LimitTexts) -> None:
        self.thumb = _charge(limiter, texts.thumb, "thumb")
        self.screenshot = _charge(limiter, texts.screenshot, "screenshot")
        self.persist = _charge(limiter, texts.persist, "persist")
        self.jobs = _charge(limiter, texts.jobs, "jobs")
        self.answer = _charge(limiter, texts.cached, "answers")
        self.purge = _charge(limiter, texts.purge, "purge")


def _charge(limiter: Limiter, text: str, scope: str) -> Callable[[], None]:
    def charge() -> None:
        """Flask-Limiter counts the calls of this function."""

    charge.__qualname__ = f"charge_{scope}"  # Flask-Limiter tells limited functions apart by this name
    counted = limiter.shared_limit(text, scope=scope)(charge)

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
