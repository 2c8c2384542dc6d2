"""What a working process does beside its work: it signs the roster and sweeps."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs.roster import Roster
from thumbnailer.jobs.sweeping import Sweeper

log = structlog.get_logger(__name__)


class Housekeeper:
    """A thread that looks after the work every ``interval_seconds``, at once when it starts.

    ``tidy`` is called as often, and may raise ``DatabaseUnavailable``; ``worker_id`` names the process.
    """

    def __init__(
        self,
        sweeper: Sweeper,
        roster: Roster,
        worker_id: Callable[[], str],
        interval_seconds: float,
        tidy: Callable[[], None],
    ) -> None:
        self._sweeper = sweeper
        self._tidy = tidy
        self._roster = roster
        self._worker_id = worker_id
        self._interval_seconds = interval_seconds
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._has_failed = False

    def start(self) -> None:
        """Start the thread, unless it was started. Not for two threads at once.

        It is made here, for the process may be a child of the one that made this object: since Python 3.13 a
        thread from before the fork cannot be started.
        """
        if self._thread is not None:
            return
        thread = threading.Thread(target=self._keep, name="housekeeping", daemon=True)
        thread.start()
        self._thread = thread

    def close(self) -> None:
        """End it, and leave the roster."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(self._interval_seconds)

    def _keep(self) -> None:
        while not self._closed.is_set():
            self.look_after()
            self._closed.wait(self._interval_seconds)
        try:
            self._roster.sign_off(self._worker_id())
        except DatabaseUnavailable as error:
            log.warning("roster_unavailable", detail=str(error))

    def look_after(self) -> None:
        """Sign and sweep now; raises nothing. A database that does not answer is told of once."""
        try:
            self._roster.sign(self._worker_id())
            self._sweeper.sweep()
            self._tidy()
            self._has_failed = False
        except DatabaseUnavailable as error:
            if not self._has_failed:
                log.warning("sweep_failed", detail=str(error))
            self._has_failed = True
        except Exception:  # the thread has to outlive whatever one sweep meets
            log.exception("sweep_broke")
