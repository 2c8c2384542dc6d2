"""20 downloads of 40 MB at once: memory, speed, first bytes; and an upstream that dies halfway."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import psutil

from benchmarks.clients import Received, crowd, picture_path
from benchmarks.figures import Figure, figure
from benchmarks.scale import Scale
from benchmarks.services import awake_service, workers_of
from tests.support.answers import Answer, streamed
from tests.support.answers import Received as Call
from tests.support.service import Service
from tests.support.upstream import Upstream

DOWNLOADS = 20
SIZE_BYTES = 40_000_000
BYTES_PER_SECOND = 5_000_000.0
SMALL_BYTES = 60_000
WARM_UPS = 3
RUNS = 3
SAMPLE_SECONDS = 0.1
MIB = 2**20

#: What 20 downloads together may add to the workers' memory.
GROWTH_GOAL_MIB = 10.0
#: One after the other they would take twenty times as long as one alone.
SLOWDOWN_GOAL = 2.0


@dataclass(frozen=True, slots=True)
class Memory:
    """What the workers hold together, in bytes: resident, and proportional where pages are shared."""

    rss: int
    pss: int

    @classmethod
    def of(cls, workers: list[psutil.Process]) -> Memory:
        found = [worker.memory_full_info() for worker in workers]
        return cls(sum(each.rss for each in found), sum(each.pss for each in found))

    def or_more(self, other: Memory) -> Memory:
        return Memory(max(self.rss, other.rss), max(self.pss, other.pss))


class MemoryWatch:
    """Samples the workers' memory for the length of a block; ``peak`` is the most that was seen."""

    def __init__(self, workers: list[psutil.Process]) -> None:
        self._workers = workers
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.peak = Memory.of(workers)

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = self.peak.or_more(Memory.of(self._workers))

    def __enter__(self) -> MemoryWatch:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._over.set()
        self._thread.join()


@dataclass(frozen=True, slots=True)
class Round:
    """Some downloads at once: how long until the last ended, and until the last had its first byte."""

    answers: list[Received]
    seconds: float
    first_byte_seconds: float
    peak: Memory

    @property
    def broken(self) -> int:
        return sum(each.status != 200 or not each.is_whole for each in self.answers)


def upstream_of_pictures(call: Call) -> Answer:
    """Small pictures at once, large ones paced."""
    if "/small/" in call.json["url"]:
        return streamed(SMALL_BYTES)
    return streamed(SIZE_BYTES, bytes_per_second=BYTES_PER_SECOND)


def download(service: Service, name: str, count: int) -> Round:
    """Fetch ``count`` pictures that nobody has, at the same moment."""
    targets = [f"http://93.184.216.34/{name}/{number}" for number in range(count)]
    paths = [picture_path("/screenshot/stream", target) for target in targets]
    started_at = time.monotonic()
    with MemoryWatch(workers_of(service)) as watch:
        answers = crowd([service.url], paths)
    seconds = max(each.ended_at for each in answers) - started_at
    first_byte_seconds = max(each.began_at for each in answers) - started_at
    return Round(answers, seconds, first_byte_seconds, watch.peak)


def measure(_scale: Scale) -> Iterator[Figure]:
    """Memory and speed first, broken downloads after them."""
    with (
        Upstream(upstream_of_pictures) as upstream,
        awake_service(upstream.url, MAX_IMAGE_BYTES="50 MiB") as service,
    ):
        for number in range(WARM_UPS):
            download(service, f"small/{number}", DOWNLOADS)
        before = Memory.of(workers_of(service))
        alone = [download(service, f"alone/{number}", 1).seconds for number in range(RUNS)]
        rounds = [download(service, f"together/{number}", DOWNLOADS) for number in range(RUNS)]
        yield from _figures(before, alone, rounds)
        yield from _broken(upstream, service)


def _figures(before: Memory, alone: list[float], rounds: list[Round]) -> Iterator[Figure]:
    name = f"{DOWNLOADS} downloads of {SIZE_BYTES // 10**6} MB"
    grown = [(each.peak.rss - before.rss) / MIB for each in rounds]
    yield figure(f"{name}: growth of all workers (RSS)", "MiB", grown, at_most=GROWTH_GOAL_MIB, goal=6)
    grown = [(each.peak.pss - before.pss) / MIB for each in rounds]
    yield figure(f"{name}: growth of all workers (PSS)", "MiB", grown)
    yield figure("all workers before (RSS)", "MiB", [before.rss / MIB])
    yield figure("one download alone", "s", alone)
    yield figure(f"{name}: until the last ended", "s", (each.seconds for each in rounds))
    yield figure(
        f"{name}: times as long as one alone",
        "times",
        (each.seconds / statistics.median(alone) for each in rounds),
        at_most=SLOWDOWN_GOAL,
        by_median=True,
    )
    first = [each.first_byte_seconds * 1000 for each in rounds]
    upstream_ms = SIZE_BYTES / BYTES_PER_SECOND * 1000
    yield figure(f"{name}: until all had a first byte", "ms", first, at_most=upstream_ms / 2)
    yield figure(f"{name}: broken", "downloads", (each.broken for each in rounds), at_most=0, goal=6)


def _broken(upstream: Upstream, service: Service) -> Iterator[Figure]:
    for framing in ("length", "chunked"):
        whole = streamed(SIZE_BYTES, framing=framing)
        upstream.behave(replace(whole, cut_after=SIZE_BYTES // 2), whole)
        path = picture_path("/screenshot/stream", f"http://93.184.216.34/dies/{framing}")
        first, second = (crowd([service.url], [path])[0] for _ in range(2))
        name = f"upstream dies halfway ({framing})"
        yield figure(f"{name}: ended as if whole", "downloads", [first.is_whole], at_most=0)
        is_kept = second.headers.get("x-cache") != "MISS" or not second.is_whole
        yield figure(f"{name}: kept in the cache", "pictures", [is_kept], at_most=0)
