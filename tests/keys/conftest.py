"""What the tests of API keys share: either database, and the store of the keys in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from settings.values import database_url_of
from tests.support.access import sqlite_url
from tests.support.clocks import Clock
from thumbnailer.database import Database
from thumbnailer.key_store import KeyStore
from thumbnailer.schema import upgrade


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    found: str = (
        sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )
    return database_url_of(found)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(url, upgrade=upgrade)) as database:
        yield database


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> KeyStore:
    return KeyStore(database, clock=clock)
