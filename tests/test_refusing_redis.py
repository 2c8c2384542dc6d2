"""A Redis that answers, and refuses: workers of jobs wait until it does its work again."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.support.processes import running_redis, wait_until
from tests.support.service import snapapi_environment
from tests.support.settings import load
from tests.support.workers import Worker
from wiring.queue import JOB_TASK, QUEUE, LateCelery


def become_a_replica(store: redis.Redis) -> None:
    """As after a failover: what was the master takes no writes any more."""
    store.replicaof("127.0.0.1", "1")


def be_full(store: redis.Redis) -> None:
    store.config_set("maxmemory-policy", "noeviction")
    store.config_set("maxmemory", "1mb")


def be_well(store: redis.Redis) -> None:
    store.config_set("maxmemory", "0")
    store.replicaof("NO", "ONE")


@pytest.mark.parametrize(
    ("refuse", "error"),
    [
        pytest.param(become_a_replica, "ReadOnlyError", id="it has become a replica"),
        pytest.param(be_full, "OutOfMemoryError", id="it is full"),
    ],
)
def test_a_worker_waits_for_a_redis_that_refuses_and_goes_on(
    tmp_path: Path, refuse: Callable[[redis.Redis], None], error: str
) -> None:
    with running_redis(tmp_path) as url, redis.Redis.from_url(url) as store:
        database = f"sqlite:///{tmp_path}/jobs.sqlite3"
        settings = {"REDIS_URL": url, "DATABASE_URL": database, "CACHE_DIR": str(tmp_path / "cache")}
        app = LateCelery(load(settings))()
        worker = Worker(tmp_path, snapapi_environment("http://127.0.0.1:9", LOG_LEVEL="info", **settings))

        def ended() -> int:
            return worker.log.read_text().count("succeeded in")

        def order() -> None:
            app.send_task(JOB_TASK, args=["job_that_there_is_not"], queue=QUEUE)

        try:
            order()
            wait_until(lambda: ended() == 1, seconds=60, what="the first task")
            worker.process.send_signal(signal.SIGSTOP)
            order()  # the worker is sent it at once, and cannot note later on that it has it
            refuse(store)
            worker.process.send_signal(signal.SIGCONT)
            wait_until(lambda: f"server:{error}" in worker.log.read_text(), seconds=60, what=error)
            assert worker.process.poll() is None
            be_well(store)
            order()
            wait_until(lambda: ended() >= 2, seconds=60, what="the last task")
        finally:
            worker.close()
        assert not re.search("Traceback|DeprecationWarning", worker.log.read_text())
