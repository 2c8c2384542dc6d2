"""The book of jobs: what was accepted, who is doing it, how it ended.

Every change of state is one conditional statement or one transaction, so that of many workers that
try the same thing one succeeds. A worker holds a job by a lease that it renews; when it dies, the
lease runs out and another begins the job again. What a job's end sets off (the end of its batch, a
message to a webhook) is written in the transaction that ends it: neither comes without the other.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, func, or_, select, update

from thumbnailer.database import Database, take_turns
from thumbnailer.errors import Overloaded, ThumbnailerError
from thumbnailer.failures import describe
from thumbnailer.jobs import Backlog, Batch, BatchOrder, Claim, Job, JobOrder, JobResult, JobState
from thumbnailer.jobs.events import Announcer
from thumbnailer.jobs.order_keys import OrderKey, find_order, note_order
from thumbnailer.jobs.rows import new_id, read_batch, read_job, write_order
from thumbnailer.jobs.tables import batches, jobs

RETRY_AFTER_SECONDS = 10.0

UNFINISHED = (JobState.PENDING, JobState.PROCESSING)


#: The ids of the messages to webhooks that an end has set off.
Messages = tuple[str, ...]

#: The advisory lock of who counts the queue before adding to it; any number that nobody else uses.
ORDERING_LOCK = 7_206_534_118


class JobLedger:
    """Reads and writes jobs; safe to use from many threads and processes.

    ``max_pending`` bounds the jobs that nobody has begun, ``max_attempts`` how often one is begun;
    ``lease_seconds`` is how long a job is its worker's without a sign of life; ``announce`` writes the
    messages about an end.
    """

    def __init__(
        self,
        database: Database,
        *,
        max_pending: int,
        max_attempts: int,
        lease_seconds: float,
        announce: Announcer,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._max_pending = max_pending
        self._max_attempts = max_attempts
        self._lease_seconds = lease_seconds
        self._announce = announce
        self._clock = clock

    def accept(self, order: JobOrder, owner: str, key: OrderKey | None = None) -> Job:
        """Write a job down, or find the one that the same order with this ``key`` has brought before.

        Raises Overloaded where too many wait, IdempotencyMismatch, DatabaseUnavailable.
        """
        now = self._clock()
        with self._database.transaction() as connection:
            take_turns(connection, ORDERING_LOCK)
            known = _job_row(connection, find_order(connection, key, now))
            if known is not None:
                return read_job(known)
            self._refuse_overload(connection, 1)
            job = self._write(connection, [order], owner, None)[0]
            note_order(connection, key, job.id, now)
            return job

    def accept_batch(
        self, order: BatchOrder, owner: str, key: OrderKey | None = None
    ) -> tuple[Batch, Messages]:
        """Write all jobs of a batch down, or none; with a ``key`` as ``accept``. Raises as that does.

        Jobs that are refused have failed from the start; where all of them are, the batch has ended.
        """
        now, batch_id = self._clock(), new_id("bat")
        with self._database.transaction() as connection:
            take_turns(connection, ORDERING_LOCK)
            known = find_order(connection, key, now)
            if known is not None and _has_batch(connection, known):
                return self._read_batch(connection, known), ()
            self._refuse_overload(connection, len(order.jobs))
            note_order(connection, key, batch_id, now)
            row = {
                "id": batch_id,
                "owner": owner,
                "total": len(order.jobs),
                "ended": sum(each.refusal is not None for each in order.jobs),
                "webhook_url": order.webhook_url,
                "created_at": now,
                "completed_at": None,
            }
            connection.execute(batches.insert().values(**row))
            self._write(connection, order.jobs, owner, batch_id)
            messages = self._complete_batch(connection, batch_id, now)
            return self._read_batch(connection, batch_id), messages

    def find(self, job_id: str) -> Job | None:
        """The job of that id."""
        with self._database.reading() as connection:
            row = _job_row(connection, job_id)
        return read_job(row) if row else None

    def find_batch(self, batch_id: str) -> Batch | None:
        """The batch of that id with all its jobs."""
        with self._database.reading() as connection:
            return self._read_batch(connection, batch_id) if _has_batch(connection, batch_id) else None

    def claim(self, job_id: str) -> Claim | None:
        """Begin a job; None where it has ended, is another's, or is not due yet.

        What nobody has begun is due at once: it may come from a machine whose clock is a little ahead.
        """
        now, token = self._clock(), secrets.token_urlsafe(16)
        with self._database.transaction() as connection:
            claimed = connection.execute(
                update(jobs)
                .where(
                    jobs.c.id == job_id,
                    jobs.c.state.in_(UNFINISHED),
                    or_(jobs.c.due_at <= now, jobs.c.attempts == 0),
                    jobs.c.attempts < self._max_attempts,
                )
                .values(
                    state=JobState.PROCESSING,
                    claim=token,
                    due_at=now + self._lease_seconds,
                    attempts=jobs.c.attempts + 1,
                    started_at=func.coalesce(jobs.c.started_at, now),
                )
                .returning(jobs)
            )
            row = claimed.mappings().one_or_none()
        return Claim(read_job(row), token) if row else None

    def renew(self, claims: Sequence[Claim]) -> None:
        """Give a sign of life for jobs that are being done."""
        with self._database.transaction() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.claim.in_([claim.token for claim in claims]))
                .values(due_at=self._clock() + self._lease_seconds)
            )

    def complete(self, claim: Claim, result: JobResult) -> Messages:
        """End a job with its picture; nothing happens where the claim was lost meanwhile."""
        return self._end_claimed(claim, JobState.COMPLETED, {"result": asdict(result), "error": None})

    def fail(self, claim: Claim, error: ThumbnailerError) -> Messages:
        """End a job with an error; nothing happens where the claim was lost meanwhile."""
        return self._end_claimed(claim, JobState.FAILED, {"error": describe(error)})

    def postpone(self, claim: Claim, error: ThumbnailerError, pause_seconds: float) -> None:
        """Put a job back: it is tried again after a pause; ``error`` is why."""
        with self._database.transaction() as connection:
            connection.execute(
                update(jobs)
                .where(jobs.c.claim == claim.token, jobs.c.state == JobState.PROCESSING)
                .values(
                    state=JobState.PENDING,
                    claim=None,
                    due_at=self._clock() + pause_seconds,
                    error=describe(error),
                )
            )

    def give_up(self, job_id: str, error: ThumbnailerError) -> Messages:
        """End a job that is not begun any more; nothing happens where its worker lives after all."""
        is_dead = and_(jobs.c.state.in_(UNFINISHED), jobs.c.due_at <= self._clock())
        with self._database.transaction() as connection:
            return self._end(connection, job_id, is_dead, JobState.FAILED, {"error": describe(error)})

    def cancel(self, job_id: str) -> Messages:
        """End a job that nobody has begun; nothing happens to any other."""
        is_waiting = jobs.c.state == JobState.PENDING
        with self._database.transaction() as connection:
            return self._end(connection, job_id, is_waiting, JobState.CANCELLED, {})

    def backlog(self, workers: int) -> Backlog:
        """How much is still to be done, by so many ``workers``."""
        with self._database.reading() as connection:
            counted = connection.execute(
                select(jobs.c.state, func.count(), func.min(jobs.c.created_at))
                .where(jobs.c.state.in_(UNFINISHED))
                .group_by(jobs.c.state)
            ).all()
        now, counts = self._clock(), {state: count for state, count, _ in counted}
        oldest = min((first for _, _, first in counted), default=now)
        return Backlog(
            counts.get(JobState.PENDING, 0),
            counts.get(JobState.PROCESSING, 0),
            max(0.0, now - oldest),
            workers,
        )

    def _refuse_overload(self, connection: Connection, coming: int) -> None:
        pending = select(func.count()).where(jobs.c.state == JobState.PENDING)
        if connection.execute(pending).scalar_one() + coming > self._max_pending:
            raise Overloaded(
                "Too many jobs are waiting already. Try again later.", retry_after_seconds=RETRY_AFTER_SECONDS
            )

    def _write(
        self, connection: Connection, orders: Sequence[JobOrder], owner: str, batch_id: str | None
    ) -> list[Job]:
        now = self._clock()
        rows = [
            {
                "id": new_id("job"),
                "owner": owner,
                "batch_id": batch_id,
                "position": position,
                "state": JobState.FAILED if order.refusal else JobState.PENDING,
                "attempts": 0,
                "due_at": now,
                "queued_at": now,
                "created_at": now,
                "started_at": None,
                "completed_at": now if order.refusal else None,
                "error": describe(order.refusal) if order.refusal else None,
                "result": None,
                **write_order(order),
            }
            for position, order in enumerate(orders)
        ]
        connection.execute(jobs.insert(), rows)
        return [read_job(row) for row in rows]

    def _end_claimed(self, claim: Claim, state: JobState, values: Mapping[str, Any]) -> Messages:
        held = and_(jobs.c.claim == claim.token, jobs.c.state == JobState.PROCESSING)
        with self._database.transaction() as connection:
            return self._end(connection, claim.job.id, held, state, values)

    def _end(
        self, connection: Connection, job_id: str, condition: Any, state: JobState, values: Mapping[str, Any]
    ) -> Messages:
        now = self._clock()
        ended = connection.execute(
            update(jobs)
            .where(jobs.c.id == job_id, condition)
            .values(state=state, completed_at=now, claim=None, **values)
            .returning(jobs)
        )
        row = ended.mappings().one_or_none()
        if row is None:
            return ()
        job = read_job(row)
        messages = self._announce.job_ended(connection, job, now)
        if job.batch_id is not None:
            messages += self._count_ended(connection, job.batch_id, now)
        return messages

    def _count_ended(self, connection: Connection, batch_id: str, now: float) -> Messages:
        """Count first, look then: the count locks the row, so that one of the last two sees both."""
        one_more = update(batches).where(batches.c.id == batch_id).values(ended=batches.c.ended + 1)
        connection.execute(one_more)
        return self._complete_batch(connection, batch_id, now)

    def _complete_batch(self, connection: Connection, batch_id: str, now: float) -> Messages:
        """End a batch if all its jobs have ended."""
        has_just_ended = and_(batches.c.ended >= batches.c.total, batches.c.completed_at.is_(None))
        completed = connection.execute(
            update(batches)
            .where(batches.c.id == batch_id, has_just_ended)
            .values(completed_at=now)
            .returning(batches.c.webhook_url)
        ).first()
        if completed is None:
            return ()
        batch = self._read_batch(connection, batch_id)
        return self._announce.batch_ended(connection, batch, completed.webhook_url, now)

    def _read_batch(self, connection: Connection, batch_id: str) -> Batch:
        row = connection.execute(select(batches).where(batches.c.id == batch_id)).mappings().one()
        members = select(jobs).where(jobs.c.batch_id == batch_id).order_by(jobs.c.position)
        return read_batch(row, connection.execute(members).mappings().all())


def _job_row(connection: Connection, job_id: str | None) -> RowMapping | None:
    return connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one_or_none()


def _has_batch(connection: Connection, batch_id: str) -> bool:
    return connection.execute(select(batches.c.id).where(batches.c.id == batch_id)).first() is not None
