"""Figures: what was measured, how often, and what is asked of it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured once or several times.

    ``at_most`` and ``at_least`` are held against the worst of the values; ``by_median`` against their
    median instead, as befits times, of which a busy machine spoils one now and then. ``goal`` is the number
    of the goal (``benchmarks.goals``) that this decides.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    at_most: float | None = None
    at_least: float | None = None
    by_median: bool = False
    goal: int | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def bound(self) -> str:
        """What is asked, in signs; empty where nothing is."""
        if self.at_most is not None:
            return f"≤ {self.at_most:g}"
        return "" if self.at_least is None else f"≥ {self.at_least:g}"

    @property
    def is_met(self) -> bool:
        most, least = (self.median,) * 2 if self.by_median else (max(self.values), min(self.values))
        is_low_enough = self.at_most is None or most <= self.at_most
        return is_low_enough and (self.at_least is None or least >= self.at_least)

    def described(self) -> dict[str, Any]:
        """For the JSON of results."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": rounded(self.median),
            "values": [rounded(value) for value in self.values],
            "at_most": self.at_most,
            "at_least": self.at_least,
            "by_median": self.by_median,
            "goal": self.goal,
            "is_met": self.is_met,
        }


def rounded(value: float) -> float:
    """To four digits: nothing here is known better."""
    return float(f"{value:.4g}")


def figure(
    name: str,
    unit: str,
    values: Iterable[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    by_median: bool = False,
    goal: int | None = None,
) -> Figure:
    """A figure of any iterable of numbers."""
    return Figure(name, unit, tuple(values), at_most, at_least, by_median, goal)


def ratio(
    name: str,
    above: Sequence[float],
    below: Sequence[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    goal: int | None = None,
) -> Figure:
    """How many times ``below`` goes into ``above``, round by round, by their median."""
    shares = (one / other for one, other in zip(above, below, strict=True))
    return figure(name, "times", shares, at_most=at_most, at_least=at_least, by_median=True, goal=goal)


def table(figures: Iterable[Figure]) -> str:
    """The figures, a line each, to be read by people."""
    rows: list[tuple[str, ...]] = [("what", "median", "least", "most", "unit", "asked", "")]
    for each in figures:
        verdict = ("met" if each.is_met else "MISSED") if each.bound else ""
        numbers = (each.median, min(each.values), max(each.values))
        rows.append((each.name, *map(short, numbers), each.unit, each.bound, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (1, 2, 3) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def short(value: float) -> str:
    """A number as people read it."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.1f}" if value >= 10 else f"{value:,.2f}"
