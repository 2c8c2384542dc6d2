"""Those who bring jobs, and what goes on beside those who do them: leases, sweeps, the roster."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, cast

from sqlalchemy import insert, select

from tests.support.clocks import Clock
from tests.support.ledgers import Queue, ledger_of, order
from tests.support.processes import wait_until
from thumbnailer.database import Database
from thumbnailer.errors import DatabaseUnavailable, TargetForbidden
from thumbnailer.jobs import BatchOrder, Claim
from thumbnailer.jobs.deliveries import DeliveryLedger
from thumbnailer.jobs.desk import JobDesk
from thumbnailer.jobs.housekeeping import Housekeeper
from thumbnailer.jobs.leases import Leases
from thumbnailer.jobs.ledger import JobLedger
from thumbnailer.jobs.roster import ABSENT_SECONDS, Roster
from thumbnailer.jobs.sweeping import Sweeper
from thumbnailer.jobs.tables import workers


def test_who_brings_work_queues_it_at_once(database: Database, clock: Clock) -> None:
    """A sweep would find it, but only after some seconds."""
    ledger, queue, woken = ledger_of(database, clock), Queue(), list[None]()
    messages = DeliveryLedger(database, pauses_seconds=(), lease_seconds=30, clock=clock)
    nobody: Any = None
    desk = JobDesk(ledger, messages, nobody, Roster(database), queue, wake=lambda: woken.append(None))
    refused = replace(order(), request=None, refusal=TargetForbidden("No."))
    whole = BatchOrder(jobs=[order(), refused], webhook_url="https://receiver.example/")
    job, batch = desk.accept(order(), "owner"), desk.accept_batch(whole, "owner")
    assert (queue.jobs, queue.deliveries, len(woken)) == ([job.id, batch.jobs[0].id], [], 2)
    desk.cancel(batch.jobs[0].id)
    desk.accept_batch(replace(whole, jobs=[refused]), "owner")
    clock.turn(1)
    told = [each.id for each in messages.latest("owner")]
    assert (sorted(queue.deliveries), len(woken)) == (sorted(told), 4)
    desk.redeliver(told[0])
    desk.redeliver("msg_none")
    assert (queue.deliveries[2:], len(woken)) == (told[:1], 5)


def test_a_sweep_that_breaks_is_followed_by_another_and_whoever_ends_signs_off(database: Database) -> None:
    class Broken:
        sweeps = 0

        def sweep(self) -> None:
            self.sweeps += 1
            raise RuntimeError("something new") if self.sweeps == 1 else DatabaseUnavailable("gone")

    broken, roster = Broken(), Roster(database)
    housekeeper = Housekeeper(cast(Sweeper, broken), roster, lambda: "worker", 0.01, lambda: None)
    housekeeper.start()
    wait_until(lambda: broken.sweeps > 2)
    assert roster.count() == 1
    housekeeper.close()
    wait_until(lambda: roster.count() == 0)


def test_a_worker_that_was_not_seen_for_long_is_counted_no_more_and_then_forgotten(
    database: Database,
) -> None:
    roster, long_ago = Roster(database), time.time() - ABSENT_SECONDS
    with database.transaction() as connection:
        for worker, seen_at in (("dead", long_ago), ("forgotten", long_ago - 10 * ABSENT_SECONDS)):
            connection.execute(insert(workers).values(id=worker, seen_at=seen_at))
    assert roster.count() == 0
    roster.sign("alive")
    assert roster.count() == 1
    with database.reading() as connection:
        assert set(connection.execute(select(workers.c.id)).scalars()) == {"alive", "dead"}


def test_leases_are_renewed_again_whatever_one_renewal_meets(database: Database, clock: Clock) -> None:
    ledger = ledger_of(database, clock)
    claim = ledger.claim(ledger.accept(order(), "owner").id)
    assert claim is not None

    class Book:
        renewals = 0

        def renew(self, claims: Sequence[Claim]) -> None:
            self.renewals += 1
            self.held = [each.job.id for each in claims]
            if self.renewals == 1:
                raise RuntimeError("something new")

    book, other = Book(), replace(claim, token="another")
    with closing(Leases(cast(JobLedger, book), interval_seconds=0.01)) as leases:
        with leases.held(claim), leases.held(other):
            wait_until(lambda: book.renewals > 1)
            assert book.held == [claim.job.id] * 2
        with leases.held(other):
            wait_until(lambda: len(book.held) == 1, what="an end of what is in hand no more")
