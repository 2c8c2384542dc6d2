"""The database: what has to outlive a cache and a restart, such as keys, jobs and counts.

SQLAlchemy's Core, no ORM: tables are declared beside the code that uses them, all in ``metadata``, and
made by the migrations. Nothing is opened before the first use, and never is a connection carried
over a fork.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    MetaData,
    Select,
    Table,
    event,
    func,
    make_url,
    select,
    text,
    tuple_,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from thumbnailer.cooldown import CoolDown
from thumbnailer.engines import BEGIN_OPTION, DatabaseBounds, make_engine
from thumbnailer.errors import DatabaseUnavailable

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: What is the code's fault and not the database's: it goes up as it is.
OUR_FAULTS = (IntegrityError, ProgrammingError, DataError, NotSupportedError)


#: Of one list at once.
MAX_LISTED = 100

#: Where a list was left off: when the last row that was seen was made, in Unix time, and its id.
Place = tuple[float, str]


#: Is written all the same.
NO_CHANGE = text("UPDATE alembic_version SET version_num = version_num")


class Database:
    """One database, SQLite or PostgreSQL; safe to use from many threads and after a fork.

    ``url`` is SQLAlchemy's, with the driver: ``sqlite:////folder/file``, ``postgresql+psycopg://…``.
    ``upgrade`` is called with each new engine before its first use and brings the tables up to date.
    """

    def __init__(
        self,
        url: str,
        *,
        upgrade: Callable[[Engine], None],
        bounds: DatabaseBounds | None = None,
        cool_down: CoolDown | None = None,
    ) -> None:
        self._url = make_url(url)
        self._upgrade = upgrade
        self._bounds = bounds or DatabaseBounds()
        self._cool_down = cool_down or CoolDown("The database")
        self._opening = threading.Lock()
        self._opened: tuple[int, Engine] | None = None
        self._is_closed = False
        self._refuses_writing = False

    @property
    def is_sqlite(self) -> bool:
        return self._url.get_backend_name() == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection whose work is kept when the block ends well, and undone when it raises.

        On SQLite one such transaction runs at a time; others wait for it.

        Raises:
            DatabaseUnavailable: the database does not answer, is locked, full or broken.
        """
        try:
            with self._connected("IMMEDIATE") as connection:
                yield connection
        except DatabaseUnavailable:
            self._refuses_writing = True
            raise
        self._refuses_writing = False

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection for reading alone; it waits for nobody. Raises as ``transaction`` does."""
        with self._connected("DEFERRED") as connection:
            yield connection

    def is_ready(self) -> bool:
        """Whether the database answers now, and takes something where it last did not: it may be full."""
        try:
            with self.transaction() if self._refuses_writing else self.reading() as connection:
                connection.execute(NO_CHANGE if self._refuses_writing else select(1))
        except DatabaseUnavailable:
            return False
        return True

    def open(self) -> Engine:
        """The engine of this process, its tables up to date. Raises ``DatabaseUnavailable``."""
        opened = self._opened
        if opened is not None and opened[0] == os.getpid():
            return opened[1]
        if not self._opening.acquire(timeout=self._bounds.timeout_seconds):
            raise _unavailable()  # another thread upgrades the tables, which may take minutes
        try:
            opened = self._opened
            if opened is not None and opened[0] == os.getpid():
                return opened[1]
            if opened is not None:
                opened[1].dispose(close=False)  # a fork: the connections belong to the parent
            engine = make_engine(self._url, self._bounds)
            event.listen(engine, "checkin", self._keep_none)
            try:
                self._upgrade(engine)
            except BaseException:
                engine.dispose()
                raise
            self._opened = (os.getpid(), engine)
            return engine
        finally:
            self._opening.release()

    def close(self) -> None:
        """Close the connections for good, those in use when they are given back.

        Who is not done yet goes on: each use opens a connection of its own from now on.
        """
        self._is_closed = True
        self.disconnect()

    def disconnect(self) -> None:
        """Close the connections that nobody uses; the next use opens new ones."""
        with self._opening:
            opened, self._opened = self._opened, None
        if opened is not None:
            opened[1].dispose(close=opened[0] == os.getpid())

    def _keep_none(self, _connection: object, entry: ConnectionPoolEntry) -> None:
        if self._is_closed:
            entry.close()

    @contextmanager
    def _connected(self, begin: str) -> Iterator[Connection]:
        if not self.is_sqlite and not self._cool_down.allows():
            raise _unavailable()
        try:
            with self.open().connect().execution_options(**{BEGIN_OPTION: begin}) as connection:
                self._cool_down.answered()
                with connection.begin():
                    yield connection
        except OUR_FAULTS:
            raise
        except (DBAPIError, PoolTimeout, OSError) as error:
            self._note(error)
            raise _unavailable() from error

    def _note(self, error: Exception) -> None:
        """Leave a server alone for a while that cannot be reached; SQLite is always there."""
        is_lost = isinstance(error, DBAPIError) and (error.connection_invalidated or error.statement is None)
        if is_lost and not self.is_sqlite:
            self._cool_down.failed(error)
        else:
            self._cool_down.complain(error)


def take_turns(connection: Connection, lock: int) -> None:
    """Let nobody else come here with the same ``lock`` until this transaction ends.

    Unlike SQLite, which has one writer at a time, PostgreSQL lets many count before any of them adds.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(lock)))


def insert_into(table: Table, dialect: str) -> Any:
    """An INSERT that may say ON CONFLICT, which SQLAlchemy has for each kind of database apart."""
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql

        return postgresql.insert(table)
    return sqlite.insert(table)


def _unavailable() -> DatabaseUnavailable:
    return DatabaseUnavailable("The database does not answer at this moment.")


def newest_first(wanted: Select[Any], table: Table, after: Place | None, most: int) -> Select[Any]:
    """Rows by when they were made, the newest first, ``most`` of those that come ``after`` a place.

    Those of one moment have an order as well, by their ids: none is left out, and none comes twice.
    """
    order = (table.c.created_at, table.c.id)
    if after is not None:
        wanted = wanted.where(tuple_(*order) < after)
    return wanted.order_by(*(column.desc() for column in order)).limit(most)
