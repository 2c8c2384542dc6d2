"""Brings the database's tables up to date, once, however many processes start at the same time.

The steps are Alembic's, in ``thumbnailer/migrations/versions``: files whose names begin with their
number, four digits, which is also their revision. So what is newest can be told without Alembic,
which is loaded only where a step is due: it takes some 12 MiB and 80 ms. A new database needs no steps: it
gets all tables as they are declared, which a test holds to be the same.
"""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, select, text

from thumbnailer.database import metadata
from thumbnailer.engines import patience

MIGRATIONS = Path(__file__).parent / "migrations"

#: Any number that no other program on the same PostgreSQL database takes for a lock.
UPGRADE_LOCK = 7_468_756_942
#: The longest wait for another process that is upgrading, and for a statement of a step.
UPGRADE_SECONDS = 300.0

#: All that the steps make. A program that has not loaded the declarations of some goes by the steps.
TABLES = frozenset(
    {
        "api_keys",
        "batches",
        "counters",
        "deliveries",
        "delivery_attempts",
        "jobs",
        "order_keys",
        "outdated_objects",
        "page_versions",
        "pages",
        "usage",
        "workers",
    }
)

logger = logging.getLogger(__name__)


def newest_revision() -> str:
    """The revision of the last step there is."""
    return max(path.name[:4] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def current_revision(connection: Connection) -> str | None:
    """The revision that the tables have, None where there are none."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(select(text("version_num FROM alembic_version"))).scalar()
    return revision


def upgrade(engine: Engine) -> None:
    """Make the tables as this version of the service needs them; all of it or, on failure, nothing.

    Tables that are newer are left as they are: during a deployment two versions share a database.
    """
    with engine.connect() as connection:
        revision = current_revision(connection)
    if revision is not None and revision >= newest_revision():
        return
    with engine.connect() as connection, connection.begin(), patience(connection, UPGRADE_SECONDS):
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": UPGRADE_LOCK})
        revision = current_revision(connection)
        if revision is None or revision < newest_revision():
            is_known = metadata.tables.keys() >= TABLES
            _make_all(connection) if revision is None and is_known else _run_steps(connection)
            logger.info("The database's tables are at revision %s now.", newest_revision())


def _make_all(connection: Connection) -> None:
    """What all steps together make, and Alembic's note of it."""
    metadata.create_all(connection, checkfirst=False)
    connection.execute(
        text(
            "CREATE TABLE alembic_version ( version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num) )"
        )
    )
    connection.execute(text("INSERT INTO alembic_version VALUES (:newest)"), {"newest": newest_revision()})


def _run_steps(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
