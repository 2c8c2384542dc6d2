"""``flask db``: the database's tables, for operators who would rather change them before a start."""

from __future__ import annotations

import click
from flask.cli import AppGroup

from blueprints.services import services
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.schema import current_revision

db = AppGroup("db", help="The database's tables; the service also brings them up to date by itself.")


@db.command("upgrade")
def upgrade() -> None:
    """Make the tables, or bring them up to date; changes nothing if they are."""
    try:
        with services().database.reading() as connection:  # opening it is what upgrades it
            revision = current_revision(connection)
    except DatabaseUnavailable as error:
        raise click.ClickException(f"{error} ({error.__cause__})") from error
    click.echo(f"The tables are at revision {revision}.")
