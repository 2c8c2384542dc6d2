"""The database, from the settings."""

from __future__ import annotations

from config import Settings
from thumbnailer.database import Database
from thumbnailer.engines import DatabaseBounds
from thumbnailer.schema import upgrade


def build_database(settings: Settings) -> Database:
    """The database, which is opened at its first use; until then nothing is made."""
    return Database(settings.database.url, upgrade=upgrade, bounds=database_bounds(settings))


def database_bounds(settings: Settings) -> DatabaseBounds:
    """How long anything waits for it, and for how many connections there is room."""
    database = settings.database
    return DatabaseBounds(
        pool_size=database.pool_size,
        timeout_seconds=database.timeout_seconds,
        ping_seconds=database.ping_seconds,
    )
