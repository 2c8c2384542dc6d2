"""Work that is in no queue, and that the database cannot be told of now."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery

from tests.support.clocks import Clock
from tests.support.ledgers import Queue, ledger_of, order, sweeper_of
from tests.support.processes import free_port
from tests.support.settings import load
from thumbnailer.database import Database
from thumbnailer.engines import DatabaseBounds
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs.tables import jobs
from thumbnailer.jobs.unqueued import MAX_HELD, Unqueued
from thumbnailer.schema import upgrade
from wiring.jobs import build_office
from wiring.queue import JOB_TASK, register_tasks


@pytest.fixture
def unqueued(database: Database) -> Unqueued:
    return Unqueued(database, {"job": jobs})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the database of ``hasty`` lies."""
    return tmp_path / "hasty.sqlite3"


@pytest.fixture
def hasty(file: Path) -> Database:
    """A database that is not waited for."""
    return Database(f"sqlite:///{file}", upgrade=upgrade, bounds=DatabaseBounds(timeout_seconds=0.05))


def test_what_could_not_be_queued_is_found_by_the_next_sweep_that_finds_the_queue(
    database: Database, unqueued: Unqueued, clock: Clock
) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    job, sweeper = ledger.accept(order(), "owner"), sweeper_of(database, ledger, clock, queue)
    unqueued.add("job", job.id)
    queue.is_idle = None
    sweeper.sweep()
    assert queue.jobs == []
    queue.is_idle = False
    sweeper.sweep()
    assert queue.jobs == [job.id]


@pytest.mark.parametrize("is_noted_at_once", [True, False], ids=["noted at once", "held"])
def test_a_busy_queue_gets_anew_what_the_database_could_not_be_told_of(
    hasty: Database, file: Path, clock: Clock, is_noted_at_once: bool
) -> None:
    """In the shape of a lock: whoever writes to SQLite keeps all others from it."""
    ledger, queue, unqueued = ledger_of(hasty, clock), Queue(), Unqueued(hasty, {"job": jobs})
    queue.is_idle = False
    sweeper = sweeper_of(hasty, ledger, clock, queue, unqueued)
    with closing(hasty), closing(sqlite3.connect(file, isolation_level=None)) as other:
        lost, waiting = ledger.accept(order(), "owner"), ledger.accept(order(), "owner")
        other.execute("BEGIN EXCLUSIVE")
        if is_noted_at_once:
            unqueued.add("job", lost.id)
        else:
            unqueued.hold("job", {lost.id})
        with pytest.raises(DatabaseUnavailable):
            sweeper.sweep()
        other.execute("ROLLBACK")
        sweeper.sweep()
        assert (queue.jobs, waiting.id in queue.jobs) == ([lost.id], False)
        sweeper.sweep()
        assert queue.jobs == [lost.id], "what is settled is settled"


def test_a_database_that_is_gone_too_makes_no_error_and_no_endless_memory() -> None:
    nowhere = Database(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none", upgrade=upgrade)
    unqueued = Unqueued(nowhere, {"job": jobs})
    with closing(nowhere):
        assert not nowhere.is_ready()
        for number in range(3):
            unqueued.hold("job", {f"{number}-{each}" for each in range(MAX_HELD)})
            unqueued.add("job", f"{number}")
    assert sum(map(len, unqueued._held.values())) == MAX_HELD


def test_a_task_that_fails_for_want_of_the_database_is_put_into_a_queue_that_is_not_empty(
    database: Database, clock: Clock
) -> None:
    office = build_office(load(), database)
    job = office.ledger.accept(order(), "owner")
    office.queue.put_job(job.id)

    def work(_subject: str) -> None:
        raise DatabaseUnavailable("down")

    celery = office.celery()
    register_tasks(celery, {JOB_TASK: work}, office.put_off)
    office.sweeper.sweep()
    assert _in_queue(celery) == 1
    celery.tasks[JOB_TASK](job.id)
    office.sweeper.sweep()
    assert _in_queue(celery) == 2


def _in_queue(celery: Celery) -> int:
    with celery.connection_for_read() as connection:
        declared = connection.default_channel.queue_declare(queue=celery.conf.task_default_queue)
        return int(declared.message_count)
