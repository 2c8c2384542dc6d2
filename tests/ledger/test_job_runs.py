"""What becomes of a job whose attempt fails: it is begun again where that may help, else it has failed."""

from __future__ import annotations

from contextlib import closing
from typing import Any, cast

import pytest
from sqlalchemy import select

from tests.support.clocks import Clock
from tests.support.ledgers import LEASE_SECONDS, Queue, ledger_of, order
from tests.support.processes import wait_until
from thumbnailer.database import Database
from thumbnailer.errors import (
    BudgetSpent,
    CaptureLost,
    DatabaseUnavailable,
    ImageTooLarge,
    NotARealPicture,
    Overloaded,
    StorageUnavailable,
    TargetStatus,
    ThumbnailerError,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamFailed,
)
from thumbnailer.jobs import Claim, JobOrder, JobResult, JobState, running
from thumbnailer.jobs.deliveries import DeliveryLedger
from thumbnailer.jobs.leases import Leases
from thumbnailer.jobs.running import LONGEST_PAUSE_SECONDS, DeliveryRunner, JobRunner, Studio
from thumbnailer.jobs.tables import jobs


@pytest.fixture(autouse=True)
def _true_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of all other tests are short."""
    monkeypatch.setattr(running, "FIRST_PAUSE_SECONDS", 5.0)


class Unlucky:
    """A studio in which one thing after the other goes wrong."""

    def __init__(self, errors: list[Exception]) -> None:
        self._errors = iter(errors)

    def bring(self, _order: JobOrder, _owner: str) -> JobResult:
        raise next(self._errors)


def no_new_one(cause: ThumbnailerError) -> NotARealPicture:
    """There is an old picture, which is not stored for good."""
    refusal = NotARealPicture()
    refusal.__cause__ = cause
    return refusal


def pauses_after(errors: list[Exception], database: Database, clock: Clock) -> tuple[list[float], list[str]]:
    """For how many seconds a job is put back after each attempt until it has failed; and what is counted."""
    ledger, counted = ledger_of(database, clock), list[str]()
    job, pauses = ledger.accept(order(), "owner"), list[float]()
    with closing(Leases(ledger, interval_seconds=3600)) as leases:
        studio = cast(Studio, Unlucky(errors))
        runner = JobRunner(ledger, leases, studio, Queue(), retries=2, count=counted.append)
        for _ in errors:
            runner.run(job.id)
            found = ledger.find(job.id)
            assert found is not None
            if found.state is JobState.FAILED:
                break
            assert found.state is JobState.PENDING
            with database.reading() as connection:
                pauses.append(connection.execute(select(jobs.c.due_at)).scalar_one() - clock.now)
            clock.turn(pauses[-1])
    return pauses, counted


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (UpstreamFailed("It is down."), [5]),
        (UpstreamBusy("Busy.", retry_after_seconds=40), [40]),
        (UpstreamBusy("Busy.", retry_after_seconds=86_400), [LONGEST_PAUSE_SECONDS]),
        (Overloaded("Full."), [5]),
        (StorageUnavailable("It is down."), [30]),
        (CaptureLost("The page was purged."), [5]),
        (no_new_one(UpstreamBusy("Busy.", retry_after_seconds=40)), [40]),
        (no_new_one(TargetStatus(404)), []),
        (TargetStatus(503), []),
        (UpstreamAuth("The key is refused."), []),
        (ImageTooLarge("Too many pixels."), []),
        (BudgetSpent("All are taken.", retry_after_seconds=60), []),
        (ZeroDivisionError(), []),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_may_pass_is_tried_again_and_everything_else_ends_the_job(
    error: Exception, pauses: list[float], database: Database, clock: Clock
) -> None:
    found, counted = pauses_after([error, TargetStatus(404)], database, clock)
    assert found == pauses
    assert counted == [*["postponed"] * len(pauses), "failed"]


def test_pauses_grow_and_come_to_an_end(database: Database, clock: Clock) -> None:
    found, _ = pauses_after([UpstreamFailed("It is down.")] * 5, database, clock)
    assert found == [5, 10]


def test_a_job_is_its_workers_own_as_long_as_it_takes_and_its_message_is_queued_at_once(
    database: Database, clock: Clock
) -> None:
    ledger, queue = ledger_of(database, clock), Queue()
    job, claims = ledger.accept(order("https://receiver.example/"), "owner"), list[Claim | None]()

    class Slow:
        def bring(self, _order: JobOrder, _owner: str) -> JobResult:
            clock.turn(LEASE_SECONDS - 1)
            wait_until(lambda: due_at() > clock.now + 1)
            clock.turn(LEASE_SECONDS - 1)
            claims.append(ledger.claim(job.id))
            raise TargetStatus(404)

    def due_at() -> float:
        with database.reading() as connection:
            return float(connection.execute(select(jobs.c.due_at)).scalar_one())

    with closing(Leases(ledger, interval_seconds=0.01)) as leases:
        JobRunner(ledger, leases, cast(Studio, Slow()), queue, retries=0, count=list[str]().append).run(
            job.id
        )
    assert (claims, len(queue.deliveries)) == ([None], 1)


def test_an_attempt_at_a_message_that_breaks_leaves_its_room_to_the_next() -> None:
    class Gone:
        def claim(self, _delivery_id: str) -> None:
            raise DatabaseUnavailable("It does not answer.")

    nobody: Any = None
    runner = DeliveryRunner(cast(DeliveryLedger, Gone()), nobody, nobody, at_once=1)
    for _ in range(2):
        with pytest.raises(DatabaseUnavailable):
            runner.run("msg_1")
