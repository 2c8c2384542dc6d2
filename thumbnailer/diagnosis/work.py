"""Checks of the work behind the answers: the queue, and who takes from it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

from redis.exceptions import RedisError

from thumbnailer.database import Database
from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.diagnosis.reasons import reason_of
from thumbnailer.jobs import Backlog
from thumbnailer.model import Deadline

CountBacklog = Callable[[Database], Backlog]


def takes_messages(deadline: Deadline, *, make_celery: Callable[[], Any]) -> Verdict:
    """Connects to the broker as Celery does, and counts what is in the queue; puts nothing there."""
    from kombu.exceptions import OperationalError

    app = make_celery()
    seconds = max(0.1, deadline.remaining_seconds())
    try:
        with closing(app.connection_for_read()) as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=seconds)
            # To Redis a declaration is a question: it writes nothing.
            declared = connection.default_channel.queue_declare(queue=app.conf.task_default_queue)
    except (OperationalError, RedisError, OSError) as error:
        return wrong(
            f"the broker cannot be reached: {reason_of(error)}",
            "See what the check of the cache's Redis says: it is the broker.",
        )
    return well(f"the broker answers; messages in the queue: {declared.message_count}")


def is_done(database: Database, *, count: CountBacklog, has_own_workers: bool) -> Verdict:
    """Looks at who has signed the roster of workers lately, and at what waits for them.

    Workers sign it every few seconds; Celery's own ping is switched off in them.
    """
    backlog = count(database)
    waiting = backlog.pending + backlog.processing
    alive = f"{backlog.workers} {'worker is' if backlog.workers == 1 else 'workers are'} alive"
    found = f"{alive}, {waiting} jobs are not done"
    if backlog.is_stuck:
        found += f", the oldest for {backlog.oldest_seconds:.0f} s"
        if has_own_workers:
            return wrong(found, "Start a worker: celery --app worker worker.")
        return doubtful(found, "Start the service, whose web processes do the jobs.")
    if has_own_workers and not backlog.workers:
        return doubtful(found, "Start a worker: celery --app worker worker.")
    return well(found)
