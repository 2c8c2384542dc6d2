"""What is forgotten of jobs, what is queued anew, and what orders with a key stand for."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from sqlalchemy import delete, select

from tests.support.clocks import NOON, Clock
from tests.support.ledgers import (
    HOUR,
    Queue,
    failed_job,
    ledger_of,
    order,
    sweeper_of,
)
from tests.support.query_plans import looks_at_every_row, plans_of
from thumbnailer.database import Database
from thumbnailer.errors import Overloaded, TargetStatus
from thumbnailer.jobs import Backlog, BatchOrder, sweeping
from thumbnailer.jobs.deliveries import DeliveryLedger
from thumbnailer.jobs.order_keys import OrderKey
from thumbnailer.jobs.tables import batches, jobs, order_keys
from thumbnailer.schema import upgrade
from thumbnailer.webhooks import Attempt, Verdict

ORDER_KEY = OrderKey(name="n" * 64, body_digest="b" * 64)


def test_what_has_ended_is_forgotten_after_its_time_and_nothing_else(
    database: Database, clock: Clock
) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    sweeper = sweeper_of(database, ledger, clock, queue)
    ended, waiting = failed_job(ledger, "https://receiver.example/"), ledger.accept(order(), "owner")
    unfinished, finished = (ledger.accept_batch(BatchOrder(jobs=[order()] * 2), "owner")[0] for _ in range(2))
    for job in (*finished.jobs, unfinished.jobs[0]):
        ledger.cancel(job.id)
    messages = DeliveryLedger(database, pauses_seconds=(), lease_seconds=30, clock=clock)
    (message,) = messages.latest(ended.owner)
    claim = messages.claim(message.id)
    assert claim is not None
    messages.record(claim, Attempt(Verdict.DELIVERED, 204), 0.1)
    clock.now = NOON + HOUR - 1
    sweeper.sweep()
    assert (ledger.find(ended.id) is not None, queue.deliveries) == (True, [])
    clock.now = NOON + HOUR + 1
    sweeper.sweep()
    assert [job.id for job in (ended, *finished.jobs) if ledger.find(job.id)] == []
    assert (ledger.find_batch(finished.id), messages.latest(ended.owner)) == (None, [])
    assert ledger.find(waiting.id) is not None
    left = ledger.find_batch(unfinished.id)
    assert left is not None
    assert len(left.jobs) == 2
    assert waiting.id in queue.jobs, "what no queue holds any more is queued anew"


def test_no_more_is_queued_at_once_than_the_next_sweep_leaves_and_the_oldest_first(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MAX_QUEUED", 2)
    ledger, queue, ids = ledger_of(database, clock), Queue(), list[str]()
    for _ in range(5):
        ids.append(ledger.accept(order(), "owner").id)
        clock.now -= 1
    clock.turn(HOUR)
    sweeper = sweeper_of(database, ledger, clock, queue)
    for number in (2, 4, 5):
        sweeper.sweep()
        assert sorted(queue.jobs) == sorted(ids[-number:])


def test_what_an_earlier_process_has_left_is_seen(database: Database, clock: Clock) -> None:
    ledger, messages = (
        ledger_of(database, clock),
        DeliveryLedger(database, pauses_seconds=(), lease_seconds=30),
    )
    sweeper, seen = sweeper_of(database, ledger, clock, Queue()), list[bool]()
    seen.append(sweeper.has_work())
    claim = ledger.claim(ledger.accept(order("https://receiver.example/"), "owner").id)
    assert claim is not None
    seen.append(sweeper.has_work())
    (message_id,) = ledger.fail(claim, TargetStatus(404))
    seen.append(sweeper.has_work())
    attempt = messages.claim(message_id)
    assert attempt is not None
    messages.record(attempt, Attempt(Verdict.DELIVERED, 204), 0.1)
    assert [*seen, sweeper.has_work()] == [False, True, True, False]


@pytest.mark.parametrize(("is_idle", "seconds"), [(True, 11), (False, 601)], ids=["empty", "busy"])
def test_what_a_queue_has_lost_is_queued_anew(
    database: Database, clock: Clock, is_idle: bool, seconds: float
) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    queue.is_idle = is_idle
    job, sweeper = ledger.accept(order(), "owner"), sweeper_of(database, ledger, clock, queue)
    clock.now += seconds - 2
    sweeper.sweep()
    assert queue.jobs == []
    clock.now += 2
    sweeper.sweep()
    assert queue.jobs == [job.id]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_more_jobs_wait_than_may_however_many_come_at_once(
    kind: str, database: Database, clock: Clock, request: pytest.FixtureRequest
) -> None:
    if kind == "postgresql":
        database = Database(request.getfixturevalue("postgres_url"), upgrade=upgrade)
    with closing(database):
        ledger = ledger_of(database, clock, max_pending=2)

        def is_accepted(number: int) -> bool:
            try:
                if number % 2:
                    ledger.accept(order(), "owner")
                else:
                    ledger.accept_batch(BatchOrder(jobs=[order()]), "owner")
            except Overloaded:
                return False
            return True

        with pytest.raises(Overloaded):
            ledger.accept_batch(BatchOrder(jobs=[order() for _ in range(3)]), "owner")
        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(is_accepted, range(48))) == 2
        assert ledger.backlog(workers=0).pending == 2


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_many_orders_with_one_key_one_is_a_job(
    kind: str, database: Database, clock: Clock, request: pytest.FixtureRequest
) -> None:
    if kind == "postgresql":
        database = Database(request.getfixturevalue("postgres_url"), upgrade=upgrade)
    with closing(database), ThreadPoolExecutor(16) as pool:
        ledger = ledger_of(database, clock)
        ids = set(pool.map(lambda _number: ledger.accept(order(), "owner", ORDER_KEY).id, range(48)))
        assert len(ids) == 1
        assert ledger.backlog(workers=0).pending == 1


def test_after_a_day_a_key_stands_for_another_order(database: Database, clock: Clock) -> None:
    ledger = ledger_of(database, clock)
    sweeper = sweeper_of(database, ledger, clock, Queue())
    first = ledger.accept(order(), "owner", ORDER_KEY)
    clock.turn(24 * HOUR - 1)
    sweeper.sweep()
    assert ledger.accept(order(), "owner", ORDER_KEY).id == first.id
    clock.turn(1)
    second = ledger.accept(order(), "owner", ORDER_KEY)
    assert second.id != first.id
    sweeper.sweep()
    assert ledger.accept(order(), "owner", ORDER_KEY).id == second.id
    clock.turn(24 * HOUR)
    sweeper.sweep()
    with database.reading() as connection:
        assert connection.execute(select(order_keys)).all() == []


def test_a_key_whose_job_is_forgotten_stands_for_nothing(database: Database, clock: Clock) -> None:
    ledger = ledger_of(database, clock)
    first = ledger.accept(order(), "owner", ORDER_KEY)
    with database.transaction() as connection:
        connection.execute(delete(jobs))
    assert ledger.accept(order(), "owner", ORDER_KEY).id != first.id


def test_the_backlog_is_what_has_not_ended_and_as_old_as_its_oldest(database: Database, clock: Clock) -> None:
    ledger = ledger_of(database, clock)
    assert ledger.backlog(workers=2) == Backlog(pending=0, processing=0, oldest_seconds=0, workers=2)
    begun, waiting, ended = (ledger.accept(order(), "owner").id for _ in range(3))
    clock.turn(7)
    ledger.cancel(ended)
    ledger.claim(begun)
    ledger.accept(order(), "owner")
    assert ledger.backlog(workers=1) == Backlog(pending=2, processing=1, oldest_seconds=7, workers=1)
    ledger.cancel(waiting)
    assert ledger.backlog(workers=1) == Backlog(pending=1, processing=1, oldest_seconds=7, workers=1)


def test_a_key_whose_batch_is_forgotten_stands_for_nothing(database: Database, clock: Clock) -> None:
    ledger, whole = ledger_of(database, clock), BatchOrder(jobs=[order()])
    first, _ = ledger.accept_batch(whole, "owner", ORDER_KEY)
    assert ledger.accept_batch(whole, "owner", ORDER_KEY)[0].id == first.id
    with database.transaction() as connection:
        connection.execute(delete(jobs))
        connection.execute(delete(batches))
    assert ledger.accept_batch(whole, "owner", ORDER_KEY)[0].id != first.id


def test_what_is_done_again_and_again_looks_at_no_row_that_it_does_not_want(
    database: Database, clock: Clock
) -> None:
    """With a hundred thousand jobs a sweep would keep all who write waiting."""
    sweeper = sweeper_of(database, ledger_of(database, clock), clock, Queue())
    sweeper.sweep()  # the first one looks for what a clock that was set back has left
    with plans_of(database) as steps:
        sweeper.sweep()
        DeliveryLedger(database, pauses_seconds=(), lease_seconds=30, clock=clock).latest("owner")
    for table in ("jobs", "batches", "deliveries", "delivery_attempts", "order_keys"):
        assert not looks_at_every_row(steps, table)
    assert "SEARCH jobs USING INDEX ix_jobs_batch_id (batch_id=? AND completed_at<?)" in steps
    assert "SEARCH deliveries USING INDEX ix_deliveries_owner (owner=?)" in steps


def test_what_many_sweeps_have_missed_is_forgotten_little_by_little(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "MAX_FORGOTTEN", 2)
    ledger = ledger_of(database, clock)
    old = []
    for _ in range(5):
        old.append(failed_job(ledger, "https://hook.example/"))
        clock.turn(1)
    clock.turn(2 * HOUR)
    kept = failed_job(ledger, "https://hook.example/")
    sweeper = sweeper_of(database, ledger, clock, Queue())
    for left in (old[2:], old[4:], [], []):
        sweeper.sweep()
        assert [job for job in old if ledger.find(job.id)] == left
    assert ledger.find(kept.id)
