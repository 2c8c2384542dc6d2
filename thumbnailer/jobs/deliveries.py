"""The book of webhook messages: what is to be sent, when next, and how each attempt went."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, or_, select, update

from thumbnailer.database import MAX_LISTED, Database, Place, newest_first
from thumbnailer.jobs.tables import deliveries, delivery_attempts
from thumbnailer.webhooks import Attempt, Message, Verdict

#: A pause is made longer by up to this part of itself, so that receivers are not called in step.
JITTER = 0.1

#: What there is no room to send now comes again after one to two such pauses, in seconds, in any order.
FULL_PAUSE_SECONDS = 1.0

#: Attempts of one message that are remembered, so that nobody fills the database with redeliveries.
MAX_LOGGED = 50


class DeliveryState(StrEnum):
    """Where a message stands; the last three are final until somebody asks for it to be sent again."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedAttempt:
    """One attempt: when (Unix time in seconds), how it ended, how many seconds it took."""

    at: float
    status: int | None
    trouble: str | None
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A message and how it fared; ``subject`` is the id of what it is about, times are Unix time."""

    id: str
    owner: str
    event: str
    subject: str
    url: str
    body: str
    state: DeliveryState
    attempts: int
    created_at: float
    due_at: float
    ended_at: float | None
    log: Sequence[LoggedAttempt] = ()


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """The right to make one attempt; ``token`` proves it."""

    message: Message
    owner: str
    attempts: int
    token: str


class DeliveryLedger:
    """Reads and writes messages; safe to use from many threads and processes.

    ``pauses_seconds`` are those between attempts, so that there is one attempt more than pauses;
    ``lease_seconds`` has to be longer than an attempt may take.
    """

    def __init__(
        self,
        database: Database,
        *,
        pauses_seconds: Sequence[float],
        lease_seconds: float,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._database = database
        self._pauses_seconds = tuple(pauses_seconds)
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._jitter = jitter

    def claim(self, delivery_id: str) -> DeliveryClaim | None:
        """Begin an attempt; None where none is due, or another makes it.

        The first is due at once: the message may come from a machine whose clock is a little ahead.
        """
        now, token = self._clock(), secrets.token_urlsafe(16)
        with self._database.transaction() as connection:
            claimed = connection.execute(
                update(deliveries)
                .where(_is_due(delivery_id, now))
                .values(claim=token, due_at=now + self._lease_seconds, attempts=deliveries.c.attempts + 1)
                .returning(deliveries)
            )
            row = claimed.one_or_none()
        if row is None:
            return None
        return DeliveryClaim(Message(row.id, row.url, row.body), row.owner, row.attempts, token)

    def put_off(self, delivery_id: str) -> None:
        """Make an attempt that is due now due a little later: a sweep has it made then."""
        now = self._clock()
        later = now + FULL_PAUSE_SECONDS * (1 + self._jitter(0, 1))
        with self._database.transaction() as connection:
            due = update(deliveries).where(_is_due(delivery_id, now))
            connection.execute(due.values(due_at=later))

    def record(self, claim: DeliveryClaim, attempt: Attempt, seconds: float) -> None:
        """Write down how an attempt went, and when the next is due."""
        now = self._clock()
        with self._database.transaction() as connection:
            connection.execute(
                delivery_attempts.insert().values(
                    delivery_id=claim.message.id,
                    at=now,
                    status=attempt.status,
                    trouble=attempt.trouble,
                    seconds=seconds,
                )
            )
            _forget_old_attempts(connection, claim.message.id)
            connection.execute(
                update(deliveries)
                .where(deliveries.c.id == claim.message.id, deliveries.c.claim == claim.token)
                .values(claim=None, **self._standing(claim, attempt, now))
            )

    def find(self, delivery_id: str) -> Delivery | None:
        """The message of that id, with its log."""
        found = self._select(select(deliveries).where(deliveries.c.id == delivery_id))
        return found[0] if found else None

    def latest(self, owner: str, after: Place | None = None, most: int = MAX_LISTED) -> list[Delivery]:
        """An owner's messages, the newest first: ``most`` of those that come ``after`` a place."""
        mine = select(deliveries).where(deliveries.c.owner == owner)
        return self._select(newest_first(mine, deliveries, after, most))

    def count(self) -> dict[DeliveryState, int]:
        """How many messages stand in each state, of those that are still kept."""
        by_state = select(deliveries.c.state, func.count().label("number")).group_by(deliveries.c.state)
        with self._database.reading() as connection:
            counted = {row.state: row.number for row in connection.execute(by_state)}
        return {state: counted.get(state, 0) for state in DeliveryState}

    def redeliver(self, delivery_id: str) -> bool:
        """Send a message again from the start of its pauses; False where there is no such message."""
        with self._database.transaction() as connection:
            updated = connection.execute(
                update(deliveries)
                .where(deliveries.c.id == delivery_id)
                .values(
                    state=DeliveryState.PENDING,
                    attempts=0,
                    due_at=self._clock(),
                    queued_at=None,
                    claim=None,
                    ended_at=None,
                )
            )
        return updated.rowcount == 1

    def _standing(self, claim: DeliveryClaim, attempt: Attempt, now: float) -> dict[str, Any]:
        """What an attempt makes of the message."""
        if attempt.verdict is not Verdict.FAILED or claim.attempts > len(self._pauses_seconds):
            return {"state": DeliveryState(attempt.verdict), "ended_at": now}
        pause = self._pauses_seconds[claim.attempts - 1]
        return {"due_at": now + pause + self._jitter(0, JITTER * pause)}

    def _select(self, wanted: Select[Any]) -> list[Delivery]:
        with self._database.reading() as connection:
            rows = connection.execute(wanted).mappings().all()
            ids = [row["id"] for row in rows]
            logged = connection.execute(
                select(delivery_attempts)
                .where(delivery_attempts.c.delivery_id.in_(ids))
                .order_by(delivery_attempts.c.id)
            ).mappings()
            log: dict[str, list[LoggedAttempt]] = {each: [] for each in ids}
            for entry in logged:
                log[entry["delivery_id"]].append(_read_attempt(entry))
        return [_read_delivery(row, log[row["id"]]) for row in rows]


def _is_due(delivery_id: str, now: float) -> ColumnElement[bool]:
    return and_(
        deliveries.c.id == delivery_id,
        deliveries.c.state == DeliveryState.PENDING,
        or_(deliveries.c.due_at <= now, deliveries.c.attempts == 0),
    )


def _forget_old_attempts(connection: Connection, delivery_id: str) -> None:
    """Keep the newest of a message's attempts."""
    its = delivery_attempts.c.delivery_id == delivery_id
    newest = (
        select(delivery_attempts.c.id).where(its).order_by(delivery_attempts.c.id.desc()).limit(MAX_LOGGED)
    )
    connection.execute(delete(delivery_attempts).where(its, delivery_attempts.c.id.not_in(newest)))


def _read_attempt(row: Mapping[Any, Any]) -> LoggedAttempt:
    return LoggedAttempt(at=row["at"], status=row["status"], trouble=row["trouble"], seconds=row["seconds"])


def _read_delivery(row: Mapping[Any, Any], log: Sequence[LoggedAttempt]) -> Delivery:
    return Delivery(
        id=row["id"],
        owner=row["owner"],
        event=row["event"],
        subject=row["subject"],
        url=row["url"],
        body=row["body"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        created_at=row["created_at"],
        due_at=row["due_at"],
        ended_at=row["ended_at"],
        log=tuple(log),
    )
