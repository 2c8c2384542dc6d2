"""Signs of life for jobs that this process is doing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import structlog

from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs import Claim
from thumbnailer.jobs.ledger import JobLedger

log = structlog.get_logger(__name__)


class Leases:
    """Renews the leases of jobs in hand every ``interval_seconds``, from one thread of its own.

    The thread starts with the first job, so that nothing runs before a fork.
    """

    def __init__(self, ledger: JobLedger, interval_seconds: float) -> None:
        self._ledger = ledger
        self._interval_seconds = interval_seconds
        self._guard = threading.Lock()
        self._held: dict[str, Claim] = {}
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def held(self, claim: Claim) -> Iterator[None]:
        """Keep a job this process's own for the length of the block."""
        with self._guard:
            self._held[claim.token] = claim
            if self._thread is None:
                thread = threading.Thread(target=self._renew, name="leases", daemon=True)
                with suppress(RuntimeError):  # no thread to be had: the next job tries again
                    thread.start()
                    self._thread = thread
        try:
            yield
        finally:
            with self._guard:
                del self._held[claim.token]

    def close(self) -> None:
        """Stop renewing: what is still in hand falls to others once its lease has run out."""
        self._closed.set()

    def _renew(self) -> None:
        while not self._closed.wait(self._interval_seconds):
            with self._guard:
                claims = list(self._held.values())
            try:
                if claims:
                    self._ledger.renew(claims)
            except DatabaseUnavailable as error:
                log.warning("leases_not_renewed", detail=str(error))
            except Exception:  # the thread has to outlive whatever one renewal meets, or jobs are done twice
                log.exception("leases_broke")
