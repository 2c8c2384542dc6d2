"""Bounds how many captures run here at once and how many wait for their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from thumbnailer.errors import Overloaded, UpstreamTimeout
from thumbnailer.model import Deadline


class Bulkhead:
    """At most ``in_flight`` captures at a time in this process, at most ``waiting`` more in line.

    Where less than ``fair_seconds`` are left after the wait, nobody is to blame when that is too little.
    """

    def __init__(self, *, in_flight: int, waiting: int, fair_seconds: float = 0.0) -> None:
        self._fair_seconds = fair_seconds
        self._places = threading.BoundedSemaphore(in_flight)
        self._line = threading.BoundedSemaphore(in_flight + waiting)

    @contextmanager
    def place(self, deadline: Deadline) -> Iterator[None]:
        """Hold one place for the length of the block.

        Raises:
            Overloaded: the line is full, the deadline passed in it, or so little was left of it that the
                block ended with ``UpstreamTimeout``.
        """
        if not self._line.acquire(blocking=False):
            raise Overloaded("Too many captures are waiting already. Try again later.")
        try:
            if not self._places.acquire(timeout=deadline.remaining_seconds()):
                raise Overloaded("The capture could not be started in time. Try again later.")
            is_fair = deadline.remaining_seconds() >= self._fair_seconds
            try:
                yield
            except UpstreamTimeout as error:
                if is_fair:
                    raise
                message = "The request waited until too little time was left to take the capture."
                raise Overloaded(message) from error
            finally:
                self._places.release()
        finally:
            self._line.release()
