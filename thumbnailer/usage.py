"""What each account has had, by day: counted in memory, written to the database every few seconds.

An account is a key, or all callers without one together: no address of anybody is kept.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import BigInteger, Column, Date, String, Table, delete, select

from thumbnailer.database import Database, insert_into, metadata
from thumbnailer.errors import DatabaseUnavailable

logger = logging.getLogger(__name__)

#: The accounts of callers without a key: those with a signed URL, all others, and whoever gives commands.
SIGNED, ANONYMOUS, OPERATOR = "signed", "anonymous", "operator"

#: How long a count may exist in memory alone; so much is lost when a process is killed.
FLUSH_SECONDS = 5.0

#: Accounts of a day that are counted while the database is out of reach; more are left out.
MAX_HELD = 10_000


class Counted(StrEnum):
    """What is counted: captures taken, and answers by how they came about.

    ``HITS`` are answers with a picture that was there or that another caller waited for, ``MISSES`` those
    with a capture of their own; ``REFUSALS`` are answers to callers who may not, or not so often.
    """

    CAPTURES = "captures"
    HITS = "hits"
    STALE = "stale"
    MISSES = "misses"
    REFUSALS = "refusals"


NAMES = (*(kind.value for kind in Counted), "size_bytes")

usage = Table(
    "usage",
    metadata,
    Column("day", Date, primary_key=True),
    Column("account", String(64), primary_key=True),
    *(Column(name, BigInteger, nullable=False) for name in NAMES),
)


@dataclass(frozen=True, slots=True)
class DayOfUsage:
    """What one account had on one day, UTC; ``counts`` by the names of ``NAMES``."""

    day: date
    account: str
    counts: Mapping[str, int]


class UsageMeter:
    """Counts for all accounts; safe to use from many threads, and never waits for the database.

    ``kept_days`` is how long counts are kept, ``clock`` Unix time in seconds. Nothing is started before
    the first count.
    """

    def __init__(
        self,
        database: Database,
        *,
        kept_days: int = 400,
        flush_seconds: float = FLUSH_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._kept_days = kept_days
        self._flush_seconds = flush_seconds
        self._clock = clock
        self._guard = threading.Lock()
        self._flushing = threading.Lock()
        self._held: dict[tuple[int, str], Counter[str]] = {}
        self._closing = threading.Event()
        self._flusher: threading.Thread | None = None
        self._tidied_on: date | None = None
        self._has_failed = False

    def count(self, account: str, kind: Counted, size_bytes: int = 0) -> None:
        """Count one of ``kind`` for ``account``, and the bytes of its answer."""
        key = (int(self._clock() // 86_400), account)
        with self._guard:
            counts = self._held.get(key)
            if counts is None:
                if len(self._held) >= MAX_HELD:
                    return
                counts = self._held[key] = Counter()
            counts[kind] += 1
            counts["size_bytes"] += size_bytes
            if self._flusher is None and not self._closing.is_set():
                flusher = threading.Thread(target=self._flush_for_ever, name="usage", daemon=True)
                with suppress(RuntimeError):  # no thread to be had: the next count tries again
                    flusher.start()
                    self._flusher = flusher

    def flush(self) -> None:
        """Write what has been counted. Raises DatabaseUnavailable, and has lost nothing then."""
        with self._flushing:
            with self._guard:
                taken, self._held = self._held, {}
            if not taken:
                return
            try:
                self._write(taken)
            except BaseException:
                self._put_back(taken)
                raise

    def read(self, first: date, account: str | None = None) -> tuple[DayOfUsage, ...]:
        """The days from ``first`` on, of one account or of all, the oldest first.

        What other processes counted in the last seconds may be missing. Raises DatabaseUnavailable.
        """
        self.flush()
        wanted = select(usage).where(usage.c.day >= first).order_by(usage.c.account, usage.c.day)
        if account is not None:
            wanted = wanted.where(usage.c.account == account)
        with self._database.reading() as connection:
            rows = connection.execute(wanted).mappings().all()
        return tuple(
            DayOfUsage(row["day"], row["account"], {name: row[name] for name in NAMES}) for row in rows
        )

    def captures_today(self, account: str | None) -> int:
        """How many captures an account, or with None all of them, had today; 0 where nobody can say."""
        today = self.today()
        try:
            return sum(day.counts[Counted.CAPTURES] for day in self.read(today, account) if day.day == today)
        except DatabaseUnavailable:
            return 0

    def close(self) -> None:
        """Write what is left, or lose it; counts after this are written by the next call."""
        self._closing.set()
        with self._guard:  # a flusher is there that has been started, or none
            flusher = self._flusher
        if flusher is not None:
            flusher.join(timeout=self._flush_seconds)
        self._try_to_flush()
        with self._guard:
            self._held.clear()

    def today(self) -> date:
        return datetime.fromtimestamp(self._clock(), UTC).date()

    def _flush_for_ever(self) -> None:
        while not self._closing.wait(self._flush_seconds):
            self._try_to_flush()

    def _try_to_flush(self) -> None:
        """That the database does not answer is told once, until it does."""
        try:
            self.flush()
            self._has_failed = False
        except DatabaseUnavailable:
            if not self._has_failed:
                logger.warning("Usage cannot be written at this moment.")
            self._has_failed = True
        except Exception:
            logger.exception("Usage could not be written.")

    def _put_back(self, taken: Mapping[tuple[int, str], Counter[str]]) -> None:
        with self._guard:
            for key, counts in taken.items():
                self._held.setdefault(key, Counter()).update(counts)

    def _write(self, taken: Mapping[tuple[int, str], Counter[str]]) -> None:
        rows = [
            {"day": _date_of(day), "account": account} | {name: counts[name] for name in NAMES}
            for (day, account), counts in sorted(taken.items())  # in one order, so that no two writers lock
        ]
        with self._database.transaction() as connection:
            connection.execute(_adding(connection.dialect.name), rows)
            today = self.today()
            if self._tidied_on != today:
                connection.execute(delete(usage).where(usage.c.day <= today - timedelta(self._kept_days)))
                self._tidied_on = today


def _adding(dialect: str) -> Any:
    """Adds a row's counts to those that are there."""
    insert = insert_into(usage, dialect)
    added = {name: usage.c[name] + insert.excluded[name] for name in NAMES}
    return insert.on_conflict_do_update(index_elements=["day", "account"], set_=added)


def _date_of(day: int) -> date:
    return date(1970, 1, 1) + timedelta(day)
