"""Writes results into ``docs/benchmarks.md``: its tables and its plots are all from one file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, figure, short
from benchmarks.goals import GOALS, verdicts
from benchmarks.machine import PROJECT

RESULTS = PROJECT / "benchmarks" / "results"
PAGE = PROJECT / "docs" / "benchmarks.md"

#: What stands between these is written anew; ``NAME`` is ``about``, ``goals``, or a part of the results.
BLOCK = re.compile(r"(<!-- results: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

#: The plots of a part, as ``benchmarks.plots`` draws them: file, and what they show.
PLOTS = {
    "edge": (
        ("edge", "Hits per second at the edge, 60 KB"),
        ("edge-10", "Hits per second at the edge, 10 KB"),
    ),
    "hits": (("hits", "Hits per second, the application alone"),),
    "busy": (("busy", "Hits per second while captures run"),),
    "misses": (("misses", "What a miss adds"),),
    "idle": (("idle", "Idle memory"),),
    "instances": (("instances", "Hits per second of processor time"),),
}

Results = dict[str, Any]


def newest() -> Path:
    """The results of the latest day; raises FileNotFoundError where there are none."""
    found = sorted(RESULTS.glob("*.json"))
    if not found:
        raise FileNotFoundError("there are no results: run make bench")
    return found[-1]


def named_in(page: str) -> Path:
    """The results that the page was written from; raises ValueError where it names none."""
    found = re.search(r"benchmarks/results/([\w.-]+\.json)", page)
    if found is None:
        raise ValueError("the page names no results")
    return RESULTS / found[1]


def read(path: Path) -> Results:
    content: Results = json.loads(path.read_text(encoding="utf-8"))
    return content


def figures_of(results: Results, part: str) -> list[Figure]:
    """The figures of a part; none where it was not measured."""
    kept = ("at_most", "at_least", "by_median", "goal")
    return [
        figure(each["name"], each["unit"], each["values"], **{name: each[name] for name in kept})
        for each in results["figures"].get(part, [])
    ]


def written(page: str, path: Path) -> str:
    """The page with the results of that file in all of its blocks."""
    results = read(path)
    makers: dict[str, Callable[[], str]] = {
        "about": lambda: _about(results, path),
        "goals": lambda: _goals(results),
    }

    def block(found: re.Match[str]) -> str:
        name = found[2]
        make = makers.get(name, lambda: _part(results, name))
        return f"{found[1]}{make()}\n{found[3]}"

    return BLOCK.sub(block, page)


def _about(results: Results, path: Path) -> str:
    machine, versions = results["machine"], results["versions"]
    lines = [
        "A quick run, in short rounds:" if results["is_quick"] else "One run:",
        f"{round(results['seconds'] / 60)} minutes on {machine['cores']} cores ({machine['processor']},",
        f"{machine['memory_mib'] / 1024:.0f} GiB, Linux {machine['kernel']}, {machine['libc']}),",
        f"{results['measured_at'][:10]}, commit `{results['commit']}`, load before it",
        f"{machine['load_before']}. Every single value:",
        f"[`benchmarks/results/{path.name}`](../benchmarks/results/{path.name}).\n",
        ", ".join(f"{name} {number}" for name, number in versions.items() if number) + ".",
    ]
    return "\n".join(lines)


def _goals(results: Results) -> str:
    figures = [each for part in results["parts"] for each in figures_of(results, part)]
    rows = ["| goal | measured | | asked | |", "| --- | --- | ---: | ---: | --- |"]
    told = 0
    for number, each in verdicts(figures):
        title = f"{number}. {GOALS[number]}" if number != told else ""
        told = number
        verdict = "met" if each.is_met else "**missed**"
        rows.append(f"| {title} | {each.name} | {_value(each)} | {each.bound} | {verdict} |")
    return "\n".join(rows)


def _value(each: Figure) -> str:
    """What is held against the bound: the median, or the worst of the values."""
    worst = max(each.values) if each.at_most is not None else min(each.values)
    return f"{short(each.median if each.by_median else worst)} {each.unit}".strip()


def _part(results: Results, part: str) -> str:
    """Its plots and its figures."""
    figures = figures_of(results, part)
    if not figures:
        return "Not measured in this run."
    plots = [f"![{shown}](images/benchmarks/{file}.svg)\n\n" for file, shown in PLOTS.get(part, ())]
    return "".join(plots) + _figures(figures)


def _figures(figures: list[Figure]) -> str:
    rows = ["| | median | least | most | |", "| --- | ---: | ---: | ---: | --- |"]
    for each in figures:
        numbers = " | ".join(map(short, (each.median, min(each.values), max(each.values))))
        rows.append(f"| {each.name} | {numbers} | {each.unit} |")
    return "\n".join(rows)
