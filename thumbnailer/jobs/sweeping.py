"""Finds work that no queue holds any more: put back, lost with its worker, or with the queue itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Table, and_, case, delete, or_, select, update

from thumbnailer.database import Database
from thumbnailer.errors import UpstreamFailed
from thumbnailer.jobs import FINAL_STATES
from thumbnailer.jobs.ledger import UNFINISHED, JobLedger
from thumbnailer.jobs.order_keys import forget_orders
from thumbnailer.jobs.queue import WorkQueue
from thumbnailer.jobs.tables import batches, deliveries, jobs
from thumbnailer.jobs.unqueued import Unqueued
from thumbnailer.model import CLOCK_MARGIN_SECONDS
from thumbnailer.pages import PageState
from thumbnailer.pages.tables import pages

log = structlog.get_logger(__name__)

#: What one sweep puts into the queue at most; the next goes on.
MAX_QUEUED = 200
#: As many of a kind are forgotten in one sweep: all that a month without sweeps has left would outlast the
#: database's patience, be it done again and again.
MAX_FORGOTTEN = 1000
#: A batch has up to a hundred jobs, which the database deletes with it.
MAX_FORGOTTEN_BATCHES = 10

#: Work that was put into the queue so long ago, while the queue is empty, is not in it any more.
LOST_SECONDS = 10.0

#: And after so long it is put there anew in any case: a queue that is never empty must not hide what it lost.
#: What stands in it twice is done once.
FORGOTTEN_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRules:
    """``max_attempts`` bounds how often a job is begun; what has ended is kept ``retention_seconds``.

    ``lease_seconds`` is how long anything may be in hand at most without a sign of life.
    """

    max_attempts: int
    retention_seconds: float
    lease_seconds: float


class Sweeper:
    """Brings the queue in line with the database; any number of processes may sweep."""

    def __init__(
        self,
        database: Database,
        ledger: JobLedger,
        queue: WorkQueue,
        unqueued: Unqueued,
        rules: SweepRules,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._ledger = ledger
        self._queue = queue
        self._unqueued = unqueued
        self._rules = rules
        self._clock = clock
        self._swept_at = math.inf

    def sweep(self) -> None:
        """Queue what is due, give up what was begun too often, forget what ended long ago."""
        self._unqueued.settle()
        self._heed_clock()
        self._give_up()
        is_queue_empty = self._queue.is_empty()
        if is_queue_empty is not None:
            self._fill(is_queue_empty=is_queue_empty)
        self._forget()

    def _fill(self, *, is_queue_empty: bool) -> None:
        for job_id in self._due(jobs, UNFINISHED, is_queue_empty=is_queue_empty):
            self._queue.put_job(job_id)
        for delivery_id in self._due(deliveries, ("pending",), is_queue_empty=is_queue_empty):
            self._queue.put_delivery(delivery_id)
        for page_id in self._due(pages, tuple(PageState), is_queue_empty=is_queue_empty):
            self._queue.put_page(page_id)

    def has_work(self) -> bool:
        """Whether anything waits to be done, now or later."""
        waiting = select(jobs.c.id).where(jobs.c.state.in_(UNFINISHED)).limit(1)
        unsent = select(deliveries.c.id).where(deliveries.c.state == "pending").limit(1)
        kept = select(pages.c.id).limit(1)
        with self._database.reading() as connection:
            return any(connection.execute(each).first() for each in (waiting, unsent, kept))

    def _due(self, table: Table, states: tuple[str, ...], *, is_queue_empty: bool) -> list[str]:
        """What is due and was not queued since it became so; if the queue is empty, what was lost with it."""
        now = self._clock()
        patience = LOST_SECONDS if is_queue_empty else FORGOTTEN_SECONDS
        unqueued: ColumnElement[bool] = or_(
            table.c.queued_at.is_(None),
            table.c.queued_at < table.c.due_at,
            table.c.queued_at < now - patience,
        )
        is_due = and_(table.c.state.in_(states), table.c.due_at <= now, unqueued)
        first = select(table.c.id).where(is_due).order_by(table.c.due_at).limit(MAX_QUEUED)
        queued = update(table).where(table.c.id.in_(first), is_due).values(queued_at=now)
        with self._database.transaction() as connection:
            return list(connection.execute(queued.returning(table.c.id)).scalars())

    def _heed_clock(self) -> None:
        """Where the clock was set back, by now or since the last process ended: wait no longer than it says.

        What was queued in the future is due in a future that is further away than anybody meant.
        """
        now = self._clock()
        if now < self._swept_at - CLOCK_MARGIN_SECONDS:
            self._wait_no_longer_than_from(now)
        self._swept_at = now

    def _wait_no_longer_than_from(self, now: float) -> None:
        with self._database.transaction() as connection:
            for table in (jobs, deliveries, pages):
                due_at = case(
                    (table.c.due_at <= now, table.c.due_at),
                    (table.c.claim.is_not(None), now + self._rules.lease_seconds),
                    else_=now,
                )
                is_ahead = table.c.queued_at > now + CLOCK_MARGIN_SECONDS
                connection.execute(update(table).where(is_ahead).values(due_at=due_at, queued_at=None))

    def _give_up(self) -> None:
        """End jobs that were begun as often as may be: their workers died, or more was allowed before."""
        hopeless = select(jobs.c.id).where(
            jobs.c.state.in_(UNFINISHED),
            jobs.c.due_at <= self._clock(),
            jobs.c.attempts >= self._rules.max_attempts,
        )
        with self._database.reading() as connection:
            found = list(connection.execute(hopeless.limit(MAX_QUEUED)).scalars())
        for job_id in found:
            log.error("job_given_up", job_id=job_id, attempts=self._rules.max_attempts)
            message = f"The capture was begun {self._rules.max_attempts} times and never came to an end."
            for delivery_id in self._ledger.give_up(job_id, UpstreamFailed(message)):
                self._queue.put_delivery(delivery_id)

    def _forget(self) -> None:
        """The oldest first, no more than there is time for; the rest has its turn with the next sweeps."""
        alone: Any = and_(jobs.c.batch_id.is_(None), jobs.c.state.in_(FINAL_STATES))
        old_jobs = self._oldest(jobs, jobs.c.completed_at, alone)
        old_batches = self._oldest(batches, batches.c.completed_at).limit(MAX_FORGOTTEN_BATCHES)
        old_deliveries = self._oldest(deliveries, deliveries.c.ended_at)
        with self._database.transaction() as connection:
            connection.execute(delete(jobs).where(jobs.c.id.in_(old_jobs)))
            connection.execute(delete(batches).where(batches.c.id.in_(old_batches)))
            connection.execute(delete(deliveries).where(deliveries.c.id.in_(old_deliveries)))
            forget_orders(connection, self._clock())

    def _oldest(self, table: Table, ended_at: Any, *more: ColumnElement[bool]) -> Any:
        """The ids of what ended before all that is kept."""
        before = self._clock() - self._rules.retention_seconds
        return select(table.c.id).where(ended_at < before, *more).order_by(ended_at).limit(MAX_FORGOTTEN)
