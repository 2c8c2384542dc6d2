"""What callers have had: counted in memory, kept in the database, told to whom it concerns."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from blueprints.services import EXTENSION
from tests.support.access import folder_environment, key_store, make_key, signed, sqlite_url
from tests.support.clocks import Clock
from tests.support.databases import open_database
from tests.support.processes import wait_until
from tests.support.service import TARGET, running_app
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS
from thumbnailer.database import Database
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.keys import Scope
from thumbnailer.usage import NAMES, Counted, UsageMeter

NOON = 1_790_000_000.0
TODAY = date(2026, 9, 21)
NOTHING = dict.fromkeys(NAMES, 0)


def meter_on(database: Database, **more: Any) -> UsageMeter:
    """One that writes when it is told to."""
    settings: dict[str, Any] = {"flush_seconds": 3600, "clock": Clock(NOON), **more}
    return UsageMeter(database, **settings)


class LostDatabase(Database):
    """One that does not answer, and knows how often it was asked to."""

    asked = 0

    def transaction(self) -> Any:
        self.asked += 1
        raise DatabaseUnavailable("The database does not answer at this moment.")


def test_a_lost_database_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    database = LostDatabase("sqlite://", upgrade=lambda _engine: None)
    meter = meter_on(database, flush_seconds=0.01)
    meter.count("key:a", Counted.HITS)
    wait_until(lambda: database.asked > 2, what="the third try")
    meter.close()
    assert [record.getMessage() for record in caplog.records] == ["Usage cannot be written at this moment."]


@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_counts_of_several_processes_and_days_add_up(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = sqlite_url(tmp_path) if kind == "sqlite" else request.getfixturevalue("postgres_url")
    clock = Clock(NOON)
    with closing(open_database(url)) as database:
        one, other = meter_on(database, clock=clock), meter_on(database, clock=clock, kept_days=2)
        for meter in (one, other):
            meter.count("key:a", Counted.HITS, 10)
            meter.count("key:a", Counted.CAPTURES)
            meter.flush()
        one.count("key:b", Counted.REFUSALS)
        clock.now += 86_400
        one.count("key:a", Counted.STALE, 2**40)
        one.flush()
        days = one.read(TODAY)
        assert [(each.account, each.day) for each in days] == [
            ("key:a", TODAY),
            ("key:a", TODAY + timedelta(1)),
            ("key:b", TODAY),
        ]
        assert days[0].counts == NOTHING | {"hits": 2, "captures": 2, "size_bytes": 20}
        assert days[1].counts == NOTHING | {"stale": 1, "size_bytes": 2**40}
        assert [each.day for each in one.read(TODAY + timedelta(1), "key:a")] == [TODAY + timedelta(1)]
        clock.now += 86_400
        other.count("key:a", Counted.HITS)
        other.flush()  # which forgets the first of the days
        assert {each.day for each in other.read(TODAY)} == {TODAY + timedelta(1), TODAY + timedelta(2)}


def test_threads_lose_no_count(tmp_path: Path) -> None:
    with closing(open_database(sqlite_url(tmp_path))) as database:
        meter = meter_on(database)

        def count() -> None:
            for number in range(500):
                meter.count("key:a", Counted.HITS, 1)
                if number % 100 == 0:
                    meter.flush()

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert meter.read(TODAY)[0].counts == NOTHING | {"hits": 2000, "size_bytes": 2000}


def test_counts_are_written_behind_and_at_the_end(tmp_path: Path) -> None:
    with closing(open_database(sqlite_url(tmp_path))) as database, closing(meter_on(database)) as reader:
        meter = meter_on(database, flush_seconds=0.01)
        meter.count("key:a", Counted.HITS)
        wait_until(lambda: len(reader.read(TODAY)) == 1, what="the first count in the database")
        with closing(meter_on(database)) as slow:
            slow.count("key:a", Counted.HITS)
        assert reader.read(TODAY)[0].counts["hits"] == 2
        meter.close()


def test_what_cannot_be_written_is_counted_on_and_memory_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbnailer.usage.MAX_HELD", 3)
    (tmp_path / "file").touch()
    with closing(open_database(f"sqlite:///{tmp_path}/file/no-folder.sqlite3")) as unavailable:
        meter = meter_on(unavailable)
        for number in range(5):
            meter.count(f"key:{number}", Counted.HITS)
        with pytest.raises(DatabaseUnavailable):
            meter.flush()
        assert len(meter._held) == 3
        assert meter.captures_today("key:1") == 0, "as far as anybody can say"
    with closing(open_database(sqlite_url(tmp_path))) as database:
        meter._database = database
        meter.count("key:0", Counted.HITS)
        assert [each.counts["hits"] for each in meter.read(TODAY)] == [2, 1, 1]


def test_counts_are_written_though_something_broke_at_the_first_attempt(tmp_path: Path) -> None:
    class Breaking(UsageMeter):
        is_broken = True

        def flush(self) -> None:
            if self.is_broken:
                self.is_broken = False
                raise RuntimeError("something new")
            super().flush()

    with closing(open_database(sqlite_url(tmp_path))) as database:
        meter, reader = Breaking(database, flush_seconds=0.01), UsageMeter(database)
        meter.count("key:a", Counted.HITS)
        wait_until(lambda: [day.counts["hits"] for day in reader.read(reader.today())] == [1])
        meter.close()


# --- through the door ----------------------------------------------------------------------------


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return folder_environment(
        upstream.url,
        tmp_path,
        LIMIT_THUMB="3 per hour",
        SIGNING_KEYS=SIGNING_KEYS,
    )


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    with running_app(settings) as app:
        yield app


def thumb(client: FlaskClient, headers: dict[str, str], page: str = "", **more: str) -> Any:
    return client.get("/thumb", query_string={"url": TARGET + page} | more, headers=headers, buffered=True)


def used(client: FlaskClient, headers: dict[str, str]) -> dict[str, dict[str, int]]:
    """The totals of each account that the caller is told of."""
    answer = client.get("/usage", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    return {each["account"]: each["total"] for each in answer.get_json()["accounts"]}


def account_of(app: Flask, name: str) -> str:
    return next(f"key:{key.id}" for key in key_store(app).load() if key.name == name)


def test_a_key_sees_what_it_had_and_nobody_else(app: Flask, settings: dict[str, str]) -> None:
    client, shop, other = app.test_client(), make_key(app, "shop"), make_key(app, "other", Scope.PURGE)
    size = len(thumb(client, shop).data)
    assert [thumb(client, shop).headers["X-Cache"] for _ in range(2)] == ["HIT", "HIT"]
    assert client.head("/thumb", query_string={"url": TARGET}, headers=shop).status_code == 200
    assert thumb(client, shop, ttl="60", page="?b").status_code == 200
    assert thumb(client, shop, page="?c").status_code == 200
    assert thumb(client, shop, page="?d").status_code == 429
    assert client.post("/persist", json={"url": TARGET}, headers=shop).status_code == 403
    mine = {"captures": 3, "hits": 3, "stale": 0, "misses": 3, "refusals": 2, "size_bytes": 5 * size}
    assert used(client, shop) == {account_of(app, "shop"): mine}
    assert thumb(client, other).status_code == 403
    assert used(client, other) == {account_of(app, "other"): NOTHING | {"refusals": 1}}
    app.extensions[EXTENSION].close()
    with running_app(settings) as restarted:
        assert used(restarted.test_client(), shop) == {account_of(app, "shop"): mine}


def test_an_admin_sees_all_keys_and_those_without_one(app: Flask) -> None:
    client, shop, admin = app.test_client(), make_key(app, "shop"), make_key(app, "boss", Scope.ADMIN)
    assert thumb(client, shop).status_code == 200
    assert client.get(signed("/thumb", url=TARGET)).status_code == 200
    assert thumb(client, {}).status_code == 403
    assert thumb(client, {"X-API-Key": "tn_guess"}).status_code == 401
    totals = used(client, admin)
    assert totals.keys() == {account_of(app, "shop"), account_of(app, "boss"), "signed", "anonymous"}
    assert totals[account_of(app, "shop")]["captures"] == 1
    assert totals["signed"]["hits"] == 1
    assert totals["anonymous"] == NOTHING | {"refusals": 2}
    names = {each["name"] for each in client.get("/usage", headers=admin).get_json()["accounts"]}
    assert names == {"shop", "boss", None}


def test_jobs_and_kept_pages_are_counted_on_their_owners_account(app: Flask) -> None:
    client, key = app.test_client(), make_key(app, "a", Scope.RENDER, Scope.PERSIST)
    waited = {"Prefer": "wait=20"}
    job = client.post("/screenshots", json={"url": TARGET + "?job"}, headers=key | waited).get_json()
    assert job["status"] == "completed"
    page = client.post("/pages", json={"url": TARGET + "?page"}, headers=key).get_json()
    wait_until(
        lambda: client.get(f"/pages/{page['id']}", headers=key).get_json()["status"] == "ready",
        what="the picture of the page",
    )
    assert used(client, key)[account_of(app, "a")]["captures"] == 2


def test_odd_days_are_refused(app: Flask) -> None:
    client, key = app.test_client(), make_key(app, "a")
    for days in ("0", "401", "many"):
        assert client.get("/usage", query_string={"days": days}, headers=key).status_code == 400


def test_in_an_open_service_everybody_is_anonymous(settings: dict[str, str]) -> None:
    with running_app(settings | {"SIGNING_KEYS": ""}) as app:
        client = app.test_client()
        assert thumb(client, {}).status_code == 200
        assert thumb(client, {}).status_code == 200
        assert used(client, {})["anonymous"]["hits"] == 1


def test_closing_waits_for_a_first_count_that_is_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    failures: list[RuntimeError] = []

    class Hesitant(threading.Thread):
        def start(self) -> None:
            begun.set()
            assert go_on.wait(60)
            super().start()

    def close() -> None:
        try:
            meter.close()
        except RuntimeError as error:
            failures.append(error)

    with closing(open_database(sqlite_url(tmp_path))) as database:
        meter = meter_on(database)
        counting = threading.Thread(target=meter.count, args=("key:a", Counted.HITS))
        ending = threading.Thread(target=close)
        monkeypatch.setattr(threading, "Thread", Hesitant)
        counting.start()
        assert begun.wait(60)
        ending.start()
        ending.join(0.1)  # where it does not wait, it has failed by now
        go_on.set()
        for thread in (counting, ending):
            thread.join(60)
        assert [each.counts["hits"] for each in meter.read(TODAY)] == [1]
    assert failures == []
