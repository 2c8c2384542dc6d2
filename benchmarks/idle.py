"""What a deployment takes up that does nothing, and how soon after its start it answers."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.clients import crowd, picture_path
from benchmarks.figures import Figure, figure, ratio
from benchmarks.load import family
from benchmarks.peer_services import own_peer
from benchmarks.samples import SIGNING_KEYS, signed_path, target, upstream_picture
from benchmarks.scale import Scale
from tests.support.processes import running_redis
from tests.support.service import running_service, snapapi_environment
from tests.support.upstream import Upstream

MIB = 2**20
MEMORY_SHARE = 0.7
START_GOAL_SECONDS = 0.5
OURS, PLAIN = "thumbnailer", "flask-plain"
#: Enough that every process has answered one.
FIRST_REQUESTS = 32
#: Where nothing is installed but what the service runs on: some packages load what they find beside them.
PYTHON = Path(__file__).parent.parent / ".venv-service" / "bin" / "python"

Started = contextlib.AbstractContextManager[tuple[str, int]]


def pss_mib(pid: int) -> float:
    """Memory of a process and its descendants; pages that several share are counted once."""
    return float(sum(process.memory_full_info().pss for process in family([pid]))) / MIB


@contextlib.contextmanager
def _ours(folder: Path, upstream_url: str, redis_url: str) -> Iterator[tuple[str, int]]:
    """The service with everything at its default, two workers, and nothing installed but what it needs."""
    environ = snapapi_environment(upstream_url, REDIS_URL=redis_url, SIGNING_KEYS=SIGNING_KEYS)
    with running_service(folder, environ, profile="production", python=str(PYTHON)) as service:
        yield service.url, service.pid


@contextlib.contextmanager
def _plain(folder: Path, upstream_url: str, redis_url: str) -> Iterator[tuple[str, int]]:
    with own_peer(PLAIN, folder, redis_url=redis_url, upstream_url=upstream_url) as peer:
        yield peer.url, peer.pid


def measure(scale: Scale) -> Iterator[Figure]:
    """Start each anew for each round, look after its first answer, and again after all processes answered."""
    rivals: dict[str, tuple[Callable[[Path, str, str], Started], str]] = {
        OURS: (_ours, signed_path(target(60, "first"))),
        PLAIN: (_plain, picture_path("/thumb", target(60, "first"))),
    }
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in rivals}
    with Upstream(upstream_picture) as upstream:
        for _ in range(min(scale.rounds, 3)):
            for name, (start, path) in rivals.items():
                with tempfile.TemporaryDirectory(prefix="bench-idle-") as folder:
                    found[name].append(_one(start, Path(folder), upstream.url, path))
    yield from _figures(found)


def _one(
    start: Callable[[Path, str, str], Started], folder: Path, upstream_url: str, path: str
) -> tuple[float, float, float]:
    """Seconds until the first picture, and memory in MiB before and after every process has answered."""
    with running_redis(folder) as redis_url:
        began_at = time.monotonic()
        with start(folder, upstream_url, redis_url) as (url, pid):
            _first_answer(url, path)
            seconds = time.monotonic() - began_at
            fresh = pss_mib(pid)
            crowd([url], [path] * FIRST_REQUESTS)
            return seconds, fresh, pss_mib(pid)


def _first_answer(url: str, path: str) -> None:
    address = urlsplit(url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise ValueError(f"the first answer is {response.status}")
        response.read()


def _figures(found: dict[str, list[tuple[float, float, float]]]) -> Iterator[Figure]:
    for name, rounds in found.items():
        bound = START_GOAL_SECONDS if name == OURS else None
        yield figure(
            f"idle: first picture of {name} after its start",
            "s",
            (each[0] for each in rounds),
            at_most=bound,
            by_median=True,
            goal=7 if bound else None,
        )
        yield figure(f"idle: memory of {name} after its first answer", "MiB", (each[1] for each in rounds))
        yield figure(f"idle: memory of {name}", "MiB", (each[2] for each in rounds))
    yield ratio(
        "idle: memory, against flask-plain",
        [each[2] for each in found[OURS]],
        [each[2] for each in found[PLAIN]],
        at_most=MEMORY_SHARE,
        goal=7,
    )
