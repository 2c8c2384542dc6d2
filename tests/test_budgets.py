"""Limits of keys, plans and budgets: whose they are, and what counts them."""

from __future__ import annotations

import os
import re
import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient
from limits import parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter

from tests.support.access import folder_environment, key_store, make_key, sqlite_url
from tests.support.ageing import age_pictures
from tests.support.databases import open_database
from tests.support.processes import free_port, running_redis, wait_until
from tests.support.service import TARGET, client_of, running_app
from tests.support.stores import redis_pid
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS
from thumbnailer.budgets import CaptureBudgets
from thumbnailer.counters import DatabaseStorage
from thumbnailer.errors import CallerLimited
from thumbnailer.keys import Scope
from thumbnailer.plans import Plan, parse_plans

MIDNIGHT = 1_790_035_200.0  # UTC
PLANS = "small:thumb=1 per hour,daily_captures=3;large:thumb=30/hour;1000/day,cached=2 per hour"


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return folder_environment(
        upstream.url,
        tmp_path,
        LIMIT_THUMB="2 per hour",
        PLANS=PLANS,
    )


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    """A closed service."""
    with running_app(settings | {"SIGNING_KEYS": SIGNING_KEYS}) as app:
        yield app


def ask(client: FlaskClient, headers: dict[str, str], path: str = "/thumb", page: str | None = None) -> Any:
    target = f"{TARGET}?{page or secrets.token_hex(8)}"
    if path == "/persist":
        return client.post(path, json={"url": target}, headers=headers)
    return client.get(path, query_string={"url": target}, headers=headers, buffered=True)


def statuses(client: FlaskClient, headers: dict[str, str], times: int, **more: Any) -> list[int]:
    return [ask(client, headers, **more).status_code for _ in range(times)]


# --- plans ---------------------------------------------------------------------------------------


def test_plans_are_read_with_limits_that_hold_semicolons() -> None:
    plans = parse_plans(PLANS)
    assert plans["small"] == Plan(limits={"thumb": "1 per hour"}, daily_captures=3)
    assert plans["large"].limits == {"thumb": "30/hour;1000/day", "cached": "2 per hour"}
    assert parse_plans("") == {}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("Free:thumb=1 per hour", "name"),
        ("thumb=1 per hour", "name"),
        ("a:thumb=1 per hour;a:thumb=2 per hour", "plan twice"),
        ("a:thumb=1 per hour,thumb=2 per hour", "limit twice"),
        ("a:thumb=often", "the limit of thumb"),
        ("a:bread=1 per hour", "'bread' has no limit"),
        ("a:daily_captures=-1", "whole number"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_plans(text)


def test_a_key_has_its_own_limits_else_its_plans_else_the_usual_ones(app: Flask) -> None:
    client = app.test_client()
    usual, small = make_key(app, "usual"), make_key(app, "small", plan="small")
    own = make_key(app, "own", plan="small", limits={"thumb": "3 per hour"})
    lost = make_key(app, "lost", plan="gone")
    assert statuses(client, usual, 3) == [200, 200, 429]
    assert statuses(client, small, 2) == [200, 429]
    day = client.get("/v1/usage", headers=small).get_json()
    assert (day["limit"], day["remaining"]) == (3, 2), "who asks too fast spends nothing of that"
    assert statuses(client, own, 4) == [200, 200, 200, 429]
    assert statuses(client, lost, 3) == [200, 200, 429]
    large = make_key(app, "large", plan="large")
    assert statuses(client, large, 3, page="same") == [200, 200, 429]


@pytest.mark.parametrize(
    ("kind", "path", "scope"),
    [
        ("screenshot", "/screenshot", Scope.RENDER),
        ("persist", "/persist", Scope.PERSIST),
    ],
)
def test_every_kind_of_capture_has_a_limit_by_key(app: Flask, kind: str, path: str, scope: Scope) -> None:
    key = make_key(app, "a", scope, limits={kind: "1 per hour"})
    first, second = (ask(app.test_client(), key, path) for _ in range(2))
    assert first.status_code in (200, 201)
    assert first.headers["RateLimit-Policy"] == f'"{kind}";q=1;w=3600'
    assert second.status_code == 429


def test_jobs_and_purges_have_limits_by_key(app: Flask) -> None:
    limits = {"jobs": "1 per hour", "purge": "1 per hour"}
    key, client = make_key(app, "a", Scope.RENDER, Scope.PURGE, limits=limits), app.test_client()
    for method, path in (("POST", "/screenshots"), ("POST", "/cache/purge")):
        body = {"url": TARGET} if path == "/screenshots" else {"targets": [TARGET]}
        first, second = (client.open(path, method=method, json=body, headers=key) for _ in range(2))
        assert first.status_code in (200, 202)
        assert first.headers["RateLimit"].split(";")[1] == "r=0"
        assert second.status_code == 429, path


def test_each_job_and_each_new_or_changed_page_counts_and_what_is_refused_does_not(app: Flask) -> None:
    key = make_key(app, "a", Scope.RENDER, Scope.PERSIST, limits={"jobs": "5 per hour"})
    client, left = app.test_client(), list[str]()

    def send(method: str, path: str, status: int = 202, **body: Any) -> Any:
        answer = client.open(path, method=method, json=body, headers=key)
        assert answer.status_code == status
        left.extend(re.findall(r'^"jobs";r=(\d+)', answer.headers.get("RateLimit", "")))
        return answer.get_json()

    send("POST", "/screenshots", 403, url="http://10.0.0.1/")
    send("POST", "/screenshots", url=TARGET)
    send("POST", "/screenshots/batch", urls=[f"{TARGET}?1", f"{TARGET}?2"], **{"async": True})
    page = send("POST", "/pages", url=TARGET)
    send("PATCH", f"/pages/{page['id']}", refresh_seconds=7200)
    assert left == ["4", "2", "1", "0"]
    send("POST", "/screenshots", 429, url=TARGET)


def test_a_change_of_plan_counts_within_seconds(app: Flask) -> None:
    client, key = app.test_client(), make_key(app, "a")
    runner = app.test_cli_runner()
    assert statuses(client, key, 3) == [200, 200, 429]
    refused = runner.invoke(args=["keys", "plan", "a", "huge"])
    assert refused.exit_code == 1
    assert "PLANS has large, small" in refused.output
    assert runner.invoke(args=["keys", "plan", "a", "large"]).exit_code == 0
    wait_until(lambda: ask(client, key).status_code == 200, what="the new plan")
    assert "plan=large" in runner.invoke(args=["keys", "list"]).output
    assert runner.invoke(args=["keys", "plan", "a"]).exit_code == 0
    assert key_store(app).load()[0].terms.plan is None


# --- what answers say ----------------------------------------------------------------------------


def test_answers_that_were_charged_say_what_is_left_and_others_do_not(app: Flask) -> None:
    client, key = app.test_client(), make_key(app, "a", plan="small", limits={"thumb": "30/hour;1000/day"})
    first = ask(client, key, page="same")
    assert first.headers["RateLimit-Policy"] == (
        '"thumb-3600";q=30;w=3600, "thumb-86400";q=1000;w=86400, "day";q=3;w=86400'
    )
    left = [item.strip().rpartition(";t=") for item in first.headers["RateLimit"].split(",")]
    assert [item for item, _, _ in left] == ['"thumb-3600";r=29', '"thumb-86400";r=999', '"day";r=2']
    assert all(int(seconds) > 0 for _, _, seconds in left)
    hit = ask(client, key, page="same")
    assert hit.headers["X-Cache"] == "HIT"
    for answer in (first, hit, client.get("/health")):
        assert "Retry-After" not in answer.headers
    for answer in (hit, client.get("/health")):
        assert "RateLimit" not in answer.headers
        assert "RateLimit-Policy" not in answer.headers


def test_streams_say_what_is_left_too(app: Flask) -> None:
    answer = ask(app.test_client(), make_key(app, "a"), "/screenshot/stream")
    assert answer.headers["RateLimit-Policy"] == '"screenshot";q=10;w=60'


# --- budgets -------------------------------------------------------------------------------------


def test_a_used_up_budget_refuses_captures_until_the_day_ends(app: Flask, upstream: Upstream) -> None:
    client, key = app.test_client(), make_key(app, "a", Scope.RENDER, daily_captures=1)
    assert ask(client, key, page="kept").status_code == 200
    refused = ask(client, key)
    assert refused.status_code == 429
    assert refused.get_json()["type"] == "/problems/rate-limited"
    assert refused.headers["RateLimit-Policy"] == '"day";q=1;w=86400'
    assert refused.headers["RateLimit"] == f'"day";r=0;t={refused.headers["Retry-After"]}'
    assert ask(client, key, path="/screenshot").status_code == 429
    assert ask(client, key, page="kept").headers["X-Cache"] == "HIT"
    assert len(upstream.requests) == 1
    assert ask(client, make_key(app, "b")).status_code == 200


@pytest.mark.parametrize("door", ["job", "page"])
def test_what_is_done_behind_answers_comes_from_the_budget_of_its_owner(
    app: Flask, upstream: Upstream, door: str
) -> None:
    client, key = app.test_client(), make_key(app, "a", Scope.RENDER, Scope.PERSIST, daily_captures=0)
    path = "/screenshots" if door == "job" else "/pages"
    accepted = client.post(path, json={"url": TARGET}, headers=key).get_json()
    where = f"/jobs/{accepted['job_id']}" if door == "job" else f"/pages/{accepted['id']}"

    def state() -> Any:
        return client.get(where, headers=key).get_json()

    wait_until(lambda: state()["status"] == "failed", what="the refusal")
    assert "rate-limited" in str(state())
    assert upstream.requests == ()


def test_the_budget_of_the_service_is_shared_and_survives_a_restart(
    settings: dict[str, str], upstream: Upstream
) -> None:
    bounded = settings | {"CAPTURE_BUDGET": "2", "RATELIMIT_ENABLED": "false"}
    with running_app(bounded) as first, running_app(bounded) as second:
        one, other = first.test_client(), second.test_client()
        assert statuses(one, {}, 1) == [200]
        assert ask(other, {}, page="kept").status_code == 200
        assert statuses(one, {}, 1) == [429]
        refused = ask(other, {})
        assert refused.headers["RateLimit-Policy"] == '"service-day";q=2;w=86400'
    with client_of(bounded) as restarted:
        assert statuses(restarted, {}, 1) == [429]
        assert ask(restarted, {}, page="kept").headers["X-Cache"] == "HIT"
    assert len(upstream.requests) == 2


def test_commands_spend_the_budget_of_the_service_and_are_counted(
    settings: dict[str, str], upstream: Upstream, tmp_path: Path
) -> None:
    with running_app(settings | {"CAPTURE_BUDGET": "1"}) as app:
        runner, client = app.test_cli_runner(), app.test_client()
        for page, code in (("a", 0), ("b", 1)):
            written = runner.invoke(args=["thumb", f"{TARGET}?{page}", "-o", str(tmp_path / "a.png")])
            assert written.exit_code == code, written.output
        assert "for today are taken" in written.output
        assert ask(client, {}).status_code == 429
        boss = make_key(app, "boss", Scope.ADMIN)
        wait_until(lambda: client.get("/usage").status_code == 401, what="the closed service")
        accounts = client.get("/usage", headers=boss).get_json()["accounts"]
    assert {each["account"]: each["total"]["captures"] for each in accounts}["operator"] == 1
    assert len(upstream.requests) == 1


def test_limits_without_redis_hold_over_processes_and_restarts(settings: dict[str, str]) -> None:
    with running_app(settings) as first, running_app(settings) as second:
        one, other = first.test_client(), second.test_client()
        assert [ask(client, {}).status_code for client in (one, other, one)] == [200, 200, 429]
    with client_of(settings) as restarted:
        assert statuses(restarted, {}, 1) == [429]


def test_an_old_picture_is_served_where_the_budget_is_used_up(
    settings: dict[str, str], upstream: Upstream
) -> None:
    with running_app(settings | {"CAPTURE_BUDGET": "1"}) as app:
        client = app.test_client()
        assert ask(client, {}, page="kept").status_code == 200
        assert age_pictures(Path(settings["CACHE_DIR"]), 100_000) == 1
        stale = ask(client, {}, page="kept")
        assert (stale.status_code, stale.headers["X-Cache"]) == (200, "STALE")
        assert "Retry-After" not in stale.headers
        assert age_pictures(Path(settings["CACHE_DIR"]), 1_000_000) == 1
        much_older = ask(client, {}, page="kept")
        assert (much_older.status_code, much_older.headers["X-Cache"]) == (200, "STALE")
        assert much_older.headers["X-Problem"] == "rate-limited"
        assert len(upstream.requests) == 1


class Days:
    """A clock that somebody sets."""

    def __init__(self) -> None:
        self.now = MIDNIGHT + 3600

    def __call__(self) -> float:
        return self.now


def budgets(store: Any, *, total: int | None = None, own: int | None = None, **more: Any) -> CaptureBudgets:
    return CaptureBudgets(store, total=total, quota_of=lambda _account: own, prefix="t:", **more)


def test_a_budget_begins_anew_with_each_day() -> None:
    days, store = Days(), MemoryStorage(wrap_exceptions=True)
    spender = budgets(store, own=2, clock=days)
    assert [quota.remaining for _ in range(2) for quota in spender.spend("key:a")] == [1, 0]
    days.now = MIDNIGHT + 86_399
    with pytest.raises(CallerLimited) as refused:
        spender.spend("key:a")
    assert refused.value.retry_after_seconds == 1
    assert spender.spend("key:b")[0].remaining == 1
    days.now = MIDNIGHT + 86_400
    assert spender.spend("key:a")[0].remaining == 1


def test_who_has_no_budget_left_takes_nothing_from_the_services() -> None:
    store = MemoryStorage(wrap_exceptions=True)
    greedy, other = budgets(store, own=1, total=2), budgets(store, total=2)
    greedy.spend("key:a")
    for _ in range(5):
        with pytest.raises(CallerLimited, match="this key"):
            greedy.spend("key:a")
    assert other.spend("anonymous") == ()
    with pytest.raises(CallerLimited, match="this service"):
        other.spend("anonymous")


def test_without_a_bound_nothing_is_asked() -> None:
    assert budgets(None).spend("key:a") == ()


def test_what_is_left_of_the_whole_services_day_is_told_without_being_spent() -> None:
    days, store = Days(), MemoryStorage(wrap_exceptions=True)
    spender = budgets(store, total=3, clock=days)
    spender.spend("key:a")
    for each in (spender, budgets(store, total=3, clock=days)):
        left = each.total_quota()
        assert left is not None
        assert (left.amount, left.remaining) == (3, 2)
    assert budgets(store, own=3).total_quota() is None


def test_a_budget_goes_on_from_what_was_known_when_its_store_dies(tmp_path: Path) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    store = storage_from_string(url, wrap_exceptions=True, socket_connect_timeout=0.3, socket_timeout=0.3)
    days = Days()
    spender = budgets(store, own=5, clock=days)
    with running_redis(tmp_path, port=port):
        budgets(store, own=5, clock=days).spend("key:a")
        assert spender.spend("key:a")[0].remaining == 3
        with redis.Redis.from_url(url) as client:
            keys = [key.decode() for key in client.scan_iter()]
            assert len(keys) == 1
            assert client.ttl(keys[0]) > 0
        os.kill(redis_pid(url), signal.SIGKILL)
        assert [spender.spend("key:a")[0].remaining for _ in range(3)] == [2, 1, 0]
        with pytest.raises(CallerLimited):
            spender.spend("key:a")
        left = spender.own_quota("key:a")
        assert left is not None
        assert left.remaining == 0
        days.now += 86_400
        assert spender.spend("key:a")[0].remaining == 4


def test_a_budget_goes_on_from_what_the_process_knows_when_its_store_has_lost_it() -> None:
    store = MemoryStorage(wrap_exceptions=True)
    spender = budgets(store, own=4, clock=Days())
    for _ in range(2):
        spender.spend("key:a")
    store.reset()
    assert spender.spend("key:a")[0].remaining == 1


def test_a_budget_goes_on_when_its_store_has_lost_all_counters(
    settings: dict[str, str], upstream: Upstream, redis_url: str
) -> None:
    prefix = f"budgets-{secrets.token_hex(4)}:"
    stores = {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": prefix}
    bounded = settings | stores | {"SIGNING_KEYS": SIGNING_KEYS, "CAPTURE_BUDGET": "4"}
    with redis.Redis.from_url(redis_url) as client:

        def lose_counters() -> None:
            client.delete(*client.scan_iter(f"*{prefix}budget:*"))

        with running_app(bounded) as app:
            own = make_key(app, "own", plan="small", limits={"thumb": "100 per hour"})
            assert statuses(app.test_client(), own, 1) == [200]
            lose_counters()
            assert statuses(app.test_client(), own, 1) == [200]
        lose_counters()  # of the next process, too, which knows nothing by itself
        with running_app(bounded) as app:
            assert statuses(app.test_client(), own, 2) == [200, 429]
            other = make_key(app, "other", limits={"thumb": "100 per hour"})
            lose_counters()
            assert statuses(app.test_client(), other, 2) == [200, 429]
    assert len(upstream.requests) == 4


# --- the counters of the database ----------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgres"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., DatabaseStorage]]:
    url = sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    with closing(open_database(url)) as database:
        yield lambda **more: DatabaseStorage(database=database, **more)


def test_counters_count_until_their_end_and_are_tidied_away(storage: Callable[..., DatabaseStorage]) -> None:
    days = Days()
    one, other = storage(clock=days), storage(clock=days)
    assert [each.incr("a", 60) for each in (one, other, one)] == [1, 2, 3]
    assert other.incr("b", 600, amount=5) == 5
    assert (other.get("a"), other.get_expiry("a")) == (3, days.now + 60)
    days.now += 60
    assert (one.get("a"), one.get_expiry("a")) == (0, days.now)
    assert one.incr("a", 60) == 1
    assert other.incr("b", 600, amount=2) == 7
    assert other.get_expiry("b") == days.now + 540, "however often it counts"
    one.clear("a")
    assert (one.get("a"), one.get("b")) == (0, 7)
    days.now += 600
    assert [each.incr("c" * 300, 60) for each in (one, other)] == [1, 2]
    assert one.reset() == 1


def test_counters_do_not_wait_for_the_time_that_a_clock_had_before_it_was_set_back(
    storage: Callable[..., DatabaseStorage],
) -> None:
    days = Days()
    store = storage(clock=days)
    assert [store.incr("a", 60) for _ in range(3)] == [1, 2, 3]
    days.now -= 30
    assert store.incr("a", 60) == 4, "machines' clocks differ"
    days.now -= 86_400
    assert [store.incr("a", 60) for _ in range(2)] == [1, 2]


def test_the_library_counts_with_them(storage: Callable[..., DatabaseStorage]) -> None:
    limiter, limit = FixedWindowRateLimiter(storage()), parse("2 per hour")
    assert [limiter.hit(limit, "somebody") for _ in range(3)] == [True, True, False]
    assert limiter.hit(limit, "somebody-else")
    assert limiter.get_window_stats(limit, "somebody").remaining == 0
    assert limiter.storage.check()


def test_a_database_that_cannot_count_is_the_stores_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with closing(open_database(f"sqlite:///{tmp_path}/file/none.sqlite3")) as database:
        store = DatabaseStorage(database=database, wrap_exceptions=True)
        with pytest.raises(StorageError):
            store.incr("a", 60)
        assert not store.check()
