"""What is written of jobs and messages as time passes: the next try, who gives up, what is forgotten."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import delete, update

from config import load_settings
from tests.support.processes import free_port, wait_until
from tests.support.query_plans import looks_at_every_row, plans_of
from tests.support.trips import NOON, Clock
from thumbnailer.database import Database
from thumbnailer.engines import DatabaseBounds
from thumbnailer.errors import DatabaseUnavailable, Overloaded, TargetForbidden, TargetStatus, UpstreamFailed
from thumbnailer.jobs import Backlog, BatchOrder, Claim, Job, JobOrder, JobState, sweeping
from thumbnailer.jobs.deliveries import JITTER, DeliveryLedger, DeliveryState
from thumbnailer.jobs.events import Announcer
from thumbnailer.jobs.leases import Leases
from thumbnailer.jobs.ledger import JobLedger
from thumbnailer.jobs.order_keys import OrderKey
from thumbnailer.jobs.sweeping import Sweeper, SweepRules, note_unqueued
from thumbnailer.jobs.tables import batches, jobs
from thumbnailer.model import CaptureRequest
from thumbnailer.schema import upgrade
from thumbnailer.thumbnails import ThumbnailRequest
from thumbnailer.webhooks import Attempt, Verdict

HOUR = 3600.0
LEASE_SECONDS = 15.0
ATTEMPTS = 3
FAILED = Attempt(Verdict.FAILED, 500)
ORDER_KEY = OrderKey(name="n" * 64, body_digest="b" * 64)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/jobs.sqlite3", upgrade=upgrade)) as database:
        yield database


def ledger_of(database: Database, clock: Clock, max_pending: int = 100) -> JobLedger:
    return JobLedger(
        database,
        max_pending=max_pending,
        max_attempts=ATTEMPTS,
        lease_seconds=LEASE_SECONDS,
        announce=Announcer(lambda job: {"job_id": job.id}, lambda batch: {"batch_id": batch.id}),
        clock=clock,
    )


def order(webhook_url: str | None = None) -> JobOrder:
    url = "https://page.example/"
    request = ThumbnailRequest(CaptureRequest(url=url))
    return JobOrder(request=request, url=url, ttl_seconds=60, webhook_url=webhook_url)


class Queue:
    """Takes note of what is put into it."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.deliveries: list[str] = []

    def put_job(self, job_id: str) -> None:
        self.jobs.append(job_id)

    def put_delivery(self, delivery_id: str) -> None:
        self.deliveries.append(delivery_id)

    def put_page(self, page_id: str) -> None: ...

    def is_empty(self) -> bool | None:
        return self.is_idle

    is_idle: bool | None = True


def sweeper_of(database: Database, ledger: JobLedger, clock: Clock, queue: Queue) -> Sweeper:
    rules = SweepRules(max_attempts=ATTEMPTS, retention_seconds=HOUR, lease_seconds=LEASE_SECONDS)
    return Sweeper(database, ledger, queue, rules, clock)


def failed_job(ledger: JobLedger, webhook_url: str) -> Job:
    job = ledger.accept(order(webhook_url), "owner")
    claim = ledger.claim(job.id)
    assert claim is not None
    ledger.fail(claim, TargetStatus(404))
    return job


def test_a_job_whose_worker_lives_after_all_is_not_given_up(database: Database, clock: Clock) -> None:
    ledger, lost = ledger_of(database, clock), UpstreamFailed("Its worker was lost.")
    job = ledger.accept(order(), "owner")
    claim = ledger.claim(job.id)
    assert claim is not None
    clock.turn(LEASE_SECONDS)
    ledger.renew([claim])  # after it was found to be overdue
    ledger.give_up(job.id, lost)
    alive = ledger.find(job.id)
    clock.turn(LEASE_SECONDS)
    ledger.give_up(job.id, lost)
    dead = ledger.find(job.id)
    assert alive is not None
    assert dead is not None
    assert (alive.state, dead.state) == (JobState.PROCESSING, JobState.FAILED)


def test_who_has_lost_a_job_puts_it_back_no_more(database: Database, clock: Clock) -> None:
    ledger, why = ledger_of(database, clock), UpstreamFailed("The provider is down.")
    job = ledger.accept(order(), "owner")
    lost = ledger.claim(job.id)
    clock.turn(LEASE_SECONDS)
    held = ledger.claim(job.id)
    assert lost is not None
    assert held is not None
    ledger.postpone(lost, why, 60)
    in_work = ledger.find(job.id)
    ledger.fail(held, TargetStatus(404))
    ledger.postpone(held, why, 60)
    ended = ledger.find(job.id)
    assert in_work is not None
    assert ended is not None
    assert (in_work.state, ended.state) == (JobState.PROCESSING, JobState.FAILED)


def test_messages_are_sent_again_by_the_usual_schedule_and_then_given_up(
    database: Database, clock: Clock
) -> None:
    webhooks = load_settings("testing", {}).webhooks
    assert list(webhooks.pauses_seconds) == [5, 5 * 60, 30 * 60, 2 * HOUR, 5 * HOUR, 10 * HOUR]
    assert webhooks.timeout_seconds == 15
    job = failed_job(ledger_of(database, clock), "https://receiver.example/")
    deliveries = DeliveryLedger(
        database,
        pauses_seconds=webhooks.pauses_seconds,
        lease_seconds=30,
        clock=clock,
        jitter=lambda _least, most: most,
    )
    (message,) = deliveries.latest(job.owner)
    assert (message.event, json.loads(message.body)["type"]) == ("screenshot.failed", "screenshot.failed")
    for pause in (*webhooks.pauses_seconds, None):
        claim = deliveries.claim(message.id)
        assert claim is not None
        assert deliveries.claim(message.id) is None, "another attempt is under way"
        deliveries.record(claim, FAILED, 0.1)
        found = deliveries.find(message.id)
        assert found is not None
        if pause is not None:
            assert found.state is DeliveryState.PENDING
            assert found.due_at == pytest.approx(clock.now + pause * (1 + JITTER))
            clock.now = found.due_at - 1
            assert deliveries.claim(message.id) is None, "it is not due yet"
            clock.now = found.due_at
    ended = deliveries.find(message.id)
    assert ended is not None
    assert (ended.state, len(ended.log)) == (DeliveryState.FAILED, 7)


def test_the_end_of_a_batch_is_told_once_however_its_last_jobs_end(database: Database, clock: Clock) -> None:
    ledger = ledger_of(database, clock)
    whole = BatchOrder(jobs=[order() for _ in range(8)], webhook_url="https://receiver.example/")
    batch, _ = ledger.accept_batch(whole, "owner")
    claims = [claim for job in batch.jobs if (claim := ledger.claim(job.id))]
    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(lambda claim: ledger.fail(claim, TargetStatus(404)), claims))
    again = [ledger.fail(claim, TargetStatus(404)) for claim in claims]
    assert sum(map(len, [*ends, *again])) == 1
    (told,) = DeliveryLedger(database, pauses_seconds=(), lease_seconds=30, clock=clock).latest(batch.owner)
    assert told.event == "batch.completed"


def test_a_batch_that_is_refused_as_a_whole_has_ended_and_its_message_can_be_sent_at_once(
    database: Database, clock: Clock
) -> None:
    refused = replace(order(), request=None, refusal=TargetForbidden("No."))
    whole = BatchOrder(jobs=[refused, refused], webhook_url="https://receiver.example/")
    batch, messages = ledger_of(database, clock).accept_batch(whole, "owner")
    assert batch.completed_at == clock.now
    (told,) = DeliveryLedger(database, pauses_seconds=(), lease_seconds=30, clock=clock).latest(batch.owner)
    assert messages == (told.id,)


def test_a_message_that_finds_no_room_comes_again_soon_and_none_before_its_time(
    database: Database, clock: Clock
) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    job, sweeper = failed_job(ledger, "https://receiver.example/"), sweeper_of(database, ledger, clock, queue)
    deliveries = DeliveryLedger(database, pauses_seconds=(HOUR,), lease_seconds=30, clock=clock)
    (message,) = deliveries.latest(job.owner)
    deliveries.put_off(message.id)
    sweeper.sweep()
    assert queue.deliveries == []
    clock.now += 3
    sweeper.sweep()
    assert queue.deliveries == [message.id]
    claim = deliveries.claim(message.id)
    assert claim is not None
    deliveries.put_off(message.id)
    deliveries.record(claim, FAILED, 0.1)
    deliveries.put_off(message.id)
    (planned,) = deliveries.latest(job.owner)
    assert planned.due_at >= clock.now + HOUR


def test_a_receiver_that_is_gone_hears_no_more(database: Database, clock: Clock) -> None:
    job = failed_job(ledger_of(database, clock), "https://receiver.example/")
    deliveries = DeliveryLedger(database, pauses_seconds=(5,), lease_seconds=30, clock=clock)
    (message,) = deliveries.latest(job.owner)
    claim = deliveries.claim(message.id)
    assert claim is not None
    deliveries.record(claim, Attempt(Verdict.GONE, 410), 0.1)
    clock.now += HOUR
    assert deliveries.claim(message.id) is None


def test_a_clock_that_is_set_back_while_the_database_is_locked_is_heeded_afterwards(
    tmp_path: Path, clock: Clock
) -> None:
    bounds = DatabaseBounds(timeout_seconds=0.1)
    with closing(Database(f"sqlite:///{tmp_path}/jobs.sqlite3", upgrade=upgrade, bounds=bounds)) as database:
        ledger, queue = ledger_of(database, clock), Queue()
        job, sweeper = ledger.accept(order(), "owner"), sweeper_of(database, ledger, clock, queue)
        sweeper.sweep()
        clock.now -= 24 * HOUR
        with database.transaction(), pytest.raises(DatabaseUnavailable):
            sweeper.sweep()
        queue.jobs.clear()
        sweeper.sweep()
        assert queue.jobs == [job.id]


def test_a_job_that_kills_each_of_its_workers_has_failed_in_the_end(database: Database, clock: Clock) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    job, sweeper = ledger.accept(order(), "owner"), sweeper_of(database, ledger, clock, queue)
    for _ in range(ATTEMPTS):
        assert ledger.claim(job.id) is not None
        assert ledger.claim(job.id) is None, "somebody is at it"
        clock.now += LEASE_SECONDS + 1
    sweeper.sweep()
    found = ledger.find(job.id)
    assert found is not None
    assert (found.state, found.attempts) == (JobState.FAILED, ATTEMPTS)
    assert found.error is not None


def test_a_job_that_is_put_back_and_may_not_be_begun_again_has_failed(
    database: Database, clock: Clock
) -> None:
    ledger = ledger_of(database, clock)
    job, sweeper = ledger.accept(order(), "owner"), sweeper_of(database, ledger, clock, Queue())
    for _ in range(ATTEMPTS):
        claim = ledger.claim(job.id)
        assert claim is not None
        ledger.postpone(claim, UpstreamFailed("The capture failed."), 5)
        clock.now += 5
    assert ledger.claim(job.id) is None
    sweeper.sweep()
    found = ledger.find(job.id)
    assert found is not None
    assert (found.state, found.attempts) == (JobState.FAILED, ATTEMPTS)


def test_a_job_that_this_version_cannot_read_fails_and_keeps_up_nothing(
    database: Database, clock: Clock
) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    unreadable, other = (ledger.accept(order(), "owner") for _ in range(2))
    sweeper = sweeper_of(database, ledger, clock, queue)
    strange = '{"capture": {"url": "https://page.example/", "option_to_come": 1}, "rendition": null}'
    with database.transaction() as connection:
        connection.execute(update(jobs).where(jobs.c.id == unreadable.id).values(request=strange))
    for _ in range(ATTEMPTS):
        claim = ledger.claim(unreadable.id)
        assert claim is not None
        assert claim.job.order.request is None
        clock.now += LEASE_SECONDS + 1
    sweeper.sweep()
    found = ledger.find(unreadable.id)
    assert found is not None
    assert found.state is JobState.FAILED
    assert queue.jobs == [other.id]


def test_a_worker_whose_clock_is_behind_begins_what_is_new(database: Database, clock: Clock) -> None:
    behind = Clock()
    behind.now = clock.now - 1
    job = ledger_of(database, clock).accept(order("https://receiver.example/"), "owner")
    claim = ledger_of(database, behind).claim(job.id)
    assert claim is not None
    assert ledger_of(database, behind).claim(job.id) is None
    (message_id,) = ledger_of(database, clock).fail(claim, TargetStatus(404))
    deliveries = DeliveryLedger(database, pauses_seconds=(5,), lease_seconds=30, clock=behind)
    assert deliveries.claim(message_id) is not None
    assert deliveries.claim(message_id) is None


def test_what_has_ended_is_forgotten_after_its_time_and_nothing_else(
    database: Database, clock: Clock
) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    sweeper = sweeper_of(database, ledger, clock, queue)
    ended, waiting = failed_job(ledger, "https://receiver.example/"), ledger.accept(order(), "owner")
    clock.now = NOON + HOUR - 1
    sweeper.sweep()
    assert ledger.find(ended.id) is not None
    clock.now = NOON + HOUR + 1
    sweeper.sweep()
    assert ledger.find(ended.id) is None
    assert ledger.find(waiting.id) is not None
    assert waiting.id in queue.jobs, "what no queue holds any more is queued anew"


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


def test_what_could_not_be_queued_is_found_by_the_next_sweep_that_finds_the_queue(
    database: Database, clock: Clock
) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    job, sweeper = ledger.accept(order(), "owner"), sweeper_of(database, ledger, clock, queue)
    note_unqueued(database, jobs, job.id)
    queue.is_idle = None
    sweeper.sweep()
    assert queue.jobs == []
    queue.is_idle = False
    sweeper.sweep()
    assert queue.jobs == [job.id]


def test_a_database_that_is_gone_too_makes_no_error_of_what_could_not_be_queued() -> None:
    nowhere = Database(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/none", upgrade=upgrade)
    with closing(nowhere):
        assert not nowhere.is_ready()
        note_unqueued(nowhere, jobs, "1")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_no_more_jobs_wait_than_may_however_many_come_at_once(
    kind: str, database: Database, clock: Clock, request: pytest.FixtureRequest
) -> None:
    if kind == "postgresql":
        database = Database(request.getfixturevalue("postgres_url"), upgrade=upgrade)
    with closing(database):
        ledger = ledger_of(database, clock, max_pending=5)

        def is_accepted(_number: int) -> bool:
            try:
                ledger.accept(order(), "owner")
            except Overloaded:
                return False
            return True

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(is_accepted, range(48))) == 5


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


def test_leases_are_renewed_again_whatever_one_renewal_meets(database: Database, clock: Clock) -> None:
    ledger = ledger_of(database, clock)
    claim = ledger.claim(ledger.accept(order(), "owner").id)
    assert claim is not None

    class Book:
        renewals = 0

        def renew(self, _claims: Sequence[Claim]) -> None:
            self.renewals += 1
            if self.renewals == 1:
                raise RuntimeError("something new")

    book = Book()
    leases = Leases(cast(JobLedger, book), interval_seconds=0.01)
    with closing(leases), leases.held(claim):
        wait_until(lambda: book.renewals > 1)


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
