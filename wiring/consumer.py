"""What listens to the queue in a worker process of its own."""

from __future__ import annotations

import time
import warnings

from celery.exceptions import CPendingDeprecationWarning
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from redis.exceptions import ResponseError

# At a lost connection Celery would advise, in eight lines, to cancel tasks then. Here they are left to end:
# what comes of them is in the database, and a message that comes again is found to be done.
warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)

#: Seconds until a Redis that refuses is asked again.
PAUSE_SECONDS = 5


class PatientConsumer(Consumer):  # type: ignore[misc]  # Celery carries no types
    """Waits for a Redis that answers and refuses, as one that is full or takes no writes.

    Celery's own waits for one that is out of reach, and would ask this one again at once, time after time.
    """

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Raises ``WorkerShutdown`` where it is to end meanwhile."""
        super().on_connection_error_before_connected(exc)
        _wait_after(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Raises ``WorkerShutdown`` where it is to end meanwhile."""
        super().on_connection_error_after_connected(exc)
        _wait_after(exc)


def _wait_after(error: Exception) -> None:
    if isinstance(error, ResponseError):
        for _ in range(PAUSE_SECONDS):
            maybe_shutdown()
            time.sleep(1)
