"""Work that is in no queue: the next sweep is to find it, also where the database cannot be told so now."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import structlog
from sqlalchemy import Table, update

from thumbnailer.database import Database
from thumbnailer.errors import DatabaseUnavailable

log = structlog.get_logger(__name__)

#: So many are held in memory at most, of each kind. Beyond that, and after the end of the process, a sweep
#: finds them once the queue is empty or they were forgotten for long.
MAX_HELD = 5000


class Unqueued:
    """Notes what has to be queued anew; safe to use from many threads.

    ``tables`` are where the work of each kind is written down, by the kinds' names.
    """

    def __init__(self, database: Database, tables: Mapping[str, Table]) -> None:
        self._database = database
        self._tables = tables
        self._guard = threading.Lock()
        self._held: dict[str, set[str]] = {}

    def add(self, kind: str, subject: str) -> None:
        """Note it at once, if the database can be told; raises nothing."""
        self.hold(kind, {subject})
        try:
            self.settle()
        except DatabaseUnavailable as error:
            log.warning("queueing_not_noted", kind=kind, id=subject, detail=str(error))

    def hold(self, kind: str, subjects: set[str]) -> None:
        """Note them with the next call of ``settle``; does not wait for the database."""
        with self._guard:
            held = self._held.setdefault(kind, set())
            held.update(list(subjects - held)[: MAX_HELD - len(held)])

    def settle(self) -> None:
        """Write down what is held. Raises DatabaseUnavailable, and holds it still."""
        with self._guard:
            held, self._held = self._held, {}
        if not held:
            return
        try:
            with self._database.transaction() as connection:
                for kind, subjects in held.items():
                    table = self._tables[kind]
                    connection.execute(update(table).where(table.c.id.in_(subjects)).values(queued_at=None))
        except DatabaseUnavailable:
            for kind, subjects in held.items():
                self.hold(kind, subjects)
            raise
