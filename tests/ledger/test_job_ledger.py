"""What is written of jobs and messages as time passes: the next try, and who gives up."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update

from config import load_settings
from tests.support.clocks import Clock
from tests.support.ledgers import (
    ATTEMPTS,
    HOUR,
    LEASE_SECONDS,
    Queue,
    failed_job,
    ledger_of,
    order,
    sweeper_of,
)
from thumbnailer.database import Database
from thumbnailer.engines import DatabaseBounds
from thumbnailer.errors import DatabaseUnavailable, TargetForbidden, TargetStatus, UpstreamFailed
from thumbnailer.jobs import BatchOrder, JobState
from thumbnailer.jobs import deliveries as book_of_messages
from thumbnailer.jobs.deliveries import JITTER, DeliveryLedger, DeliveryState
from thumbnailer.jobs.tables import jobs
from thumbnailer.schema import upgrade
from thumbnailer.webhooks import Attempt, Verdict

FAILED = Attempt(Verdict.FAILED, 500)


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


def test_a_sign_of_life_is_for_the_jobs_in_hand_and_no_others(database: Database, clock: Clock) -> None:
    ledger = ledger_of(database, clock)
    in_hand = [ledger.claim(ledger.accept(order(), "owner").id) for _ in range(2)]
    dead, put_back = (ledger.claim(ledger.accept(order(), "owner").id) for _ in range(2))
    alive = [claim for claim in (*in_hand, put_back) if claim is not None]
    assert put_back is not None
    assert dead is not None
    ledger.postpone(put_back, UpstreamFailed("The provider is down."), LEASE_SECONDS)
    clock.turn(LEASE_SECONDS - 1)
    ledger.renew(alive)  # the one that was put back has not been let go of yet
    clock.turn(1)
    begun = {claim.job.id for each in (*alive, dead) if (claim := ledger.claim(each.job.id))}
    assert begun == {dead.job.id, put_back.job.id}


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
    assert [batch.completed_at, *(job.completed_at for job in batch.jobs)] == [clock.now] * 3
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


def test_who_sends_a_message_again_begins_anew_whatever_an_earlier_attempt_comes_to(
    database: Database, clock: Clock
) -> None:
    job = failed_job(ledger_of(database, clock), "https://receiver.example/")
    deliveries = DeliveryLedger(database, pauses_seconds=(HOUR,), lease_seconds=30, clock=clock)
    (message,) = deliveries.latest(job.owner)

    def state_after(*attempts: Attempt) -> DeliveryState:
        for attempt in attempts:
            claim = deliveries.claim(message.id)
            assert claim is not None
            deliveries.record(claim, attempt, 0.1)
            clock.turn(2 * HOUR)
        (found,) = deliveries.latest(job.owner)
        return found.state

    assert state_after(FAILED, FAILED) is DeliveryState.FAILED
    deliveries.redeliver(message.id)
    late = deliveries.claim(message.id)
    assert late is not None
    deliveries.redeliver(message.id)
    deliveries.record(late, Attempt(Verdict.GONE, 410), 0.1)
    (again,) = deliveries.latest(job.owner)
    assert (again.state, again.due_at, again.ended_at) == (DeliveryState.PENDING, clock.now, None)
    assert state_after(FAILED) is DeliveryState.PENDING, "there is another attempt"
    assert state_after(Attempt(Verdict.DELIVERED, 204)) is DeliveryState.DELIVERED


def test_the_log_of_a_message_that_is_sent_again_and_again_has_an_end(
    any_database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book_of_messages, "MAX_LOGGED", 3)
    ledger = ledger_of(any_database, clock)
    jobs_told = [failed_job(ledger, "https://receiver.example/") for _ in range(2)]
    deliveries = DeliveryLedger(any_database, pauses_seconds=(), lease_seconds=30, clock=clock)
    messages = deliveries.latest(jobs_told[0].owner)
    for number in range(5):
        for message in messages:
            deliveries.redeliver(message.id)
            claim = deliveries.claim(message.id)
            assert claim is not None
            deliveries.record(claim, Attempt(Verdict.FAILED, 500 + number), 0.1)
    for message in deliveries.latest(jobs_told[0].owner):
        assert [attempt.status for attempt in message.log] == [502, 503, 504]


def test_the_latest_messages_are_told_and_no_more(database: Database, clock: Clock) -> None:
    ledger, told = ledger_of(database, clock), list[str]()
    for _ in range(3):
        told.insert(0, failed_job(ledger, "https://receiver.example/").id)
        clock.turn(1)
    deliveries = DeliveryLedger(database, pauses_seconds=(), lease_seconds=30, clock=clock)
    newest = deliveries.latest("owner", None, 2)
    assert [each.subject for each in newest] == told[:2]
    rest = deliveries.latest("owner", (newest[-1].created_at, newest[-1].id))
    assert [each.subject for each in rest] == told[2:]


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
    job = ledger.accept(order("https://receiver.example/"), "owner")
    for _ in range(ATTEMPTS):
        assert ledger.claim(job.id) is not None
        assert ledger.claim(job.id) is None, "somebody is at it"
        clock.now += LEASE_SECONDS + 1
    sweeper_of(database, ledger, clock, queue).sweep()
    assert len(queue.deliveries) == 1
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
