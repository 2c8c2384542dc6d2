"""Counters that all processes on one database share, for limits where there is no Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from limits.storage import Storage
from sqlalchemy import BigInteger, Column, Float, String, Table, case, delete, or_, select

from thumbnailer.database import Database, insert_into, metadata
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.model import CLOCK_MARGIN_SECONDS

#: How often counters that have ended are deleted, in seconds.
TIDY_SECONDS = 60.0

MAX_NAME = 255

#: ``ends_at`` is Unix time in seconds; from then on the counter starts anew.
counters = Table(
    "counters",
    metadata,
    Column("name", String(MAX_NAME), primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("ends_at", Float, nullable=False, index=True),
)


class DatabaseStorage(Storage):
    """A storage of the library ``limits``, which knows it by the scheme ``database``; for fixed windows.

    What the database cannot do at this moment is a ``StorageError`` where ``wrap_exceptions`` is set,
    else ``DatabaseUnavailable``.
    """

    STORAGE_SCHEME = ["database"]  # noqa: RUF012  the library reads the class attribute

    def __init__(
        self,
        uri: str | None = None,
        wrap_exceptions: bool = False,
        *,
        database: Database,
        clock: Callable[[], float] = time.time,
        **_more: Any,
    ) -> None:
        super().__init__(uri, wrap_exceptions)
        self._database = database
        self._clock = clock
        self._tidying = threading.Lock()
        self._tidy_at = 0.0

    @property
    def base_exceptions(self) -> type[Exception]:
        return DatabaseUnavailable

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        """Add to a counter, which starts anew after ``expiry`` seconds, and tell what it is then."""
        now = self._clock()
        with self._database.transaction() as connection:
            insert = insert_into(counters, connection.dialect.name).values(
                name=key[:MAX_NAME], count=amount, ends_at=now + expiry
            )
            # Further away than it can be is what was counted before the clock was set back.
            has_ended = or_(
                counters.c.ends_at <= now, counters.c.ends_at > now + expiry + CLOCK_MARGIN_SECONDS
            )
            counted = {
                "count": case((has_ended, insert.excluded.count), else_=counters.c.count + amount),
                "ends_at": case((has_ended, insert.excluded.ends_at), else_=counters.c.ends_at),
            }
            upsert = insert.on_conflict_do_update(index_elements=["name"], set_=counted)
            count: int = connection.execute(upsert.returning(counters.c.count)).scalar_one()
            if self._is_to_tidy(now):
                connection.execute(delete(counters).where(counters.c.ends_at <= now))
        return count

    def get(self, key: str) -> int:
        return self._read(key)[0]

    def get_expiry(self, key: str) -> float:
        """When a counter starts anew, in Unix time; now where there is none."""
        return self._read(key)[1]

    def check(self) -> bool:
        return self._database.is_ready()

    def reset(self) -> int | None:
        with self._database.transaction() as connection:
            return connection.execute(delete(counters)).rowcount

    def clear(self, key: str) -> None:
        with self._database.transaction() as connection:
            connection.execute(delete(counters).where(counters.c.name == key[:MAX_NAME]))

    def _read(self, key: str) -> tuple[int, float]:
        now = self._clock()
        wanted = select(counters).where(counters.c.name == key[:MAX_NAME], counters.c.ends_at > now)
        with self._database.reading() as connection:
            row = connection.execute(wanted).mappings().one_or_none()
        return (row["count"], row["ends_at"]) if row else (0, now)

    def _is_to_tidy(self, now: float) -> bool:
        with self._tidying:
            if now < self._tidy_at:
                return False
            self._tidy_at = now + TIDY_SECONDS
            return True
