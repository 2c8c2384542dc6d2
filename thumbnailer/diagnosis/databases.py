"""Checks of the database. None of them makes a file or a table, or brings tables up to date."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, make_url, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from thumbnailer.database import Database
from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.diagnosis.folders import nearest
from thumbnailer.engines import DatabaseBounds
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs.tables import workers
from thumbnailer.model import Deadline
from thumbnailer.schema import current_revision, newest_revision

MOUNTS = Path("/proc/self/mounts")
#: File systems on which SQLite's locks do not hold, or not always: https://sqlite.org/lockingv3.html
NETWORK_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs"})

#: Connections beside those of web workers: a command, a backup, whoever looks.
OTHER_CONNECTIONS = 5

ASK_THE_DATABASE = "See what the check of the database says."
_TOO_OLD = doubtful("the tables are too old to tell", "Run flask db upgrade, or start the service.")


class NotThere(Exception):
    """There is no such database, or it has no tables: the service makes them at its start."""


class DatabaseProbe:
    """A database as it is. Its methods raise ``NotThere``, and ``DatabaseUnavailable`` with the cause."""

    def __init__(self, url: str, bounds: DatabaseBounds) -> None:
        self.pool_size = bounds.pool_size
        self._url = make_url(url)
        self._bounds = bounds

    @property
    def file(self) -> Path | None:
        """SQLite's file; None where there is no file."""
        is_file = self._url.get_backend_name() == "sqlite" and self._url.database
        return Path(str(self._url.database)) if is_file else None

    @property
    def is_memory(self) -> bool:
        return self._url.get_backend_name() == "sqlite" and not self._url.database

    @property
    def shown(self) -> str:
        """How it may be called: its file, or where its server is."""
        bare = self._url.set(drivername="postgresql", username=None, password=None, query={})
        return str(self.file or bare.render_as_string())

    @contextmanager
    def opened(self) -> Iterator[Database]:
        if self.is_memory or (self.file is not None and not _exists(self.file)):
            raise NotThere
        with closing(
            Database(
                self._url.render_as_string(hide_password=False), upgrade=_leave_alone, bounds=self._bounds
            )
        ) as database:
            yield database

    @contextmanager
    def with_tables(self) -> Iterator[Database]:
        """The database once its tables are known to be there."""
        with self.opened() as database:
            with database.reading() as connection:
                if current_revision(connection) is None:
                    raise NotThere
            yield database


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        raise DatabaseUnavailable("The file cannot be reached.") from error


def _leave_alone(_engine: Engine) -> None:
    """In place of the upgrade."""


def answers(_deadline: Deadline, *, probe: DatabaseProbe) -> Verdict:
    """Connects, and asks for the server's version."""
    try:
        with probe.opened() as database, database.reading() as connection:
            begun_at = time.perf_counter()
            connection.execute(select(1))
            milliseconds = (time.perf_counter() - begun_at) * 1000
            return well(f"{_version(connection)} at {probe.shown} answers in {milliseconds:.1f} ms")
    except NotThere:
        return _not_there(probe)
    except DatabaseUnavailable as error:
        return _trouble(error, probe)


def _version(connection: Connection) -> str:
    if connection.dialect.name == "sqlite":
        return f"SQLite {connection.execute(text('SELECT sqlite_version()')).scalar_one()}"
    return f"PostgreSQL {connection.execute(text('SHOW server_version')).scalar_one()}"


def _not_there(probe: DatabaseProbe) -> Verdict:
    if probe.file is None:
        return well("it is in the memory of each process")
    there = nearest(probe.file.parent)
    if os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        return well(f"{probe.file} is not there yet; it is made at its first use")
    advice = f"Give {there} to the user that the service runs as, or let DATABASE_URL name a file elsewhere."
    return wrong(f"{probe.file} is not there, and {there} does not let it be made", advice)


def _trouble(error: DatabaseUnavailable, probe: DatabaseProbe) -> Verdict:
    """What a driver says is shown; it names host and user, and no password."""
    cause = error.__cause__
    told = str(cause.orig if isinstance(cause, DBAPIError) else cause).strip().splitlines()
    found = f"{probe.shown}: {told[0].strip() if told else 'it does not answer'}"
    if probe.file is not None:
        advice = f"Give {probe.file} and its folder to the service's user, and make room on the disk."
        return wrong(found, advice)
    if "authentication failed" in found or "no password supplied" in found:
        return wrong(found, "Put the right user and password into DATABASE_URL.")
    return wrong(found, "Start it, or let DATABASE_URL name where it is; its own log may say more.")


def has_the_newest_tables(_deadline: Deadline, *, probe: DatabaseProbe) -> Verdict:
    """Compares the tables' revision with the one that this version of the service makes."""
    newest = newest_revision()
    try:
        with probe.opened() as database, database.reading() as connection:
            revision = current_revision(connection)
    except NotThere:
        revision = None
    if revision is None:
        return well(f"there are no tables yet; the start makes those of revision {newest}")
    if revision < newest:
        advice = "Run flask db upgrade, or start the service, which does it by itself."
        return doubtful(f"the tables are at revision {revision}, the newest is {newest}", advice)
    if revision > newest:
        return doubtful(
            f"the tables are at revision {revision}, newer than this version's {newest}",
            "Update this machine too.",
        )
    return well(f"the tables are at revision {revision}, the newest")


def takes_rows(_deadline: Deadline, *, probe: DatabaseProbe) -> Verdict:
    """Writes a row and takes it back before anybody can see it."""
    try:
        with probe.with_tables() as database, database.transaction() as connection:
            connection.execute(workers.insert().values(id="written by flask doctor", seen_at=0.0))
            connection.rollback()
    except NotThere:
        return well("there is nothing to write to yet")
    except ProgrammingError:
        return _TOO_OLD
    except DatabaseUnavailable as error:
        return _trouble(error, probe)
    return well("a row was written and taken back")


def is_shared_rightly(_deadline: Deadline, *, probe: DatabaseProbe, web_workers: int) -> Verdict:
    """Judges whether all who need this database can have it."""
    if probe.is_memory:
        advice = "Let DATABASE_URL name a file or PostgreSQL, which all processes share and none forgets."
        return (doubtful if web_workers == 1 else wrong)("it is in the memory of each process", advice)
    if probe.file is not None:
        kind = file_system_of(probe.file)
        if kind in NETWORK_FILE_SYSTEMS:
            return wrong(
                f"{probe.file} lies on {kind}", "Put the file on a disk of this machine, or use PostgreSQL."
            )
        return well(f"an SQLite file: for any number of workers, on this machine only ({web_workers} here)")
    return _has_connections(probe, web_workers)


def _has_connections(probe: DatabaseProbe, web_workers: int) -> Verdict:
    with probe.opened() as database, database.reading() as connection:
        limit = int(connection.execute(text("SHOW max_connections")).scalar_one())
    needed = probe.pool_size * web_workers + OTHER_CONNECTIONS
    found = f"{limit} connections are allowed, our web workers open {needed - OTHER_CONNECTIONS} at most"
    if needed > limit:
        return doubtful(
            found, "Raise max_connections of PostgreSQL, or lower DATABASE_POOL_SIZE or WEB_CONCURRENCY."
        )
    return well(found)


def file_system_of(path: Path) -> str:
    """The kind of file system that a path lies on; empty where that cannot be told."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    real, best, kind = nearest(path).resolve(), Path(), ""
    for line in lines:
        _, where, found, *_ = line.split()
        if real.is_relative_to(where) and len(where) >= len(str(best)):
            best, kind = Path(where), found
    return kind


Load = Callable[[Database], Verdict]


def asked(_deadline: Deadline, *, probe: DatabaseProbe, look: Load, without: Verdict) -> Verdict:
    """What ``look`` finds in the tables; ``without`` where there are none yet."""
    try:
        with probe.with_tables() as database:
            return look(database)
    except NotThere:
        return without
    except ProgrammingError:
        return _TOO_OLD
    except DatabaseUnavailable:
        return doubtful("the database does not say", ASK_THE_DATABASE)
