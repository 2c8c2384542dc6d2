"""wrk as the load, and what the answers to it cost."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil

SCRIPT = Path(__file__).parent / "paths.lua"
CONNECTIONS = 64
#: Before each round, for what a candidate keeps in memory is old when its turn comes again.
WARM_UP_SECONDS = 1

Rival = TypeVar("Rival")


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that answers with pictures: its URL, and those of its paths that are asked for in turn.

    ``pids`` are the processes at the head of all that take part in an answer, ``size_bytes`` the least
    that an answer has.
    """

    name: str
    url: str
    paths: tuple[str, ...]
    pids: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Load:
    """What came of a load: how many answers a second, how soon, and for how much processor time each."""

    answers_per_second: float
    p99_ms: float
    cpu_us: float


def family(pids: Iterable[int]) -> list[psutil.Process]:
    """The processes with these ids, and all that descend from them."""
    found: list[psutil.Process] = []
    for pid in pids:
        parent = psutil.Process(pid)
        found += [parent, *parent.children(recursive=True)]
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that these processes and their living descendants have had, from /proc."""
    times = [process.cpu_times() for process in family(pids)]
    return sum(each.user + each.system for each in times)


def put_load(candidate: Candidate, seconds: float) -> Load:
    """Ask for as much as it gives; raises ValueError where an answer was no picture."""
    before = cpu_seconds(candidate.pids)
    told = _wrk(candidate.url, candidate.paths, seconds)
    spent = cpu_seconds(candidate.pids) - before
    answers = told["answers"]
    if not answers or told["failed"] or told["bytes"] < answers * candidate.size_bytes:
        raise ValueError(f"{candidate.name}: not all answers are pictures: {told}")
    return Load(
        answers_per_second=answers / told["microseconds"] * 1e6,
        p99_ms=told["p99"] / 1000,
        cpu_us=spent / answers * 1e6,
    )


def _wrk(url: str, paths: Sequence[str], seconds: float) -> dict[str, int]:
    program = shutil.which("wrk")
    if program is None:
        raise FileNotFoundError("wrk is not installed: run make setup-bench")
    command = [program, "-t1", f"-c{CONNECTIONS}", f"-d{seconds:g}s", "--timeout", "20s", "-s", str(SCRIPT)]
    printed = subprocess.run([*command, url, *paths], capture_output=True, check=True, text=True).stdout
    told: dict[str, int] = json.loads(printed.strip().splitlines()[-1])
    return told


def turns(rivals: Sequence[Rival], rounds: int) -> Iterator[Rival]:
    """All once a round, each round beginning with another, so that what else goes on meets them alike."""
    for number in range(rounds):
        first = number % len(rivals)
        yield from (*rivals[first:], *rivals[:first])


def by_turns(candidates: Sequence[Candidate], rounds: int, seconds: float) -> dict[str, list[Load]]:
    """The loads of each candidate by its name."""
    loads: dict[str, list[Load]] = {candidate.name: [] for candidate in candidates}
    for candidate in turns(candidates, rounds):
        put_load(candidate, WARM_UP_SECONDS)
        loads[candidate.name].append(put_load(candidate, seconds))
    return loads
