"""Celery's beat with a log in which something stands when something is wrong."""

from __future__ import annotations

from typing import Any

from celery.beat import Scheduler, SchedulingError
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from thumbnailer.cooldown import CoolDown


class QuietScheduler(Scheduler):  # type: ignore[misc]  # Celery carries no types
    """Tells once a minute, and in a line, that the queue does not answer.

    Celery's own tells of each thing that it queues, and by two traces of each that it could not. What is due
    meanwhile is left out: the next is due in seconds. So it is while anything else waits: workers that are
    busy do it by themselves, and where there is none the queue would grow with each.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._complaints = CoolDown("The job queue", seconds=60)

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Queue what is due."""
        try:
            if self._count_waiting(entry.options["queue"]) == 0:
                self.apply_async(entry, producer=producer, advance=False)
        except (SchedulingError, OperationalError, RedisError, OSError) as error:
            self._complaints.complain(error)

    def _count_waiting(self, queue: str) -> int:
        with self.app.connection_for_read() as connection:
            return int(connection.default_channel.queue_declare(queue=queue).message_count)
