"""Clocks for API keys."""

from __future__ import annotations


class Ticks:
    """A monotonic clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now
