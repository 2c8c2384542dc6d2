"""The application alone against its peers: answers from the cache, 64 connections, 8 pictures of 60 KB."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, figure, ratio
from benchmarks.load import Candidate, Load, by_turns
from benchmarks.peer_services import COMMANDS, Peer, awake_peers, nginx_static, thumbor, varnish
from benchmarks.samples import (
    file_paths,
    noise,
    plain_paths,
    signed_paths,
    thumbor_paths,
    upstream_picture,
)
from benchmarks.scale import Scale
from benchmarks.services import guarded_service
from tests.support.processes import running_redis
from tests.support.upstream import Upstream

OURS = "thumbnailer"
#: What the goal asks of the share of each peer's answers a second.
LEAST = {"flask-cached": 3.2, "fastapi-gunicorn": 4.0, "flask-plain": 5.0}
CPU_SHARE = 0.15

#: The smallest answer of ``thumbor``, which encodes anew, for a picture of 60 KB.
THUMBOR_BYTES = 50_000


def of_peer(peer: Peer, paths: tuple[str, ...], size_bytes: int) -> Candidate:
    return Candidate(peer.name, peer.url, paths, (peer.pid,), size_bytes)


def measure(scale: Scale) -> Iterator[Figure]:
    """All by turns; then each against the service."""
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-hits-")))
        redis_url = held.enter_context(running_redis(folder))
        upstream = held.enter_context(Upstream(upstream_picture))
        candidates = [*_ours(held, upstream.url, redis_url), *_peers(held, folder, upstream.url, redis_url)]
        loads = by_turns(candidates, scale.rounds, scale.seconds)
    yield from load_figures("hits, 60 KB", loads)
    yield from _verdicts(loads)


def _ours(held: contextlib.ExitStack, upstream_url: str, redis_url: str) -> Iterator[Candidate]:
    service = held.enter_context(guarded_service(upstream_url, redis_url))
    yield Candidate(OURS, service.url, signed_paths(60), (service.pid,), len(noise(60)))


def _peers(
    held: contextlib.ExitStack, folder: Path, upstream_url: str, redis_url: str
) -> Iterator[Candidate]:
    """Our own ones, and the packaged ones."""
    size_bytes = len(noise(60))
    for peer in awake_peers(held, COMMANDS, folder, redis_url=redis_url, upstream_url=upstream_url):
        yield of_peer(peer, plain_paths(60), size_bytes)
    static = held.enter_context(nginx_static(folder))
    yield of_peer(held.enter_context(varnish(folder, static)), file_paths(60), size_bytes)
    scaler = held.enter_context(thumbor(folder))
    yield of_peer(scaler, thumbor_paths(static.url, 60), THUMBOR_BYTES)


def load_figures(name: str, loads: dict[str, list[Load]]) -> Iterator[Figure]:
    """What each candidate gave, and what it cost."""
    for candidate, rounds in loads.items():
        yield figure(f"{name}: {candidate}", "1/s", (each.answers_per_second for each in rounds))
    for candidate, rounds in loads.items():
        yield figure(f"{name}: {candidate}, p99", "ms", (each.p99_ms for each in rounds))
    for candidate, rounds in loads.items():
        yield figure(f"{name}: {candidate}, processor time", "µs", (each.cpu_us for each in rounds))


def speeds(rounds: list[Load]) -> list[float]:
    return [each.answers_per_second for each in rounds]


def _verdicts(loads: dict[str, list[Load]]) -> Iterator[Figure]:
    ours = loads[OURS]
    for name, rounds in loads.items():
        if name == OURS:
            continue
        least = LEAST.get(name)
        yield ratio(
            f"the application, answers a second, against {name}",
            speeds(ours),
            speeds(rounds),
            at_least=least,
            goal=2 if least else None,
        )
    yield ratio(
        "the application, processor time of a hit, against flask-plain",
        [each.cpu_us for each in ours],
        [each.cpu_us for each in loads["flask-plain"]],
        at_most=CPU_SHARE,
        goal=2,
    )
