"""Databases as tests open them. Run as a program, a process that opens one beside others.

``python -m tests.support.databases URL`` says that it is ready, waits for a line, and prints the revision
of the tables that it finds.
"""

from __future__ import annotations

import sys
from contextlib import closing

import thumbnailer.access_tables
import thumbnailer.counters
import thumbnailer.jobs.tables
import thumbnailer.pages.tables
import thumbnailer.usage  # noqa: F401 - a new database gets the tables of all that is loaded
from settings.values import database_url_of
from thumbnailer.cooldown import CoolDown
from thumbnailer.database import Database, metadata
from thumbnailer.engines import DatabaseBounds
from thumbnailer.schema import TABLES, current_revision, upgrade


def open_database(
    url: str,
    *,
    timeout_seconds: float = 5,
    ping_seconds: float = 2,
    pool_size: int = 5,
    patience: float = 5,
) -> Database:
    """The tables are made with the first connection."""
    bounds = DatabaseBounds(pool_size=pool_size, timeout_seconds=timeout_seconds, ping_seconds=ping_seconds)
    cool_down = CoolDown("The database", seconds=patience)
    return Database(database_url_of(url), upgrade=upgrade, bounds=bounds, cool_down=cool_down)


def use_with_others(url: str) -> None:
    with closing(open_database(url, timeout_seconds=30)) as database:
        print("ready", flush=True)
        sys.stdin.readline()
        with database.transaction() as connection:
            print(current_revision(connection), flush=True)


if __name__ == "__main__":
    assert metadata.tables.keys() >= TABLES, "as in the service, which makes all tables at once"
    use_with_others(sys.argv[1])
