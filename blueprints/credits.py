"""Allowances taken in batches: answers from the cache are far too many to ask a shared counter for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

#: A process holds at most this part of a caller's allowance, so that little is out of others' reach.
LARGEST_SHARE = 20

#: Callers that are remembered at a time; who is forgotten asks the counter again.
MAX_CALLERS = 10_000


@dataclass(slots=True)
class _Purse:
    """What is ``left`` of the last ``batch``, until ``expires_at``; ``owed`` were given without asking.

    ``asking`` is the batch that the counter is being asked for, or has refused; 0 for none.
    """

    batch: int
    left: int
    owed: int
    remaining: int
    expires_at: float
    asking: int = 0


class Credits:
    """What callers may have of this process before the counter is asked again; safe from many threads.

    Of an allowance of ``quota`` in ``window_seconds``. New callers have something in advance, which is
    counted with their first batch. Batches double as long as they are used up, and shrink when the
    allowance comes to its end, so that it is used up to the last one. Of a small allowance everything is
    asked for one by one, and so it is beside a batch that is being asked for: a crowd that asks for a batch
    each would use up the allowance by that alone.
    """

    def __init__(
        self, quota: int, window_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._quota = quota
        self._most = max(1, quota // LARGEST_SHARE)
        self._window_seconds = window_seconds
        self._clock = clock
        self._guard = threading.Lock()
        self._purses: dict[str, _Purse] = {}

    def spend(self, caller: str) -> bool:
        """Take one of what ``caller`` has here; False where there is nothing."""
        with self._guard:
            purse = self._purse_of(caller)
            if purse.left <= 0:
                return False
            purse.left -= 1
            return True

    def next_batch(self, caller: str) -> int:
        """How many to ask the counter for."""
        with self._guard:
            purse = self._purse_of(caller)
            if purse.asking:
                return 1
            purse.asking = purse.owed + max(1, min(self._most, 2 * purse.batch, purse.remaining // 2))
            return purse.asking

    def grant(self, caller: str, batch: int, remaining: int) -> None:
        """Keep what the counter gave, less the one that it was asked for; it has ``remaining`` more."""
        with self._guard:
            purse = self._purse_of(caller)
            if batch != purse.asking:
                return  # the one beside a batch
            given = batch - purse.owed
            expires_at = self._clock() + self._window_seconds
            self._put(caller, _Purse(given, purse.left + given - 1, 0, remaining, expires_at))

    def _purse_of(self, caller: str) -> _Purse:
        purse = self._purses.get(caller)
        if purse is None or self._clock() >= purse.expires_at:
            advance = self._most - 1
            expires_at = self._clock() + self._window_seconds
            purse = _Purse(max(1, advance), advance, advance, self._quota, expires_at)
            self._put(caller, purse)
        return purse

    def _put(self, caller: str, purse: _Purse) -> None:
        self._purses.pop(caller, None)
        while len(self._purses) >= MAX_CALLERS:
            del self._purses[next(iter(self._purses))]
        self._purses[caller] = purse
