"""What a deployment takes up that does nothing, and how soon after its start it answers."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import crowd, fetch, picture_path
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
#: What is asked for first, and its status: of ours what says that the process lives, of the peer, which has
#: no such thing, a page that it does not know. Neither needs anybody else for it.
FIRST_REQUEST = {OURS: ("/health", 200), PLAIN: ("/", 404)}
#: Enough that every process has answered one.
FIRST_REQUESTS = 128
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


@dataclass(frozen=True, slots=True)
class Round:
    """Seconds from two starts; of the second, memory in MiB before and after every process answered."""

    first_answer: float
    first_picture: float
    fresh: float
    used: float


def measure(scale: Scale) -> Iterator[Figure]:
    """Start each anew, for an answer and for a picture, and look at its memory after the latter."""
    rivals: dict[str, tuple[Callable[[Path, str, str], Started], str]] = {
        OURS: (_ours, signed_path(target(60, "first"))),
        PLAIN: (_plain, picture_path("/thumb", target(60, "first"))),
    }
    found: dict[str, list[Round]] = {name: [] for name in rivals}
    with Upstream(upstream_picture) as upstream:
        for _ in range(min(scale.rounds, 3)):
            for name, (start, path) in rivals.items():
                with _started(start, upstream.url) as (url, _pid, began_at):
                    first_answer = _seconds_to_answer(url, *FIRST_REQUEST[name], began_at)
                    # gunicorn says once that it stops: a process that is just being made would not hear it.
                    crowd([url], [FIRST_REQUEST[name][0]] * FIRST_REQUESTS)
                found[name].append(Round(first_answer, *_with_pictures(start, upstream.url, path)))
    yield from _figures(found)


@contextlib.contextmanager
def _started(
    start: Callable[[Path, str, str], Started], upstream_url: str
) -> Iterator[tuple[str, int, float]]:
    """One that listens: its URL, its process, and when it was started."""
    with tempfile.TemporaryDirectory(prefix="bench-idle-") as name, running_redis(Path(name)) as redis_url:
        began_at = time.monotonic()
        with start(Path(name), upstream_url, redis_url) as (url, pid):
            yield url, pid, began_at


def _with_pictures(
    start: Callable[[Path, str, str], Started], upstream_url: str, path: str
) -> tuple[float, float, float]:
    with _started(start, upstream_url) as (url, pid, began_at):
        seconds = _seconds_to_answer(url, path, 200, began_at)
        fresh = pss_mib(pid)
        crowd([url], [path] * FIRST_REQUESTS)
        return seconds, fresh, pss_mib(pid)


def _seconds_to_answer(url: str, path: str, status: int, began_at: float) -> float:
    """From ``began_at`` to the last byte; raises ValueError where the answer has another ``status``."""
    answer = fetch(url, path)
    if answer.status != status:
        raise ValueError(f"the first answer is {answer.status}")
    return answer.ended_at - began_at


def _figures(found: dict[str, list[Round]]) -> Iterator[Figure]:
    for name, rounds in found.items():
        bound = START_GOAL_SECONDS if name == OURS else None
        yield figure(
            f"idle: first answer of {name} after its start",
            "s",
            (each.first_answer for each in rounds),
            at_most=bound,
            by_median=True,
            goal=7 if bound else None,
        )
        pictures = [each.first_picture for each in rounds]
        yield figure(f"idle: first picture of {name} after its start", "s", pictures)
        yield figure(
            f"idle: memory of {name} after its first picture", "MiB", (each.fresh for each in rounds)
        )
        yield figure(f"idle: memory of {name}", "MiB", (each.used for each in rounds))
    yield ratio(
        "idle: memory, against flask-plain",
        [each.used for each in found[OURS]],
        [each.used for each in found[PLAIN]],
        at_most=MEMORY_SHARE,
        goal=7,
    )
