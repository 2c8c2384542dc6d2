"""The logs of Celery's worker and beat hold news: no routine, and no trace of a Redis that is gone."""

from __future__ import annotations

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from celery.utils.imports import instantiate
from structlog.testing import capture_logs

from tests.support.databases import open_database
from tests.support.postgres import postgres_folder, running_postgres
from tests.support.processes import free_port, running_redis, wait_until
from tests.support.service import snapapi_environment
from tests.support.settings import load
from tests.support.workers import Worker
from thumbnailer.jobs.housekeeping import Housekeeper
from wiring.jobs import build_office
from wiring.queue import JOB_TASK, QUEUE, SWEEP_TASK, LateCelery


def beat_of(redis_url: str) -> Any:
    """The scheduler that beat would have, as beat makes it."""
    app = LateCelery(load({"REDIS_URL": redis_url}))()
    return instantiate(app.conf.beat_scheduler, app)


def test_beat_queues_a_sweep_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with running_redis(tmp_path) as url, redis.Redis.from_url(url) as store:
        beat = beat_of(url)
        beat.apply_entry(beat.schedule["sweep"])
        assert store.llen(f"thumbnailer:queue:{QUEUE}") == 1
    assert caplog.records == []


def test_beat_queues_no_second_sweep_while_anything_waits(tmp_path: Path) -> None:
    with running_redis(tmp_path) as url, redis.Redis.from_url(url) as store:
        beat = beat_of(url)
        for _ in range(3):
            beat.apply_entry(beat.schedule["sweep"])
        assert store.llen(f"thumbnailer:queue:{QUEUE}") == 1
        store.flushdb()
        beat.apply_entry(beat.schedule["sweep"])
        assert store.llen(f"thumbnailer:queue:{QUEUE}") == 1


def test_beat_tells_of_a_lost_redis_in_a_line_and_not_each_time(caplog: pytest.LogCaptureFixture) -> None:
    beat = beat_of(f"redis://127.0.0.1:{free_port()}/0")
    for _ in range(3):
        beat.apply_entry(beat.schedule["sweep"])
    assert [record.exc_info for record in caplog.records] == [None]
    assert "The job queue fails" in caplog.text


@pytest.mark.parametrize(("level", "is_told"), [("info", False), ("debug", True)])
def test_a_worker_tells_of_jobs_and_for_debugging_of_sweeps(
    tmp_path: Path, level: str, is_told: bool
) -> None:
    with running_redis(tmp_path) as url:
        database = f"sqlite:///{tmp_path}/jobs.sqlite3"
        settings = {"REDIS_URL": url, "DATABASE_URL": database, "CACHE_DIR": str(tmp_path / "cache")}
        worker = Worker(
            tmp_path, snapapi_environment("http://127.0.0.1:9", **settings) | {"LOG_LEVEL": level}
        )
        try:
            app = LateCelery(load(settings))()
            app.send_task(SWEEP_TASK, args=["all"], queue=QUEUE)
            app.send_task(SWEEP_TASK, args=["all"], queue=QUEUE, expires=0.001)
            app.send_task(JOB_TASK, args=["job_that_there_is_not"], queue=QUEUE)
            wait_until(
                lambda: f"Task {JOB_TASK}[" in worker.log.read_text(), seconds=60, what="the second task"
            )
        finally:
            worker.close()
        told = worker.log.read_text()
        assert (f"Task {SWEEP_TASK}[" in told, f"revoked task: {SWEEP_TASK}[" in told) == (is_told, is_told)


def test_a_lost_database_is_told_of_once_until_it_is_back() -> None:
    port = free_port()
    url = f"postgresql://thumbnailer@127.0.0.1:{port}/postgres"
    with postgres_folder() as folder, closing(open_database(url, patience=0)) as database:
        office = build_office(load(), database)
        keeper = Housekeeper(office.sweeper, office.roster, lambda: "worker-1", 1.0, lambda: None)

        def told() -> list[str]:
            with capture_logs() as lines:
                for _ in range(3):
                    keeper.look_after()
            return [line["event"] for line in lines]

        assert told() == ["sweep_failed"]
        with running_postgres(port=port, folder=folder):
            assert told() == []
        assert told() == ["sweep_failed"]
