"""What the tests of the ledger share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.trips import Clock
from thumbnailer.database import Database
from thumbnailer.schema import upgrade


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(f"sqlite:///{tmp_path}/jobs.sqlite3", upgrade=upgrade)) as database:
        yield database
