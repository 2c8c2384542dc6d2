"""What the tests of the ledger share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from settings.values import database_url_of
from tests.support.clocks import Clock
from thumbnailer.database import Database
from thumbnailer.schema import upgrade


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/jobs.sqlite3", upgrade=upgrade)) as database:
        yield database


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The same of either kind."""
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/jobs.sqlite3" if is_sqlite else request.getfixturevalue("postgres_url")
    with closing(Database(database_url_of(url), upgrade=upgrade)) as database:
        yield database
