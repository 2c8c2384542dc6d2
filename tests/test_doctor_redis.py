"""flask doctor on Redis: cache, limits, queue and those who work on it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast

import pytest
import redis

from tests.support.doctor import (
    IN_URL,
    PASSWORD,
    examine,
    fresh_settings,
    made_database,
)
from tests.support.processes import executable, free_port, running
from tests.support.service import running_app
from tests.support.stores import silent_server
from tests.support.upstream import Upstream
from thumbnailer.diagnosis import State, stores
from thumbnailer.jobs.roster import Roster
from thumbnailer.model import Deadline


@pytest.fixture
def fresh(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    return fresh_settings(tmp_path, upstream.url)


@contextmanager
def redis_with(folder: Path, *options: str) -> Iterator[str]:
    port = free_port()
    command = [executable("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running([*command, "--dir", str(folder), *options], port=port, log=folder / f"redis-{port}.log"):
        yield f"redis://127.0.0.1:{port}/0"


def test_redis_is_greeted_and_left_as_it_was(fresh: dict[str, str], tmp_path: Path) -> None:
    with redis_with(tmp_path, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as cache:
        with redis_with(tmp_path, "--maxmemory", "64mb", "--maxmemory-policy", "noeviction") as limiter:
            both = fresh | {"REDIS_URL": cache, "LIMITER_REDIS_URL": limiter}
            report = examine(both, "cache", "limits", "jobs")
        with closing(redis.Redis.from_url(cache)) as client:
            assert client.dbsize() == 0
    assert re.match(r"Redis \d+\.\d+\.\d+ answers in ", report.of("cache", "Redis")[1])
    assert report.of("cache", "bound")[1].startswith("maxmemory 64 MiB, maxmemory-policy allkeys-lru")
    assert report.of("cache", "clock")[1].startswith("the clocks agree")
    assert report.of("limits", "memory")[0] == report.of("jobs", "queue")[0] == "ok"
    assert "forgets them when it restarts" in report.of("limits", "memory")[1]
    assert {one["state"] for (part, _), one in report.checks.items() if part != "jobs"} == {"ok"}


def test_counters_in_a_redis_that_evicts_are_doubtful(fresh: dict[str, str], tmp_path: Path) -> None:
    with redis_with(tmp_path, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as url:
        report = examine(fresh | {"REDIS_URL": url}, "cache", "limits")
    assert report.of("cache", "bound")[0] == report.of("limits", "memory")[0] == "warning"
    assert "LIMITER_REDIS_URL" in report.of("cache", "bound")[1]
    assert "noeviction" in report.of("limits", "memory")[1]


@pytest.mark.parametrize("password", [PASSWORD, ""], ids=["a wrong one", "none"])
def test_a_redis_that_wants_another_password_fails_without_it(
    fresh: dict[str, str], tmp_path: Path, password: str
) -> None:
    with redis_with(tmp_path, "--requirepass", "the-right-one") as url:
        with_password = url.replace("//", f"//:{IN_URL}@") if password else url
        report = examine(fresh | {"REDIS_URL": with_password}, "cache", "limits", "jobs")
    state, told = report.of("cache", "Redis")
    assert (report.code, state) == (1, "failed")
    assert "Put the right user and password into REDIS_URL." in told
    assert report.of("jobs", "queue")[0] == "failed"
    assert PASSWORD not in report.text
    assert IN_URL not in report.text


def test_a_redis_user_without_rights_fails(fresh: dict[str, str], tmp_path: Path) -> None:
    with redis_with(tmp_path) as url:
        with closing(redis.Redis.from_url(url)) as client:
            rights = ["+@read", "+@connection", "+info", "+time"]
            client.acl_setuser(
                "reader", enabled=True, passwords=["+let-me-read"], keys=["*"], commands=rights
            )
        report = examine(fresh | {"REDIS_URL": url.replace("//", "//reader:let-me-read@")}, "cache")
    state, told = report.of("cache", "Redis")
    assert state == "failed"
    assert "ACL" in told
    assert "let-me-read" not in report.text


def test_a_redis_that_nobody_is_at_fails(fresh: dict[str, str]) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    report = examine(
        fresh | {"REDIS_URL": url, "LIMITER_REDIS_URL": f"{url[:-1]}1"}, "cache", "limits", "jobs"
    )
    assert "let REDIS_URL name where it is" in report.of("cache", "Redis")[1]
    assert "let LIMITER_REDIS_URL name where it is" in report.of("limits", "Redis")[1]
    for part, check in (("cache", "bound"), ("cache", "clock"), ("limits", "memory"), ("jobs", "queue")):
        assert report.of(part, check)[0] == "failed", check


def test_a_redis_that_says_nothing_fails_in_time(fresh: dict[str, str]) -> None:
    with silent_server() as (url, _):
        report = examine(fresh | {"REDIS_URL": url}, "cache", "limits", timeout=5)
    assert "REDIS_TIMEOUT" in report.of("cache", "Redis")[1]
    assert {one["state"] for name, one in report.checks.items() if name != ("limits", "rate limits")} == {
        "failed"
    }


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0.0, State.OK), (-3.0, State.WARNING), (3600.0, State.FAILED)],
    ids=["none", "a little", "an hour"],
)
def test_clocks_that_differ_are_told(seconds: float, state: State) -> None:
    class Elsewhere:
        def ping(self) -> bool:
            return True

        def time(self) -> tuple[int, int]:
            now = time.time() + seconds
            return int(now), int(now % 1 * 1_000_000)

        def close(self) -> None:
            """Nothing is open."""

    def connect() -> redis.Redis:
        return cast(redis.Redis, Elsewhere())

    verdict = stores.agrees_on_the_time(Deadline.after(1), connect=connect)
    assert verdict.state is state
    assert seconds == 0 or f"{abs(seconds):.0f}." in verdict.found


def test_an_open_breaker_is_told(fresh: dict[str, str], redis_url: str) -> None:
    prefix = "doctor-breaker:"
    environ = fresh | {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": prefix}
    with closing(redis.Redis.from_url(redis_url)) as client:
        assert examine(environ, "providers").of("providers", "hermesforge: breaker")[0] == "ok"
        circuit = {"failures": 5, "fault": "UpstreamAuth", "open_until": time.time() + 60}
        client.set(f"{prefix}breaker:hermesforge", json.dumps(circuit), ex=60)
        state, told = examine(environ, "providers").of("providers", "hermesforge: breaker")
    assert state == "warning"
    assert told.startswith("its breaker is open after 5 failures, the last of them UpstreamAuth")


def test_nobody_is_called_healthy_whom_redis_cannot_tell_of(fresh: dict[str, str]) -> None:
    environ = fresh | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    assert examine(environ, "providers").of("providers", "hermesforge: breaker")[0] == "failed"


def test_workers_and_what_waits_for_them_are_told(
    fresh: dict[str, str], tmp_path: Path, redis_url: str
) -> None:
    environ = fresh | {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": "doctor-jobs:"}
    (tmp_path / "var").mkdir()
    with made_database(environ["DATABASE_URL"]) as database:
        assert "Start a worker" in examine(environ, "jobs").of("jobs", "workers")[1]
        Roster(database).sign("a worker")
        assert examine(environ, "jobs").of("jobs", "workers") == (
            "ok",
            "1 worker is alive, 0 jobs are not done ",
        )
        Roster(database).sign_off("a worker")
    with running_app(environ) as app:
        accepted = app.test_client().post("/screenshots", json={"url": "http://93.184.216.34/"})
        assert accepted.status_code == 202
    report = examine(environ, "jobs")
    assert (report.code, report.of("jobs", "workers")[0]) == (1, "failed")
    assert report.of("jobs", "queue")[1].startswith("the broker answers; messages in the queue: 1")
