"""Runs the benchmarks one after the other, prints their figures and keeps them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import hits, one_capture, rendering, streams
from benchmarks.figures import Figure, table
from benchmarks.machine import surroundings

SUITES: dict[str, Callable[[], Iterator[Figure]]] = {
    "one-capture": one_capture.measure,
    "streams": streams.measure,
    "hits": hits.measure,
    "rendering": rendering.measure,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, save; the exit status is 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measure what the service promises.")
    parser.add_argument("--only", choices=SUITES, help="measure only this")
    parser.add_argument("--save", type=Path, metavar="FILE", help="keep the figures as JSON")
    options = parser.parse_args(arguments)
    started_at, where = time.monotonic(), surroundings()
    print(f"{where['machine']}\n{where['versions']}\ncommit {where['commit']}\n", flush=True)
    figures: list[Figure] = []
    for name in [options.only] if options.only else SUITES:
        measured = list(SUITES[name]())
        print(table(measured), end="\n\n", flush=True)
        figures += measured
    print(f"{time.monotonic() - started_at:.0f} s in all")
    if options.save:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        content = {"measured_at": moment, **where, "figures": [each.described() for each in figures]}
        options.save.write_text(json.dumps(content, indent=2) + "\n")
    return 0 if all(each.is_met for each in figures) else 1
