"""Receivers of webhooks that let everybody wait in vain, so that they are not waited for time and again.

Who is gone for weeks may have its time-out for each of many messages, each again and again: hours of waiting
for every hour's messages, in threads that the other receivers' messages need.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

#: An attempt that brings no answer has kept others waiting if it took so many seconds. A refused connection
#: costs nobody anything.
SLOW_SECONDS = 1.0

#: Those that were silent the longest ago are forgotten first.
MAX_RECEIVERS = 10_000


class SilentReceivers:
    """Knows each owner's receivers by host and port, in this process; safe to use from many threads.

    After ``max_silences`` in a row a receiver rests, and is tried by one message alone every
    ``rest_seconds``. Owners do not share them: who has a path that is silent at a host where others receive
    theirs would keep those from them.
    """

    def __init__(
        self, *, max_silences: int, rest_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._max_silences = max_silences
        self._rest_seconds = rest_seconds
        self._clock = clock
        self._guard = threading.Lock()
        #: How often in a row, and when somebody may try again.
        self._silences: dict[tuple[str, str], tuple[int, float]] = {}

    def may_be_called(self, owner: str, url: str) -> bool:
        """Whether to try; who is told yes has to ``note`` what came of it."""
        receiver, now = (owner, urlsplit(url).netloc), self._clock()
        with self._guard:
            silences, resumes_at = self._silences.get(receiver, (0, now))
            if silences < self._max_silences:
                return True
            if now < resumes_at:
                return False
            self._silences[receiver] = silences, now + self._rest_seconds
            return True

    def note(self, owner: str, url: str, *, has_answered: bool, seconds: float) -> None:
        """Heed how an attempt ended, and after how many seconds."""
        receiver = owner, urlsplit(url).netloc
        with self._guard:
            silences, _ = self._silences.pop(receiver, (0, 0.0))
            if has_answered or seconds < SLOW_SECONDS:
                return
            self._silences[receiver] = silences + 1, self._clock() + self._rest_seconds
            if len(self._silences) > MAX_RECEIVERS:
                del self._silences[next(iter(self._silences))]
