"""Clocks that a test turns."""

from __future__ import annotations

from dataclasses import dataclass

NOON = 1_800_000_000.0


@dataclass
class Clock:
    """Seconds, as far as the test has turned it."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now

    def turn(self, seconds: float) -> None:
        self.now += seconds
