"""How much one caller may have, over routes, threads, instances and a Redis that dies."""

from __future__ import annotations

import collections
import os
import re
import secrets
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from blueprints.callers import caller_address
from blueprints.limits import COUNTED
from blueprints.services import EXTENSION
from tests.support.processes import free_port, running_redis, wait_until
from tests.support.service import TARGET, client_of, running_app, snapapi_environment
from tests.support.stores import redis_pid, silent_server
from tests.support.upstream import Upstream

ONE, OTHER = "198.51.100.1", "198.51.100.2"


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    """Little is allowed, for an hour, so that no test meets the end of a window."""
    return snapapi_environment(
        upstream.url,
        MEDIA_DIR=str(tmp_path / "media"),
        LIMIT_THUMB="3 per hour",
        LIMIT_SCREENSHOT="2 per hour",
        LIMIT_PERSIST="1 per hour",
    )


@pytest.fixture
def client(settings: dict[str, str]) -> Iterator[FlaskClient]:
    with client_of(settings) as client:
        yield client


class Asker:
    """Asks for a new page each time, as one caller or another."""

    def __init__(self, client: FlaskClient) -> None:
        self._client = client

    def status(self, path: str = "/thumb", caller: str = ONE, **more: Any) -> int:
        return int(self.answer(path, caller, **more).status_code)

    def answer(self, path: str = "/thumb", caller: str = ONE, *, page: str = "", **more: Any) -> Any:
        target = f"{TARGET}?{page or secrets.token_hex(8)}"
        more = {"environ_base": {"REMOTE_ADDR": caller}, "buffered": True} | more
        if path in ("/persist", "/api/screenshots"):
            return self._client.post(path, json={"url": target}, **more)
        return self._client.get(path, query_string={"url": target}, **more)


@pytest.fixture
def ask(client: FlaskClient) -> Asker:
    return Asker(client)


def _assert_refused(response: Any, scope: str, quota: int, window_seconds: int = 3600) -> None:
    assert response.status_code == 429
    assert response.get_json()["type"] == "/problems/rate-limited"
    assert response.get_json()["retryable"] is True
    assert response.get_json()["detail"].startswith(
        f"No more than {quota} {COUNTED[scope]} in {window_seconds}"
    )
    seconds = int(response.headers["Retry-After"])
    assert 1 <= seconds <= window_seconds
    assert response.headers["RateLimit-Policy"] == f'"{scope}";q={quota};w={window_seconds}'
    assert re.fullmatch(rf'"{scope}";r=0;t={seconds}', response.headers["RateLimit"])


@pytest.mark.parametrize(
    ("path", "scope", "quota"),
    [
        pytest.param("/thumb", "thumb", 3, id="thumb"),
        pytest.param("/screenshot", "screenshot", 2, id="screenshot"),
        pytest.param("/screenshot/stream", "screenshot", 2, id="stream"),
        pytest.param("/api/screenshot", "screenshot", 2, id="the hermesforge dialect"),
        pytest.param("/v1/screenshot", "screenshot", 2, id="the SnapSharp dialect"),
        pytest.param("/persist", "persist", 1, id="persist"),
    ],
)
def test_captures_are_counted_and_none_is_made_for_who_is_refused(
    ask: Asker, upstream: Upstream, path: str, scope: str, quota: int
) -> None:
    assert all(ask.status(path) < 300 for _ in range(quota))
    refused = ask.answer(path)
    if path.startswith(("/api", "/v1")):
        assert refused.status_code == 429
        assert refused.get_json()["error"] in ("rate-limited", "rate_limited")
        assert int(refused.headers["Retry-After"]) >= 1
    else:
        _assert_refused(refused, scope, quota)
    assert len(upstream.requests) == quota


@pytest.mark.parametrize(
    ("path", "quota"), [pytest.param("/thumb", 30), pytest.param("/screenshot", 10), ("/persist", 5)]
)
def test_the_usual_limits_are_those_of_the_documentation(
    upstream: Upstream, tmp_path: Path, path: str, quota: int
) -> None:
    with client_of(snapapi_environment(upstream.url, MEDIA_DIR=str(tmp_path))) as client:
        ask = Asker(client)
        assert all(ask.status(path) < 300 for _ in range(quota))
        _assert_refused(ask.answer(path), path.strip("/"), quota, 60)


def test_every_screenshot_route_takes_from_one_allowance(ask: Asker) -> None:
    assert ask.status("/screenshot") == 200
    assert ask.status("/api/screenshot/cached") == 200
    for path in (
        "/screenshot",
        "/screenshot/stream",
        "/api/screenshot",
        "/api/screenshots",
        "/v1/screenshot",
    ):
        assert ask.status(path) == 429, path
    assert ask.status("/thumb") == 200


def test_what_the_cache_has_costs_nothing(ask: Asker, upstream: Upstream) -> None:
    statuses = [ask.status(page="same") for _ in range(10)]
    assert statuses == [200] * 10
    assert [ask.status() for _ in range(3)] == [200, 200, 429]
    assert ask.answer(page="same").headers["X-Cache"] == "HIT"
    assert len(upstream.requests) == 3


def test_answers_have_a_wide_limit_of_their_own(settings: dict[str, str], upstream: Upstream) -> None:
    with client_of(settings | {"LIMIT_CACHED": "4 per hour"}) as client:
        ask = Asker(client)
        assert [ask.status(page="same") for _ in range(4)] == [200] * 4
        _assert_refused(ask.answer(page="same"), "answers", 4)
        assert ask.status(page="same", caller=OTHER) == 200
    assert len(upstream.requests) == 1


def test_whatever_is_looked_up_counts_as_an_answer(settings: dict[str, str]) -> None:
    paths = (
        "/batches/x",
        "/batches/x/download",
        "/explain?url=" + TARGET,
        "/jobs/x",
        "/jobs/x/image",
        "/pages",
        "/pages/x",
        "/pages/x/thumb",
        "/usage",
        "/v1/usage",
        "/webhooks/deliveries",
        "/webhooks/deliveries/x",
    )
    with client_of(settings | {"LIMIT_CACHED": "1 per hour"}) as client:
        for number, path in enumerate(paths):
            asker = {"REMOTE_ADDR": f"9.9.9.{number}"}
            first, second = (client.get(path, environ_base=asker).status_code for _ in range(2))
            assert (first in (200, 404), second) == (True, 429), path


def test_callers_do_not_share(ask: Asker) -> None:
    assert [ask.status() for _ in range(4)] == [200, 200, 200, 429]
    assert [ask.status(caller=OTHER) for _ in range(4)] == [200, 200, 200, 429]


def test_what_is_refused_before_a_capture_costs_none(ask: Asker, client: FlaskClient) -> None:
    for query in ({"url": "http://10.0.0.1/"}, {"url": TARGET, "width": "1"}, {}):
        for _ in range(5):
            client.get("/thumb", query_string=query, environ_base={"REMOTE_ADDR": ONE})
    assert [ask.status() for _ in range(4)] == [200, 200, 200, 429]


def test_limits_can_be_switched_off(settings: dict[str, str]) -> None:
    with client_of(settings | {"RATELIMIT_ENABLED": "false"}) as client:
        ask = Asker(client)
        assert {ask.status("/persist") for _ in range(4)} == {201}
        assert client.get("/ready").get_json()["parts"]["limiter"] == "ok"


PROXIES = tuple(ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32", "192.0.2.7/32"))


@pytest.mark.parametrize(
    ("remote", "forwarded", "caller"),
    [
        pytest.param("203.0.113.9", None, "203.0.113.9", id="no proxy"),
        pytest.param("203.0.113.9", "1.1.1.1", "203.0.113.9", id="a stranger's claim"),
        pytest.param("10.0.0.1", "203.0.113.9", "203.0.113.9", id="one proxy"),
        pytest.param("10.0.0.1", "203.0.113.9, 10.0.0.2,192.0.2.7", "203.0.113.9", id="three proxies"),
        pytest.param("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9", id="a claim before the proxy's word"),
        pytest.param("10.0.0.1", "10.9.9.9, 203.0.113.9", "203.0.113.9", id="a claim to be a proxy"),
        pytest.param("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1", id="nonsense from a proxy"),
        pytest.param("10.0.0.1", "nonsense, 203.0.113.9", "203.0.113.9", id="nonsense from a stranger"),
        pytest.param("10.0.0.1", "", "10.0.0.1", id="an empty header"),
        pytest.param("10.0.0.1", None, "10.0.0.1", id="a proxy that says nothing"),
        pytest.param("10.0.0.1", "10.0.0.2", "10.0.0.2", id="proxies all the way"),
        pytest.param("10.0.0.1", "unknown", "10.0.0.1", id="unknown"),
        pytest.param("10.0.0.1", "203.0.113.9:4711", "10.0.0.1", id="with a port"),
        pytest.param("2001:db8::1", "2606:4700::9", "2606:4700::/64", id="IPv6"),
        pytest.param("2001:db8::1", "2606:4700:0:0:0:0:0:9", "2606:4700::/64", id="IPv6 spelled out"),
        pytest.param("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9", id="a proxy's IPv4 in IPv6"),
        pytest.param("10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9", id="a caller's IPv4 in IPv6"),
        pytest.param("::ffff:203.0.113.9", "1.1.1.1", "203.0.113.9", id="a stranger's IPv4 in IPv6"),
        pytest.param("", "1.1.1.1", "unknown", id="a socket without address"),
    ],
)
def test_only_a_trusted_proxys_word_counts(remote: str, forwarded: str | None, caller: str) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    with Flask("test").test_request_context(headers=headers, environ_base={"REMOTE_ADDR": remote}):
        assert caller_address(PROXIES) == caller


def test_callers_behind_a_trusted_proxy_are_told_apart(settings: dict[str, str]) -> None:
    with client_of(settings | {"TRUSTED_PROXIES": "10.0.0.0/8"}) as client:
        ask = Asker(client)

        def through_proxy(caller: str) -> int:
            return ask.status("/persist", "10.0.0.1", headers={"X-Forwarded-For": caller})

        assert [through_proxy(ONE), through_proxy(ONE), through_proxy(OTHER)] == [201, 429, 201]
        assert through_proxy(f"{OTHER}, {ONE}") == 429


def test_a_forged_header_buys_nothing_without_trusted_proxies(ask: Asker) -> None:
    statuses = [
        ask.status("/persist", headers={"X-Forwarded-For": f"203.0.113.{number}"}) for number in range(3)
    ]
    assert statuses == [201, 429, 429]


def _at_once(tasks: list[Callable[[], None]]) -> None:
    everybody = threading.Barrier(len(tasks))

    def run(task: Callable[[], None]) -> None:
        everybody.wait()
        task()

    threads = [threading.Thread(target=run, args=(task,)) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_threads_that_race_on_different_routes_each_meet_their_own_limit(settings: dict[str, str]) -> None:
    answers: list[tuple[str, Any]] = []
    with running_app(settings) as app:

        def task(path: str) -> Callable[[], None]:
            return lambda: answers.append((path, Asker(app.test_client()).answer(path)))

        _at_once([task(path) for path in ("/thumb", "/screenshot", "/persist") for _ in range(6)])
    granted = collections.Counter(path for path, answer in answers if answer.status_code < 300)
    assert granted == {"/thumb": 3, "/screenshot": 2, "/persist": 1}
    for path, answer in answers:
        if answer.status_code >= 300:
            _assert_refused(answer, path.strip("/"), granted[path])


def test_who_waits_for_a_capture_does_not_suffer_from_its_takers_limit(
    settings: dict[str, str], upstream: Upstream
) -> None:
    outcomes: dict[str, int] = {}
    with running_app(settings) as app:
        assert all(Asker(app.test_client()).status() == 200 for _ in range(3))
        allowance = app.extensions[EXTENSION].allowance
        charge, leading, go_on = allowance.thumb, threading.Event(), threading.Event()

        def charge_slowly() -> None:
            leading.set()
            go_on.wait(20)
            charge()

        def want(caller: str) -> None:
            outcomes[caller] = Asker(app.test_client()).status(caller=caller, page="wanted-by-both")

        allowance.thumb = charge_slowly
        refused = threading.Thread(target=want, args=(ONE,))
        refused.start()
        assert leading.wait(20)
        waiting = threading.Thread(target=want, args=(OTHER,))
        waiting.start()
        wait_until(lambda: _waits_for_a_flight(waiting), what="the other caller's wait")
        go_on.set()
        refused.join()
        waiting.join()
    assert outcomes == {ONE: 429, OTHER: 200}
    assert len(upstream.requests) == 4


def _waits_for_a_flight(thread: threading.Thread) -> bool:
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "_wait" and frame.f_code.co_filename.endswith("flights.py"):
            return True
        frame = frame.f_back
    return False


class TestOnRedis:
    def test_two_instances_share_one_allowance(self, settings: dict[str, str], redis_url: str) -> None:
        shared = settings | {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": f"{secrets.token_hex(4)}:"}
        with running_app(shared) as first, running_app(shared) as second:
            one, other = Asker(first.test_client()), Asker(second.test_client())
            assert [one.status(), other.status(), one.status()] == [200, 200, 200]
            _assert_refused(other.answer(), "thumb", 3)
            _assert_refused(one.answer(), "thumb", 3)

    def test_counters_have_a_store_of_their_own_where_one_is_set(
        self, settings: dict[str, str], redis_url: str, tmp_path: Path
    ) -> None:
        prefix = f"{secrets.token_hex(4)}:"
        with running_redis(tmp_path) as own, redis.Redis.from_url(own) as store:
            stores = {"REDIS_URL": redis_url, "LIMITER_REDIS_URL": own, "CACHE_KEY_PREFIX": prefix}
            stores["LIMIT_CACHED"] = "10 per hour"  # little enough to be asked for one by one
            with client_of(settings | stores) as client:
                assert Asker(client).status() == 200
            keys = [key.decode() for key in store.scan_iter()]
        assert len(keys) == 2
        assert all("thumb" in key or "answers" in key for key in keys)

    def test_limits_go_on_in_memory_when_redis_dies_and_return_with_it(
        self, settings: dict[str, str], tmp_path: Path
    ) -> None:
        port = free_port()
        url = f"redis://127.0.0.1:{port}/0"
        with running_redis(tmp_path, port=port), running_app(settings | {"LIMITER_REDIS_URL": url}) as app:
            ask = Asker(app.test_client())
            assert [ask.status() for _ in range(2)] == [200, 200]
            os.kill(redis_pid(url), signal.SIGKILL)
            assert [ask.status() for _ in range(4)] == [200, 200, 200, 429]
            with running_redis(tmp_path, port=port), redis.Redis.from_url(url) as store:

                def counts_in_redis() -> bool:
                    ask.status(caller=OTHER, page="cached")
                    return any(b"answers" in key for key in store.scan_iter())

                wait_until(counts_in_redis, seconds=40, what="the return to Redis")
                assert [ask.status() for _ in range(4)] == [200, 200, 200, 429]

    def test_callers_who_find_redis_silent_at_the_same_time_are_all_served_and_counted(
        self, settings: dict[str, str]
    ) -> None:
        statuses: list[int] = []
        with silent_server() as (url, _), running_app(settings | {"LIMITER_REDIS_URL": url}) as app:

            def task(caller: str) -> Callable[[], None]:
                return lambda: statuses.append(Asker(app.test_client()).status(caller=caller))

            _at_once([task(f"198.51.100.{number}") for number in range(10)])
            assert statuses == [200] * 10
            ask = Asker(app.test_client())
            for number in range(10):
                left = [ask.status(caller=f"198.51.100.{number}") for _ in range(3)]
                assert left == [200, 200, 429], "what each of them got was counted"
