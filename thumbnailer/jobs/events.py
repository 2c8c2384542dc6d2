"""What the world is told when a job or a batch ends: written down first, sent afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from thumbnailer.jobs import Batch, Job, JobState
from thumbnailer.jobs.rows import new_id
from thumbnailer.jobs.tables import deliveries

#: The event of each end that somebody waits for; who cancels a job knows of it.
JOB_EVENTS: Mapping[JobState, str] = {
    JobState.COMPLETED: "screenshot.completed",
    JobState.FAILED: "screenshot.failed",
}
BATCH_EVENT = "batch.completed"


@dataclass(frozen=True, slots=True)
class Announcer:
    """Writes the messages about an end, in the transaction that ends it; ``now`` is Unix time in seconds.

    ``describe_job`` and ``describe_batch`` make what callers see of them.
    """

    describe_job: Callable[[Job], Mapping[str, Any]]
    describe_batch: Callable[[Batch], Mapping[str, Any]]

    def job_ended(self, connection: Connection, job: Job, now: float) -> tuple[str, ...]:
        """Of a job that has just become final; the ids of the messages."""
        event, url = JOB_EVENTS.get(job.state), job.order.webhook_url
        if event is None or url is None:
            return ()
        return (write_message(connection, Event(event, job.owner, job.id, self.describe_job(job)), url, now),)

    def batch_ended(
        self, connection: Connection, batch: Batch, url: str | None, now: float
    ) -> tuple[str, ...]:
        """Of a batch whose last job has just become final; the ids of the messages."""
        if url is None:
            return ()
        event = Event(BATCH_EVENT, batch.owner, batch.id, self.describe_batch(batch))
        return (write_message(connection, event, url, now),)


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to ``subject``, the id of a job, batch or page; ``shown`` is what is told of it."""

    name: str
    owner: str
    subject: str
    shown: Mapping[str, Any]


def write_message(connection: Connection, event: Event, url: str, now: float) -> str:
    """Write a message down, due at once; its id. Its body: Standard Webhooks 1.0, payload."""
    message_id, happened_at = new_id("msg"), datetime.fromtimestamp(now, UTC).isoformat()
    body = {"type": event.name, "timestamp": happened_at, "data": dict(event.shown)}
    connection.execute(
        deliveries.insert().values(
            id=message_id,
            owner=event.owner,
            event=event.name,
            subject=event.subject,
            url=url,
            body=json.dumps(body, separators=(",", ":")),
            state="pending",
            attempts=0,
            due_at=now,
            created_at=now,
            queued_at=now,
        )
    )
    return message_id
