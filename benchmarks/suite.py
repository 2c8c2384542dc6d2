"""Runs the parts one after the other, prints their figures against the goals, and keeps them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import (
    busy,
    captures,
    edge,
    hits,
    idle,
    instances,
    misses,
    one_capture,
    rendering,
    streams,
)
from benchmarks.figures import Figure, table
from benchmarks.goals import GOALS, verdicts
from benchmarks.machine import PROJECT, surroundings
from benchmarks.results_page import RESULTS
from benchmarks.scale import FULL, QUICK, Scale

PARTS: dict[str, Callable[[Scale], Iterator[Figure]]] = {
    "edge": edge.measure,
    "hits": hits.measure,
    "busy": busy.measure,
    "one-capture": one_capture.measure,
    "misses": misses.measure,
    "streams": streams.measure,
    "idle": idle.measure,
    "captures": captures.measure,
    "rendering": rendering.measure,
    "instances": instances.measure,
}


def main() -> int:
    """Measure, print, save; the exit status is 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure what the service promises.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--quick", action="store_true", help="short rounds, to try it out")
    parser.add_argument("--save", type=Path, metavar="FILE", help="where the figures go")
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    names = [name for name in PARTS if name in (options.parts or PARTS)]
    started_at, where = time.monotonic(), surroundings()
    print(f"{where['machine']}\n{where['versions']}\ncommit {where['commit']}\n", flush=True)
    measured = _measured(names, QUICK if options.quick else FULL)
    figures = [each for part in measured.values() for each in part]
    print(_goals(figures))
    seconds = round(time.monotonic() - started_at)
    path = options.save or _usual_path(where, is_whole=names == list(PARTS) and not options.quick)
    content = {"is_quick": options.quick, "seconds": seconds, "parts": names, **where}
    content |= {"figures": {name: [each.described() for each in part] for name, part in measured.items()}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{seconds} s in all, kept in {path}")
    return 0 if all(each.is_met for each in figures) else 1


def _measured(names: Sequence[str], scale: Scale) -> dict[str, list[Figure]]:
    figures: dict[str, list[Figure]] = {}
    for name in names:
        print(f"--- {name}", flush=True)
        figures[name] = list(PARTS[name](scale))
        print(table(figures[name]), end="\n\n", flush=True)
    return figures


def _goals(figures: Sequence[Figure]) -> str:
    """Each goal that was measured: what was asked, what was found."""
    lines = ["--- the goals"]
    found = verdicts(figures)
    for number, text in GOALS.items():
        held = [each for goal, each in found if goal == number]
        if held:
            verdict = "met" if all(each.is_met for each in held) else "MISSED"
            lines += [f"\n{number}. {text}: {verdict}", table(held)]
    return "\n".join(lines)


def _usual_path(where: dict[str, Any], *, is_whole: bool) -> Path:
    """Whole results are kept with the project, others where the service keeps what it makes."""
    day = datetime.now(UTC).date().isoformat()
    name = f"{day}-{where['machine']['name']}.json"
    return RESULTS / name if is_whole else PROJECT / "var" / "benchmarks" / name
