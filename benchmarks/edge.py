"""The shipped nginx, its limits on, against nginx with the same pictures as files, and before the peers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.figures import Figure, figure, ratio
from benchmarks.hits import load_figures, of_peer, speeds
from benchmarks.load import Candidate, Load, by_turns
from benchmarks.peer_services import COMMANDS, awake_peers, nginx_static
from benchmarks.samples import SIZES, file_paths, noise, plain_paths, signed_paths, upstream_picture
from benchmarks.scale import Scale
from benchmarks.services import guarded_service, shipped_edge
from tests.support.processes import running_redis
from tests.support.upstream import Upstream

OURS, STATIC, BEHIND = "edge", "nginx-static", " behind the same nginx"
LEAST_OF_STATIC = {60: 0.90, 10: 0.85}
LEAST_OF_PEERS = 18.0


def measure(scale: Scale) -> Iterator[Figure]:
    """Each size by turns with files; the peers behind the same nginx at 60 KB."""
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-edge-")))
        folder.chmod(0o755)  # where root measures, nginx works as another user
        redis_url = held.enter_context(running_redis(folder))
        upstream = held.enter_context(Upstream(upstream_picture))
        service = held.enter_context(guarded_service(upstream.url, redis_url, TRUSTED_PROXIES="127.0.0.1"))
        edge = held.enter_context(shipped_edge(folder / "edge", service.port))
        static = held.enter_context(nginx_static(folder))
        peers = list(_peers(held, folder, upstream.url, redis_url))
        for kilobytes in SIZES:
            size_bytes = len(noise(kilobytes))
            ours = Candidate(OURS, edge.url, signed_paths(kilobytes), (edge.pid, service.pid), size_bytes)
            files = of_peer(static, file_paths(kilobytes), size_bytes)
            more = peers if kilobytes == 60 else []
            loads = by_turns([ours, files, *more], scale.rounds, scale.seconds)
            yield from load_figures(f"edge, {kilobytes} KB", loads)
            yield from _verdicts(kilobytes, loads)


def _peers(
    held: contextlib.ExitStack, folder: Path, upstream_url: str, redis_url: str
) -> Iterator[Candidate]:
    """The peers, each behind an nginx like ours; their answers say nothing that it may keep them by."""
    for peer in awake_peers(held, COMMANDS, folder, redis_url=redis_url, upstream_url=upstream_url):
        nginx = held.enter_context(shipped_edge(folder / f"before-{peer.name}", peer.port))
        yield Candidate(peer.name + BEHIND, nginx.url, plain_paths(60), (nginx.pid, peer.pid), len(noise(60)))


def _verdicts(kilobytes: int, loads: dict[str, list[Load]]) -> Iterator[Figure]:
    ours = speeds(loads[OURS])
    yield ratio(
        f"the edge, {kilobytes} KB, against nginx with files",
        ours,
        speeds(loads[STATIC]),
        at_least=LEAST_OF_STATIC[kilobytes],
        goal=1,
    )
    peers = [speeds(rounds) for name, rounds in loads.items() if name.endswith(BEHIND)]
    if not peers:
        return
    best = [max(values) for values in zip(*peers, strict=True)]
    yield figure("the best peer behind the same nginx", "1/s", best)
    yield ratio(
        "the edge, 60 KB, against the best peer behind the same nginx",
        ours,
        best,
        at_least=LEAST_OF_PEERS,
        goal=1,
    )
