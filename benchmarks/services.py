"""The service as it is shipped, under gunicorn, alone and behind the nginx that is shipped with it."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from benchmarks.clients import crowd
from benchmarks.samples import SIGNING_KEYS
from tests.support.nginx import Nginx, running_nginx
from tests.support.processes import wait_until
from tests.support.service import Service, running_service, snapapi_environment

WORKERS = 2

#: Everything here comes from one address, whom the usual limits would soon refuse: they are on, and wide.
WIDE_LIMITS = {f"LIMIT_{kind}": "100000000 per minute" for kind in ("THUMB", "SCREENSHOT", "CACHED")}

#: The knobs of the edge for the same: its limits are on, and wide.
WIDE_RATES = {"rate=600r/m": "rate=100000000r/m", "rate=100r/s": "rate=1000000r/s"}
#: Probes and clients of captures come beside the load.
WIDE_CONNECTIONS = {"limit_conn connections 256;": "limit_conn connections 2048;"}


@contextlib.contextmanager
def awake_service(upstream_url: str, *, profile: str = "development", **environ: str) -> Iterator[Service]:
    """The service in a folder of its own; entered once every worker answers."""
    settings = snapapi_environment(
        upstream_url, **{"WEB_CONCURRENCY": str(WORKERS), **WIDE_LIMITS, **environ}
    )
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        running_service(Path(folder), settings, profile=profile) as service,
    ):
        wait_until(lambda: _is_awake(service), what="every worker")
        yield service


def guarded_service(
    upstream_url: str, redis_url: str, **environ: str
) -> contextlib.AbstractContextManager[Service]:
    """The service as it stands on the internet: signatures asked for, limits and access log on, on Redis."""
    settings = {"REDIS_URL": redis_url, "SIGNING_KEYS": SIGNING_KEYS, "LOG_LEVEL": "info", **environ}
    return awake_service(upstream_url, profile="production", **settings)


def shipped_edge(
    folder: Path, *ports: int, changes: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[Nginx]:
    """The shipped nginx before services on these ports, with as many workers as it would have."""
    all_changes = WIDE_RATES | WIDE_CONNECTIONS | dict(changes or {})
    return running_nginx(folder, *ports, changes=all_changes, workers="auto")


def workers_of(service: Service) -> list[psutil.Process]:
    return list(psutil.Process(service.pid).children())


def _is_awake(service: Service) -> bool:
    """Whether each worker has taken requests: gunicorn starts threads only when they are needed."""
    crowd([service.url], ["/health"] * 32)
    workers = workers_of(service)
    return bool(workers) and all(worker.num_threads() > 4 for worker in workers)
