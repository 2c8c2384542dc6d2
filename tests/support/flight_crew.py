"""A process full of threads that all want one capture; run by the tests of flights.

``python -m tests.support.flight_crew '<Orders as JSON>'`` prints how many threads got the capture,
and the errors of the others by name.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.support.captures import capture_of
from tests.support.processes import wait_until
from tests.support.stores import redis_cache
from thumbnailer.backend import Backend, ResilientBackend
from thumbnailer.cache import CaptureCache
from thumbnailer.errors import ThumbnailerError, UpstreamQuota
from thumbnailer.failures import FailureBoard
from thumbnailer.file_cache import FolderCache
from thumbnailer.flights import Flight, Flights, Landing
from thumbnailer.locks import FileLocks, Locks, RedisLocks
from thumbnailer.model import Capture, Deadline

BODY = b"picture" * 100


@dataclass(frozen=True, slots=True)
class ArrivalDeadline(Deadline):
    """Tells of the moment its owner begins to wait.

    ``Flights.join`` asks for the time left only when the caller has its place in the queue, so
    this is the one sure sign, from outside, that somebody waits.
    """

    arrived: Callable[[], None] = field(compare=False)

    def remaining_seconds(self) -> float:
        self.arrived()
        return max(0.0, self.at - time.monotonic())


def once(action: Callable[[], None]) -> Callable[[], None]:
    """``action``, done at the first call only."""
    undone = threading.Lock()

    def act() -> None:
        if undone.acquire(blocking=False):
            action()

    return act


@dataclass(frozen=True, slots=True)
class Orders:
    """What a crew has to do; files in ``folder`` count calls and arrivals over all crews."""

    folder: str
    key: str
    threads: int
    awaited: int  # how many have to have arrived before the capture ends
    ending: str  # "land", "crash" or "hang"
    redis_url: str | None = None
    deadline_seconds: float = 60
    margin_seconds: float = 2

    def note(self, name: str) -> None:
        descriptor = os.open(Path(self.folder) / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, b".")
        os.close(descriptor)

    def count(self, name: str) -> int:
        with contextlib.suppress(FileNotFoundError):
            return (Path(self.folder) / name).stat().st_size
        return 0

    def locks(self) -> Locks:
        files = FileLocks(Path(self.folder) / "locks")
        if self.redis_url is None:
            return files
        client = redis.Redis.from_url(self.redis_url, socket_timeout=5, socket_connect_timeout=5)
        return RedisLocks(client, files, margin_seconds=self.margin_seconds)

    def backend(self) -> Backend:
        if self.redis_url is None:
            return FolderCache(Path(self.folder) / "cache")
        return redis_cache(self.redis_url, prefix=f"{self.key}:", timeout_seconds=5)


def fly(orders: Orders) -> collections.Counter[str]:
    """What became of each thread: "capture", or the name of its error."""
    backend = ResilientBackend(orders.backend())
    cache, flights = CaptureCache(backend), Flights(orders.locks(), FailureBoard(backend))
    endings: list[str] = []  # several threads may append, but not count

    def want() -> None:
        arrived = once(lambda: orders.note("arrivals"))
        deadline = ArrivalDeadline(time.monotonic() + orders.deadline_seconds, arrived)
        try:
            found = flights.join(orders.key, lambda: cache.load(orders.key), deadline)
            capture = found.capture if isinstance(found, Landing) else take(orders, found, cache)
            assert capture.body() == BODY
            endings.append("capture")
        except ThumbnailerError as error:
            endings.append(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=want) for _ in range(orders.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return collections.Counter(endings)


def take(orders: Orders, flight: Flight, cache: CaptureCache) -> Capture:
    """One call upstream, that ends once all who are expected wait for it."""
    orders.note("calls")
    if orders.ending == "hang":
        signal.pause()
    wait_until(lambda: orders.count("arrivals") >= orders.awaited, seconds=60, what="all arrivals")
    if orders.ending == "crash":
        error = UpstreamQuota("The quota is used up.", provider="test", retry_after_seconds=30)
        flight.crash(error)
        raise error
    capture = capture_of(BODY)
    cache.store(orders.key, capture, retention_seconds=60)
    flight.land(capture)
    return capture


if __name__ == "__main__":
    print(json.dumps(fly(Orders(**json.loads(sys.argv[1])))))
