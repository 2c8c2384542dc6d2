"""What a miss adds to the time that the upstream takes, against the FastAPI peer."""

from __future__ import annotations

import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.clients import picture_path
from benchmarks.figures import Figure, figure, ratio
from benchmarks.load import cpu_seconds
from benchmarks.peer_services import awake_peers
from benchmarks.samples import noise, signed_path, target, upstream_picture
from benchmarks.scale import Scale
from benchmarks.services import guarded_service
from tests.support.answers import Answer
from tests.support.answers import Received as Call
from tests.support.processes import running_redis
from tests.support.upstream import Upstream

UPSTREAM_SECONDS = 0.02
SHARE = 0.7
OURS, PEERS = "thumbnailer", ("fastapi-gunicorn", "flask-plain")
WARM_UPS = 20

Paths = Callable[[str], str]


def slow_picture(call: Call) -> Answer:
    """A picture of 60 KB after 20 ms."""
    time.sleep(UPSTREAM_SECONDS)
    return upstream_picture(call)


class Client:
    """Asks one thing after the other, on one connection for as long as the server keeps it."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        self._connection = HTTPConnection(str(address.hostname), address.port, timeout=20)

    def milliseconds(self, method: str, path: str, body: bytes | None = None) -> float:
        """How long an answer took; raises ValueError where it was no picture."""
        started_at = time.perf_counter()
        self._connection.request(method, path, body)
        response = self._connection.getresponse()
        content = response.read()
        taken = (time.perf_counter() - started_at) * 1000
        if response.status != 200 or content != noise(60):
            raise ValueError(f"{path} answers {response.status}")
        return taken

    def close(self) -> None:
        """End the connection; the next question opens another."""
        self._connection.close()


class Rival:
    """One that takes captures; each row of them comes on a connection of its own."""

    def __init__(self, url: str, pid: int, path_of: Paths) -> None:
        self._url, self._pid, self._path_of = url, pid, path_of

    def misses(self, pages: list[str]) -> tuple[float, float]:
        """The median of their times in milliseconds, and the processor time of one in milliseconds."""
        before = cpu_seconds([self._pid])
        with contextlib.closing(Client(self._url)) as client:
            taken = statistics.median(client.milliseconds("GET", self._path_of(page)) for page in pages)
        return taken, (cpu_seconds([self._pid]) - before) * 1000 / len(pages)


def measure(scale: Scale) -> Iterator[Figure]:
    """One client, one page after the other, each new; the upstream itself is asked in between."""
    numbers = count()
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-misses-")))
        redis_url = held.enter_context(running_redis(folder))
        upstream = held.enter_context(Upstream(slow_picture))
        direct = held.enter_context(contextlib.closing(Client(upstream.url)))
        rivals = dict(_rivals(held, folder, upstream.url, redis_url))
        for rival in rivals.values():
            rival.misses([target(60, f"warm-{next(numbers)}") for _ in range(WARM_UPS)])
        own: list[float] = []
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in rivals}
        for _ in range(scale.rounds):
            bodies = [json.dumps({"url": target(60, number)}).encode() for number in range(scale.repeats)]
            own.append(statistics.median(direct.milliseconds("POST", "/", body) for body in bodies))
            for name, rival in rivals.items():
                pages = [target(60, f"miss-{next(numbers)}") for _ in range(scale.repeats)]
                measured[name].append(rival.misses(pages))
    yield from _figures(own, measured)


def _rivals(
    held: contextlib.ExitStack, folder: Path, upstream_url: str, redis_url: str
) -> Iterator[tuple[str, Rival]]:
    service = held.enter_context(guarded_service(upstream_url, redis_url))
    yield OURS, Rival(service.url, service.pid, signed_path)
    for peer in awake_peers(held, PEERS, folder, redis_url=redis_url, upstream_url=upstream_url):
        yield peer.name, Rival(peer.url, peer.pid, lambda page: picture_path("/thumb", page))


def _figures(own: list[float], measured: dict[str, list[tuple[float, float]]]) -> Iterator[Figure]:
    yield figure("a miss: the upstream's own time", "ms", own)
    added = {
        name: [taken - base for (taken, _), base in zip(rounds, own, strict=True)]
        for name, rounds in measured.items()
    }
    for name, rounds in measured.items():
        yield figure(f"a miss: added by {name}", "ms", added[name])
        yield figure(f"a miss: processor time of {name}", "ms", (cpu for _, cpu in rounds))
    yield ratio("a miss: what it adds, against FastAPI", added[OURS], added[PEERS[0]], at_most=SHARE, goal=5)
    yield ratio("a miss: what it adds, against plain Flask", added[OURS], added[PEERS[1]])
