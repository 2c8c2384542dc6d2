"""One answer for all who ask in the same moments."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

#: For how long the last answer does, in seconds, while a newer one is on its way: about as long as one takes
#: where a neighbour is silent.
MEANWHILE_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class _Answer(Generic[T]):
    value: T
    at: float


class Shared(Generic[T]):
    """The outcome of something costly that anybody may ask for; safe to use from many threads.

    It is told for ``seconds``. Then whoever asks first finds out anew, and the others hear what was told
    last, for a little longer, or wait. So it keeps one thread at a time, however long it takes. With zero
    seconds everybody finds out for themselves. ``clock`` is in seconds.
    """

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._guard = threading.Lock()
        self._last: _Answer[T] | None = None
        self._coming: Future[T] | None = None

    def outcome(self, find_out: Callable[[], T]) -> T:
        """What ``find_out`` has returned, for this caller or another; raises what it raises."""
        if not self._seconds:
            return find_out()
        with self._guard:
            last, coming = self._last, self._coming
            age_seconds = self._clock() - last.at if last else float("inf")
            if last and age_seconds < (
                self._seconds if coming is None else self._seconds + MEANWHILE_SECONDS
            ):
                return last.value
            if coming is None:
                own = self._coming = Future()
        if coming is not None:
            return coming.result()
        return self._find_out(find_out, own)

    def _find_out(self, find_out: Callable[[], T], coming: Future[T]) -> T:
        try:
            value = find_out()
        except BaseException as error:
            with self._guard:
                self._coming = None
            coming.set_exception(error)
            raise
        with self._guard:
            self._last, self._coming = _Answer(value, self._clock()), None
        coming.set_result(value)
        return value
