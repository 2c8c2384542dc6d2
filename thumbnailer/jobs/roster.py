"""Which workers are alive."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from sqlalchemy import delete, func, select

from thumbnailer.database import Database, insert_into
from thumbnailer.jobs.tables import workers

#: A worker that was not seen for so long, in seconds, is dead.
ABSENT_SECONDS = 30.0
#: So often it says that it is there, for each time is written to the disk: two may be missed.
SIGN_SECONDS = 10.0


class Roster:
    """Workers sign it, each process one of its own. Its methods raise ``DatabaseUnavailable``."""

    def __init__(self, database: Database, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._monotonic = monotonic
        self._signed_at = -math.inf

    def sign(self, worker_id: str) -> None:
        """Say that a worker is alive, unless it has said so within ``SIGN_SECONDS``."""
        signed_at = self._monotonic()
        if signed_at < self._signed_at + SIGN_SECONDS:
            return
        now = time.time()
        with self._database.transaction() as connection:
            signed = insert_into(workers, connection.dialect.name).values(id=worker_id, seen_at=now)
            connection.execute(signed.on_conflict_do_update(index_elements=["id"], set_={"seen_at": now}))
            connection.execute(delete(workers).where(workers.c.seen_at < now - 10 * ABSENT_SECONDS))
        self._signed_at = signed_at

    def sign_off(self, worker_id: str) -> None:
        """Say that a worker ends."""
        with self._database.transaction() as connection:
            connection.execute(delete(workers).where(workers.c.id == worker_id))
        self._signed_at = -math.inf

    def count(self) -> int:
        """How many workers are alive."""
        alive = select(func.count()).where(workers.c.seen_at > time.time() - ABSENT_SECONDS)
        with self._database.reading() as connection:
            return connection.execute(alive).scalar_one()
