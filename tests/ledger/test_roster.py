"""Which workers are alive, and how often they say so."""

from __future__ import annotations

import pytest
from sqlalchemy import event

from tests.support.trips import Clock
from thumbnailer.database import Database
from thumbnailer.jobs.roster import ABSENT_SECONDS, SIGN_SECONDS, Roster


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
