"""The service as it is shipped, under gunicorn, with both of its workers awake."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from benchmarks.clients import crowd
from tests.support.processes import wait_until
from tests.support.service import Service, running_service, snapapi_environment

WORKERS = 2
THREADS = 64

#: Everything here comes from one address, whom the usual limits would soon refuse.
UNLIMITED = {f"LIMIT_{kind}": "1000000 per minute" for kind in ("THUMB", "SCREENSHOT", "CACHED")}


@contextlib.contextmanager
def awake_service(upstream_url: str, **environ: str) -> Iterator[Service]:
    """The service in a folder of its own; entered once every worker answers."""
    settings = snapapi_environment(
        upstream_url, WEB_CONCURRENCY=str(WORKERS), WEB_THREADS=str(THREADS), **UNLIMITED, **environ
    )
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        running_service(Path(folder), settings) as service,
    ):
        wait_until(lambda: _is_awake(service), what="every worker")
        yield service


def workers_of(service: Service) -> list[psutil.Process]:
    return list(psutil.Process(service.pid).children())


def _is_awake(service: Service) -> bool:
    """Whether each worker has taken requests: gunicorn starts threads only when they are needed."""
    crowd([service.url], ["/health"] * 32)
    workers = workers_of(service)
    return len(workers) == WORKERS and all(worker.num_threads() > 4 for worker in workers)
