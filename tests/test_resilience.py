"""Every door stays open while Redis is dead, silent, or dies in between."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.pictures import picture
from tests.support.processes import free_port, running_redis, wait_until
from tests.support.service import TARGET, Service, client_of, running_service, snapapi_environment
from tests.support.stores import redis_pid, silent_server
from tests.support.upstream import Upstream

#: A hang is what takes longer than this; a silent Redis costs each call to it 0.3 s.
PATIENCE_SECONDS = 15


@contextmanager
def dead_redis() -> Iterator[str]:
    """The URL of a port that refuses every connection, for as long as the block lasts."""
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        yield f"redis://127.0.0.1:{bound_but_deaf.getsockname()[1]}/0"


@contextmanager
def silent_redis() -> Iterator[str]:
    with silent_server() as (url, _):
        yield url


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module", params=[dead_redis, silent_redis], ids=["dead", "silent"])
def service(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    redis: AbstractContextManager[str] = request.param()
    with redis as url:
        settings = snapapi_environment(upstream.url, REDIS_URL=url, WEB_CONCURRENCY="1")
        settings |= {"LIMIT_SCREENSHOT": "1000 per hour", "LIMIT_THUMB": "1000 per hour"}
        with running_service(tmp_path_factory.mktemp("service"), settings) as service:
            yield service


def _ask(service: Service, method: str, path: str, **more: Any) -> requests.Response:
    return requests.request(method, service.url + path, timeout=PATIENCE_SECONDS, **more)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/thumb", 200),
        ("HEAD", "/thumb", 200),
        ("GET", "/screenshot", 200),
        ("GET", "/screenshot/stream", 200),
        ("POST", "/screenshot", 200),
        ("POST", "/persist", 201),
        ("GET", "/api/screenshot", 200),
        ("GET", "/api/screenshot/cached", 200),
        ("GET", "/api/screenshot/stream", 200),
        ("POST", "/api/screenshots", 200),
        ("GET", "/v1/screenshot", 200),
        ("POST", "/v1/screenshot", 200),
    ],
)
def test_every_picture_route_works(service: Service, method: str, path: str, status: int) -> None:
    asked = {"url": f"{TARGET}?{method}{path}"}
    where = {"json": asked} if method == "POST" else {"params": asked}
    headers = {"Idempotency-Key": "order-4711"} if path == "/persist" else {}
    for _ in range(2):
        response = _ask(service, method, path, headers=headers, **where)
        assert response.status_code == status, response.text
        status = 200  # the second time the picture is stored already
    if response.headers["Content-Type"].startswith("image/") and method == "GET":
        assert response.content == picture(response.headers["Content-Type"].removeprefix("image/"))


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/screenshots", {"url": TARGET}),
        ("/screenshots/batch", {"urls": [f"{TARGET}?{number}" for number in range(100)], "async": True}),
        ("/pages", {"url": TARGET}),
    ],
)
def test_every_order_is_accepted(service: Service, path: str, body: dict[str, Any]) -> None:
    assert _ask(service, "POST", path, json=body).status_code == 202


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/health", 200),
        ("/ready", 200),
        ("/docs", 200),
        ("/openapi.json", 200),
        ("/problems/internal", 200),
        ("/media/nothing.png", 404),
        ("/nowhere", 404),
        ("/thumb?url=nonsense", 400),
        ("/thumb?url=http://10.0.0.1/", 403),
    ],
)
def test_every_other_route_works(service: Service, path: str, status: int) -> None:
    assert _ask(service, "GET", path).status_code == status


def test_ready_tells_of_it(service: Service) -> None:
    document = _ask(service, "GET", "/ready").json()
    assert document["status"] == "degraded"
    expected = {"provider": "ok", "cache": "down", "limiter": "down", "storage": "ok", "database": "ok"}
    assert {name: document["parts"][name] for name in expected} == expected


@pytest.mark.parametrize("pages", [1, 24], ids=["one page", "a page for each"])
def test_a_crowd_is_served(service: Service, pages: int) -> None:
    everybody = threading.Barrier(24)
    statuses: list[int] = []

    def want(number: int) -> None:
        everybody.wait()
        page = f"{TARGET}?crowd-{pages}-{number % pages}"
        statuses.append(_ask(service, "GET", "/thumb", params={"url": page}).status_code)

    threads = [threading.Thread(target=want, args=(number,)) for number in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 24


def test_the_log_does_not_repeat_it_for_every_request(service: Service) -> None:
    size = service.log.stat().st_size
    for _ in range(20):
        _ask(service, "GET", "/thumb", params={"url": f"{TARGET}?quiet"})
    complaints = service.log.read_text()[size:].count(" fails: ")
    assert complaints < 20, "each request has several reasons to complain"


def test_a_cache_that_dies_is_done_without_and_used_again_when_it_is_back(
    upstream: Upstream, tmp_path: Path
) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    settings = snapapi_environment(upstream.url, REDIS_URL=url, RATELIMIT_ENABLED="false")
    query = {"url": f"{TARGET}?dies"}
    with running_redis(tmp_path, port=port), client_of(settings) as client:

        def x_cache() -> str:
            response = client.get("/thumb", query_string=query)
            assert response.status_code == 200
            return response.headers["X-Cache"]

        assert [x_cache(), x_cache()] == ["MISS", "HIT"]
        os.kill(redis_pid(url), signal.SIGKILL)
        assert [x_cache(), x_cache()] == ["MISS", "MISS"]
        with running_redis(tmp_path, port=port):
            wait_until(lambda: x_cache() == "HIT", what="the return to the cache")
