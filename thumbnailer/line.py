"""Bounds how many request threads wait at a time, so that some are always left for quick answers.

Whoever waits for something slow (a capture, whoever takes it, a rendering, a storage, the end of a
stream) holds a thread of the server meanwhile. Unless those are fewer than the threads, an
answer from the cache waits behind them.
"""

from __future__ import annotations

import threading
import weakref

from thumbnailer.errors import Overloaded


class Line:
    """At most ``places`` callers wait here at a time; safe to use from many threads."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._taken = 0
        self._guard = threading.RLock()  # a place may be given back wherever the collector is at work

    @property
    def places(self) -> int:
        """How many may wait at a time."""
        return self._places

    @property
    def length(self) -> int:
        """How many places are taken now."""
        return self._taken

    def take_place(self) -> Place:
        """Join the line, at once.

        Raises:
            Overloaded: every place is taken.
        """
        with self._guard:
            if self._taken >= self._places:
                raise Overloaded("Too many requests wait already.")
            self._taken += 1
        return Place(self)

    def _leave(self) -> None:
        with self._guard:
            self._taken -= 1


class Place:
    """One caller's place in a line, until it is given back or nobody knows it any more."""

    def __init__(self, line: Line) -> None:
        self._leave = weakref.finalize(self, line._leave)

    def give_back(self) -> None:
        """Leave the line; a second time does nothing. From any thread."""
        self._leave()
