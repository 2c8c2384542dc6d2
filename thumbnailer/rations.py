"""How much of something may be done at once, and how much after that."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Rations:
    """Hands out up to ``most`` at once, and ``per_second`` more; safe to use from many threads.

    ``clock`` is in seconds and never goes back.
    """

    def __init__(self, most: float, per_second: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._per_second = per_second
        self._clock = clock
        self._guard = threading.Lock()
        self._left = most
        self._counted_at = clock()

    def take(self, amount: float = 1.0) -> bool:
        """Take ``amount``; False where there is not so much, and then nothing is taken."""
        with self._guard:
            now = self._clock()
            self._left = min(self._most, self._left + (now - self._counted_at) * self._per_second)
            self._counted_at = now
            if self._left < amount:
                return False
            self._left -= amount
            return True
