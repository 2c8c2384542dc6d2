"""Hits and probes while captures of 5 seconds run: 32 of them, and 200."""

from __future__ import annotations

import contextlib
import math
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.clients import fetch
from benchmarks.figures import Figure, figure, ratio
from benchmarks.load import WARM_UP_SECONDS, Candidate, Load, put_load, turns
from benchmarks.samples import noise, signed_path, signed_paths, target, upstream_picture
from benchmarks.scale import Scale
from benchmarks.services import guarded_service, shipped_edge
from tests.support.answers import Answer
from tests.support.answers import Received as Call
from tests.support.processes import running_redis, wait_until
from tests.support.upstream import Upstream

CAPTURE_SECONDS = 5.0
CROWDS = (32, 200)
PROBE_PAUSE_SECONDS = 0.01
PROBE_GOAL_MS = 50.0
#: What is left of the answers a second, at least.
LEAST = {("application", 32): 0.90, ("application", 200): 0.85, ("edge", 32): 0.95, ("edge", 200): 0.95}

#: So that 200 captures run in two processes, and none of them waits for another.
ROOM = {"UPSTREAM_CONCURRENCY": "200"}


class SlowUpstream:
    """Pictures at once for pages that are asked for often, after 5 seconds for all others."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.under_way = 0

    def __call__(self, call: Call) -> Answer:
        if "/slow/" in call.json["url"]:
            self._count(1)
            time.sleep(CAPTURE_SECONDS)
            self._count(-1)
        return upstream_picture(call)

    def _count(self, change: int) -> None:
        with self._guard:
            self.under_way += change


class Probe:
    """Asks for /health on a connection of its own, some 100 times a second, for the length of a block."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self.milliseconds: list[float] = []

    def _ask(self) -> None:
        connection = HTTPConnection(str(self._address.hostname), self._address.port, timeout=20)
        with contextlib.closing(connection):
            while not self._over.wait(PROBE_PAUSE_SECONDS):
                started_at = time.perf_counter()
                connection.request("GET", "/health")
                response = connection.getresponse()
                response.read()
                if response.status != 200:
                    raise ValueError(f"a probe got {response.status}")
                self.milliseconds.append((time.perf_counter() - started_at) * 1000)

    @property
    def p99_ms(self) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[math.ceil(0.99 * len(ordered)) - 1]

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Round:
    """What hits and probes were like while so many captures ran."""

    load: Load
    probe_p99_ms: float


class Scene:
    """The service with its upstream, and the edge before it."""

    def __init__(self, upstream: SlowUpstream, candidates: list[Candidate]) -> None:
        self._upstream = upstream
        self._numbers = count()
        self.candidates = candidates

    def round(self, candidate: Candidate, captures: int, seconds: float) -> Round:
        """Let ``captures`` clients ask for a page of their own, and measure while all captures run."""
        with ThreadPoolExecutor(max(1, captures)) as clients:
            paths = [signed_path(target(60, f"slow/{next(self._numbers)}")) for _ in range(captures)]
            waiting = [clients.submit(fetch, candidate.url, path) for path in paths]
            wait_until(lambda: self._upstream.under_way == captures, what=f"{captures} captures")
            with Probe(candidate.url) as probe:
                load = put_load(candidate, seconds)
            if captures and not self._upstream.under_way:
                raise ValueError("the captures ended before the measurement")
            statuses = {each.result().status for each in waiting}
        if statuses - {200}:
            raise ValueError(f"captures ended with {statuses}")
        return Round(load, probe.p99_ms)


@contextlib.contextmanager
def _scene() -> Iterator[Scene]:
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-busy-")))
        folder.chmod(0o755)
        redis_url = held.enter_context(running_redis(folder))
        behaviour = SlowUpstream()
        upstream = held.enter_context(Upstream(behaviour))
        service = held.enter_context(
            guarded_service(upstream.url, redis_url, TRUSTED_PROXIES="127.0.0.1", **ROOM)
        )
        edge = held.enter_context(shipped_edge(folder / "edge", service.port))
        paths, size_bytes = signed_paths(60), len(noise(60))
        candidates = [
            Candidate("application", service.url, paths, (service.pid,), size_bytes),
            Candidate("edge", edge.url, paths, (edge.pid, service.pid), size_bytes),
        ]
        yield Scene(behaviour, candidates)


def measure(scale: Scale) -> Iterator[Figure]:
    """Unloaded, with 32 and with 200 captures, by turns."""
    seconds = min(scale.seconds, CAPTURE_SECONDS - 2)
    with _scene() as scene:
        for candidate in scene.candidates:
            rounds: dict[int, list[Round]] = {0: [], **{crowd: [] for crowd in CROWDS}}
            for captures in turns(list(rounds), scale.rounds):
                put_load(candidate, WARM_UP_SECONDS)
                rounds[captures].append(scene.round(candidate, captures, seconds))
            yield from _figures(candidate.name, rounds)


def _figures(name: str, rounds: dict[int, list[Round]]) -> Iterator[Figure]:
    speeds = {captures: [each.load.answers_per_second for each in rounds[captures]] for captures in rounds}
    for captures, measured in rounds.items():
        yield figure(f"{name}, {captures} captures under way: hits", "1/s", speeds[captures])
        goal = (PROBE_GOAL_MS, 3) if captures == CROWDS[0] else (None, None)
        yield figure(
            f"{name}, {captures} captures under way: p99 of a probe",
            "ms",
            (each.probe_p99_ms for each in measured),
            at_most=goal[0],
            by_median=True,
            goal=goal[1],
        )
    for captures in CROWDS:
        yield ratio(
            f"{name}, {captures} captures under way: share of the hits without",
            speeds[captures],
            speeds[0],
            at_least=LEAST[name, captures],
            goal=3,
        )
