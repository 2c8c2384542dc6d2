"""Which workers are alive, and how often they say so."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import event

from tests.support.clocks import Clock
from thumbnailer.database import Database
from thumbnailer.engines import DatabaseBounds
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs.roster import ABSENT_SECONDS, SIGN_SECONDS, Roster
from thumbnailer.schema import upgrade


def test_who_signs_is_there_until_it_signs_off_or_says_nothing_for_long(
    database: Database, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbnailer.jobs.roster.time.time", clock)
    first, second = Roster(database, monotonic=clock), Roster(database, monotonic=clock)
    first.sign("first")
    second.sign("second")
    assert first.count() == 2
    clock.now += ABSENT_SECONDS - 1
    first.sign("first")
    clock.now += 2
    assert first.count() == 1
    first.sign_off("first")
    assert second.count() == 0
    first.sign("first")
    assert second.count() == 1, "who comes back at once is there at once"


def test_who_could_not_sign_signs_as_soon_as_the_database_is_back(tmp_path: Path, clock: Clock) -> None:
    bounds = DatabaseBounds(timeout_seconds=0.05)
    with (
        closing(Database(f"sqlite:///{tmp_path}/hasty", upgrade=upgrade, bounds=bounds)) as hasty,
        closing(sqlite3.connect(tmp_path / "hasty", isolation_level=None)) as other,
    ):
        roster = Roster(hasty, monotonic=clock)
        assert roster.count() == 0
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(DatabaseUnavailable):
            roster.sign("worker")
        other.execute("ROLLBACK")
        roster.sign("worker")
        assert roster.count() == 1


def test_an_idle_worker_writes_a_few_times_a_minute(database: Database, clock: Clock) -> None:
    roster, written = Roster(database, monotonic=clock), list[str]()
    roster.sign("worker")

    @event.listens_for(database.open(), "before_cursor_execute")
    def note(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
        if not statement.startswith(("BEGIN", "SELECT")):
            written.append(statement)

    for _ in range(60):
        clock.now += 1
        roster.sign("worker")
    assert len(written) / 2 == 60 / SIGN_SECONDS
    assert ABSENT_SECONDS >= 3 * SIGN_SECONDS
