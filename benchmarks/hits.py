"""Answers from the cache, next to the plainest Flask view under the same gunicorn."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.clients import at_once, fetch, picture_path
from benchmarks.figures import Figure, figure
from benchmarks.plain import BODY_BYTES
from benchmarks.services import THREADS, WORKERS, awake_service
from tests.support.answers import streamed
from tests.support.processes import free_port, running, running_redis
from tests.support.service import PROJECT
from tests.support.upstream import Upstream

RUNS = 3
CONNECTIONS = 16
SECONDS = 3
PATH = picture_path("/thumb", "http://93.184.216.34/hit")


@contextlib.contextmanager
def plain_service() -> Iterator[str]:
    """``benchmarks.plain`` under the service's gunicorn configuration; yields its URL."""
    port = free_port()
    environ = {
        "PATH": os.environ["PATH"],
        "APP_ENV": "development",
        "PORT": str(port),
        "WEB_CONCURRENCY": str(WORKERS),
        "WEB_THREADS": str(THREADS),
        "LOG_LEVEL": "warning",
    }
    command = [sys.executable, "-m", "gunicorn", "--config", str(PROJECT / "gunicorn.conf.py")]
    with tempfile.TemporaryDirectory(prefix="bench-plain-") as folder:
        log = Path(folder) / "gunicorn.log"
        with running([*command, "benchmarks.plain:app"], port=port, log=log, env=environ):
            yield f"http://127.0.0.1:{port}"


def answers_per_second(service_url: str) -> float:
    """Over one run, by wrk or a slower client of our own; raises ValueError where one was no picture."""
    wrk = shutil.which("wrk")
    if wrk is None:
        return sum(at_once([partial(_count, service_url)] * CONNECTIONS)) / SECONDS
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", service_url + PATH]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    found = re.search(r"Requests/sec:\s+([\d.]+)", printed)
    if found is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise ValueError(f"wrk failed:\n{printed}")
    return float(found[1])


def _count(service_url: str, ready: Callable[[], object]) -> int:
    """The answers to one client that keeps its connection."""
    count = 0
    address = urlsplit(service_url)
    with contextlib.closing(HTTPConnection(str(address.hostname), address.port, timeout=10)) as connection:
        ready()
        over_at = time.monotonic() + SECONDS
        while time.monotonic() < over_at:
            connection.request("GET", PATH)
            response = connection.getresponse()
            if response.status != 200 or len(response.read()) != BODY_BYTES:
                raise ValueError(f"status {response.status}")
            count += 1
    return count


def measure() -> Iterator[Figure]:
    """All in turn, so that what else the machine does meets them alike."""
    with contextlib.ExitStack() as held:
        upstream = held.enter_context(Upstream(streamed(BODY_BYTES)))
        folder = held.enter_context(tempfile.TemporaryDirectory(prefix="bench-redis-"))
        redis_url = held.enter_context(running_redis(Path(folder)))
        urls = {
            "plain Flask view": held.enter_context(plain_service()),
            "hits, file cache": _warm(held, upstream),
            "hits, Redis": _warm(held, upstream, REDIS_URL=redis_url),
        }
        rounds = [{name: answers_per_second(url) for name, url in urls.items()} for _ in range(RUNS)]
    for name in urls:
        yield figure(f"{name}, {BODY_BYTES // 1000} KB", "1/s", (each[name] for each in rounds))
    for name in list(urls)[1:]:
        shares = (each[name] / each["plain Flask view"] for each in rounds)
        yield figure(f"{name}: share of the plain view", "times", shares)


def _warm(held: contextlib.ExitStack, upstream: Upstream, **environ: str) -> str:
    """The URL of a service that logs as usual and has the picture."""
    url = held.enter_context(awake_service(upstream.url, LOG_LEVEL="info", **environ)).url
    statuses = [fetch(url, PATH).headers.get("x-cache") for _ in range(2)]
    if statuses != ["MISS", "HIT"]:
        raise ValueError(f"the picture is not cached: {statuses}")
    return url
