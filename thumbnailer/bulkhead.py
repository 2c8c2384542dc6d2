"""Bounds how many captures run here at once and how many wait for their turn."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from thumbnailer.errors import Overloaded
from thumbnailer.model import Deadline

RETRY_AFTER_SECONDS = 5.0


class Bulkhead:
    """At most ``in_flight`` captures at a time in this process, at most ``waiting`` more in line."""

    def __init__(self, *, in_flight: int, waiting: int) -> None:
        self._places = threading.BoundedSemaphore(in_flight)
        self._line = threading.BoundedSemaphore(in_flight + waiting)

    @contextmanager
    def place(self, deadline: Deadline) -> Iterator[None]:
        """Hold one place for the length of the block.

        Raises:
            Overloaded: the line is full, or the deadline passed in it.
        """
        if not self._line.acquire(blocking=False):
            raise Overloaded("Too many captures wait already.", retry_after_seconds=RETRY_AFTER_SECONDS)
        try:
            if not self._places.acquire(timeout=deadline.remaining_seconds()):
                raise Overloaded(
                    "No capture could be started in time.", retry_after_seconds=RETRY_AFTER_SECONDS
                )
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._line.release()
