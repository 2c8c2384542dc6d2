"""Figures: what was measured, how often, and how much of it is allowed."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured once or several times.

    ``at_most`` is the goal for the most of the values; ``by_median`` for their median instead, as befits
    times, of which a busy machine spoils one now and then.
    """

    name: str
    unit: str
    values: tuple[float, ...]
    at_most: float | None = None
    by_median: bool = False

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def is_met(self) -> bool:
        held = self.median if self.by_median else max(self.values)
        return self.at_most is None or held <= self.at_most

    def described(self) -> dict[str, Any]:
        """For the JSON of results."""
        return {
            "name": self.name,
            "unit": self.unit,
            "median": round(self.median, 3),
            "values": [round(value, 3) for value in self.values],
            "at_most": self.at_most,
            "is_met": self.is_met,
        }


def figure(
    name: str, unit: str, values: Iterable[float], *, at_most: float | None = None, by_median: bool = False
) -> Figure:
    """A figure of any iterable of numbers."""
    return Figure(name, unit, tuple(values), at_most, by_median)


def table(figures: Iterable[Figure]) -> str:
    """The figures, a line each, to be read by people."""
    rows: list[tuple[str, ...]] = [("what", "median", "least", "most", "unit", "goal", "")]
    for each in figures:
        goal = "" if each.at_most is None else f"≤ {each.at_most:g}"
        verdict = "" if each.at_most is None else ("met" if each.is_met else "MISSED")
        numbers = (each.median, min(each.values), max(each.values))
        rows.append((each.name, *map(_short, numbers), each.unit, goal, verdict))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in (1, 2, 3) else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or value >= 100 else f"{value:,.2f}"
