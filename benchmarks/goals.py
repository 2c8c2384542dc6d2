"""The goals: what the service is to reach, each by one or several figures."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.figures import Figure

GOALS = {
    1: "through nginx as shipped: nearly as fast as a static file",
    2: "the application alone: faster than any peer",
    3: "captures that take long hold up nobody else",
    4: "200 clients, one cold URL: one capture",
    5: "what a miss adds to the upstream's own time",
    6: "20 streams of 40 MB: bounded memory",
    7: "small when idle, soon there",
    8: "a local capture costs little more than the browser itself",
    9: "thumbnails for less processor time than Pillow",
    10: "several instances on one Redis: nearly as cheap as one",
}


def verdicts(figures: Sequence[Figure]) -> list[tuple[int, Figure]]:
    """The figures that a goal is held by, in the order of the goals."""
    found = [(each.goal, each) for each in figures if each.goal is not None]
    return sorted(found, key=lambda pair: pair[0])
