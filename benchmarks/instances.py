"""1, 2 and 4 services on one Redis behind one nginx: what a hit costs all of them together."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.figures import Figure, figure, ratio
from benchmarks.load import Candidate, Load, by_turns
from benchmarks.samples import noise, signed_paths, upstream_picture
from benchmarks.scale import Scale
from benchmarks.services import guarded_service, shipped_edge
from tests.support.processes import running_redis
from tests.support.upstream import Upstream

COUNTS = (1, 2, 4)
SHARE_LEFT = 0.90
KEEPING_NOTHING = {"    proxy_set_header X-Edge-Seconds 60;\n": ""}


def measure(scale: Scale) -> Iterator[Figure]:
    """By turns; the edge asks for no terms on which it may keep answers, so it keeps none."""
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-instances-")))
        folder.chmod(0o755)
        redis_url = held.enter_context(running_redis(folder))
        upstream = held.enter_context(Upstream(upstream_picture))
        services = [held.enter_context(guarded_service(upstream.url, redis_url)) for _ in range(max(COUNTS))]
        candidates = []
        for number in COUNTS:
            ports = [service.port for service in services[:number]]
            edge = held.enter_context(
                shipped_edge(folder / f"edge-{number}", *ports, changes=KEEPING_NOTHING)
            )
            pids = (_redis_pid(redis_url), *(service.pid for service in services[:number]))
            candidates.append(Candidate(str(number), edge.url, signed_paths(60), pids, len(noise(60))))
        loads = by_turns(candidates, scale.rounds, scale.seconds)
    yield from _figures(loads)


def _redis_pid(redis_url: str) -> int:
    """The process that listens there: among our own children."""
    port = redis_url.rpartition(":")[2].removesuffix("/0")
    return next(
        child.pid
        for child in psutil.Process().children()
        if child.name() == "redis-server" and port in " ".join(child.cmdline())
    )


def _figures(loads: dict[str, list[Load]]) -> Iterator[Figure]:
    per_second = {name: [1e6 / each.cpu_us for each in rounds] for name, rounds in loads.items()}
    for name, rounds in loads.items():
        noun = "instance" if name == "1" else "instances"
        yield figure(f"{name} {noun}: hits", "1/s", (each.answers_per_second for each in rounds))
        yield figure(f"{name} {noun}: hits per second of processor time", "1/s", per_second[name])
    for number in COUNTS[1:]:
        yield ratio(
            f"{number} instances: hits per second of processor time, share of one instance's",
            per_second[str(number)],
            per_second["1"],
            at_least=SHARE_LEFT,
            goal=10,
        )
