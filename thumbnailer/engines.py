"""How the two kinds of database are opened, so that no wait on either lasts for ever."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, text
from sqlalchemy.pool import ConnectionPoolEntry

#: How a transaction begins on SQLite, as an execution option of the connection.
BEGIN_OPTION = "sqlite_begin"

#: A connection that has lain idle for so long, in seconds, is made anew: firewalls forget it by then.
RECYCLE_SECONDS = 300

#: libpq takes no shorter time for connecting, in seconds.
LEAST_CONNECT_SECONDS = 2

#: How much longer than PostgreSQL itself is to take a statement is waited for, in seconds.
MARGIN_SECONDS = 1.0

#: Under which name a connection notes how long it is waited for, in seconds, where that is not as ever.
PATIENCE = "patience_seconds"

#: After how many seconds of silence the system asks whether PostgreSQL is still there, how many seconds it
#: waits for each answer, and after how many without one it is not (tcp(7)). Firewalls forget the silent.
KEPT_ALIVE = {"keepalives_idle": 60, "keepalives_interval": 15, "keepalives_count": 4}

#: libpq's PQTRANS_ACTIVE: a statement has been sent and its answer has not come.
ACTIVE = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseBounds:
    """``pool_size`` connections of one process at most; ``timeout_seconds`` bounds each wait.

    That is: for a connection, for one from the pool, for SQLite's lock and for a statement. A connection to
    PostgreSQL that comes out of the pool has to give a sign of life within ``ping_seconds``.
    """

    pool_size: int = 5
    timeout_seconds: float = 5.0
    ping_seconds: float = 2.0


def make_engine(url: URL, bounds: DatabaseBounds) -> Engine:
    """An engine that has opened nothing yet. Raises OSError where SQLite's folder cannot be made."""
    options: dict[str, Any] = {
        "pool_size": bounds.pool_size,
        "max_overflow": 0,
        "pool_timeout": bounds.timeout_seconds,
        "hide_parameters": True,  # errors are logged, and parameters hold hashes and URLs
    }
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url, bounds, options)
    return _postgres_engine(url, bounds, options)


def _sqlite_engine(url: URL, bounds: DatabaseBounds, options: dict[str, Any]) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        Path(url.database).touch(mode=0o600)  # SQLite gives its other files the same mode
    else:
        options["pool_size"] = 1  # in memory, each connection would be a database of its own
    options["poolclass"] = QueuePool
    engine = create_engine(url, connect_args={"check_same_thread": False}, **options)

    def set_up(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # sqlite3 would begin transactions by its own rules
        connection.execute(f"PRAGMA busy_timeout = {round(bounds.timeout_seconds * 1000)}")
        connection.execute("PRAGMA foreign_keys = ON")
        _share_log(connection, bounds.timeout_seconds)

    event.listen(engine, "connect", set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _share_log(connection: sqlite3.Connection, patience_seconds: float) -> None:
    """Switch to the write-ahead log, which lets many read while one writes.

    While another process switches, SQLite refuses at once instead of waiting.
    """
    give_up_at = time.monotonic() + patience_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > give_up_at:
                raise
            time.sleep(0.01)
        else:
            return


def _begin(connection: Connection) -> None:
    """Take SQLite's lock at once: who reads first and then writes fails where another wrote in between."""
    connection.exec_driver_sql(f"BEGIN {connection.get_execution_options().get(BEGIN_OPTION, 'IMMEDIATE')}")


def _postgres_engine(url: URL, bounds: DatabaseBounds, options: dict[str, Any]) -> Engine:
    milliseconds, patience_seconds = (
        round(bounds.timeout_seconds * 1000),
        bounds.timeout_seconds + MARGIN_SECONDS,
    )
    # What is sent and not even received is given up by the system as well, in the midst of long waits, too.
    watched = {**KEPT_ALIVE, "tcp_user_timeout": round(patience_seconds * 1000)}
    engine = create_engine(
        url,
        connect_args={
            **{name: value for name, value in watched.items() if name not in url.query},
            "connect_timeout": max(LEAST_CONNECT_SECONDS, round(bounds.timeout_seconds)),
            "options": f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds}",
            "application_name": "thumbnailer",
        },
        pool_pre_ping=True,
        pool_recycle=RECYCLE_SECONDS,
        **options,
    )
    event.listen(engine, "do_connect", _connect_patiently(patience_seconds))
    _ping_impatiently(engine, min(bounds.ping_seconds, patience_seconds))
    return engine


def _ping_impatiently(engine: Engine, seconds: float) -> None:
    """Let a connection that comes out of the pool prove within ``seconds`` that it still leads anywhere.

    It may have been dropped without a word. The pool asks it before it tells of the ``checkout``.
    """

    def rest(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info[PATIENCE] = seconds

    def begin(_connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        record.info.pop(PATIENCE, None)

    event.listen(engine, "checkin", rest)
    event.listen(engine, "checkout", begin)


@contextmanager
def patience(connection: Connection, seconds: float) -> Iterator[None]:
    """Let statements of the transaction that has begun take so long, and so their waits for locks.

    On SQLite statements take as long as they take in any case.
    """
    if connection.dialect.name != "postgresql":
        yield
        return
    for name in ("statement_timeout", "lock_timeout"):
        connection.execute(text(f"SET LOCAL {name} = {round(seconds * 1000)}"))
    notes = connection.info
    notes[PATIENCE] = seconds + MARGIN_SECONDS
    try:
        yield
    finally:
        notes.pop(PATIENCE, None)


def _connect_patiently(patience_seconds: float) -> Callable[..., Any]:
    """Connect so that a server which falls silent is given up; its own time-outs are silent with it."""

    def connect(dialect: Any, record: ConnectionPoolEntry, arguments: Any, options: Any) -> Any:
        connection = dialect.loaded_dbapi.connect(*arguments, **options)
        wait = connection.wait

        def wait_at_most(generator: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                usual = record.info.get(PATIENCE, patience_seconds)
                return wait(generator, interval, usual if timeout is None else timeout)
            except dialect.loaded_dbapi.OperationalError:
                if connection.pgconn.transaction_status == ACTIVE:
                    connection.pgconn.finish()  # in the midst of an answer: of no use any more
                raise

        connection.wait = wait_at_most
        return connection

    return connect
