"""One capture per picture, over threads and workers of a real gunicorn, and with Redis over two of them."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.support.ageing import age_pictures, age_pictures_in_redis
from tests.support.answers import Answer, Received, image, json_error
from tests.support.pictures import picture
from tests.support.processes import running_redis, wait_until
from tests.support.service import Service, running_service, snapapi_environment
from tests.support.upstream import Upstream

CALLERS = 80


def new_path(route: str) -> str:
    """The path of a picture that nobody has asked for yet."""
    target = f"http://93.184.216.34/{secrets.token_hex(8)}"
    return f"{route}?url={quote(target, safe='')}"


class Crowd:
    """Callers who all ask for one picture before the upstream gives its first answer."""

    def __init__(self, answer: Answer, size: int = CALLERS) -> None:
        self._answer = answer
        self._everybody_has_asked = threading.Barrier(size, action=self._let_go)
        self._size = size
        self._go = threading.Event()

    def _let_go(self) -> None:
        self._go.set()

    def upstream_answer(self, _received: Received) -> Answer:
        assert self._go.wait(60), "not everybody has asked"
        return self._answer

    def ask(self, services: list[Service], route: str = "/thumb") -> list[tuple[int, bytes]]:
        """Status and body of what each of them gets; the services are asked in turn."""
        return self.ask_for(new_path(route), services)

    def ask_for(self, path: str, services: list[Service]) -> list[tuple[int, bytes]]:
        with ThreadPoolExecutor(self._size) as pool:
            asking = [
                pool.submit(self._ask_one, services[number % len(services)], path)
                for number in range(self._size)
            ]
            return [each.result() for each in asking]

    def _ask_one(self, service: Service, path: str) -> tuple[int, bytes]:
        address = urlsplit(service.url)
        with contextlib.closing(
            HTTPConnection(str(address.hostname), address.port, timeout=90)
        ) as connection:
            connection.request("GET", path)
            self._everybody_has_asked.wait(60)
            response = connection.getresponse()
            return response.status, response.read()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module", params=["one service with files", "two services on one redis"])
def redis_url(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[str | None]:
    with contextlib.ExitStack() as held:
        is_wanted = request.param.endswith("redis")
        yield held.enter_context(running_redis(tmp_path_factory.mktemp("redis"))) if is_wanted else None


@pytest.fixture(scope="module")
def services(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, redis_url: str | None
) -> Iterator[list[Service]]:
    """Two workers with a file cache, or four on two machines that share nothing but a Redis."""
    environ = snapapi_environment(upstream.url, WEB_CONCURRENCY="2", RATELIMIT_ENABLED="false")
    folders = [tmp_path_factory.mktemp("service")]
    if redis_url:
        environ["REDIS_URL"] = redis_url
        environ["REDIS_TIMEOUT"] = "5"  # a busy machine is no dead Redis
        folders.append(tmp_path_factory.mktemp("service"))
    with contextlib.ExitStack() as held:
        yield [held.enter_context(running_service(folder, environ)) for folder in folders]


@pytest.mark.parametrize("route", ["/thumb", "/screenshot/stream"])
def test_all_who_ask_at_once_get_the_one_capture(
    services: list[Service], upstream: Upstream, route: str
) -> None:
    crowd = Crowd(image())
    upstream.behave(crowd.upstream_answer)
    assert Counter(crowd.ask(services, route)) == {(200, picture()): CALLERS}
    assert len(upstream.requests) == 1


def test_all_who_ask_for_an_old_picture_get_it_at_once_and_start_one_refresh(
    services: list[Service], upstream: Upstream, redis_url: str | None
) -> None:
    """Several times, so that a refresh too many, which may come late, is counted in the end."""
    cache, is_let_go, calls = services[0].log.parent / "cache", threading.Event(), Counter[str]()

    def numbered_answer(received: Received) -> Answer:
        target = received.json["url"]
        calls[target] += 1
        assert calls[target] == 1 or is_let_go.wait(60), "the old picture did not come at once"
        return image("png", 300 + calls[target], 200)

    upstream.behave(numbered_answer)
    paths = [new_path("/thumb") for _ in range(3)]
    for path in paths:
        Crowd(image(), size=1).ask_for(path, services)
    assert age_pictures_in_redis(redis_url, 90_000) if redis_url else age_pictures(cache, 90_000)
    for path in paths:
        is_let_go.clear()
        served = Crowd(image()).ask_for(path, services)
        is_let_go.set()
        assert Counter(served) == {(200, picture("png", 301, 200)): CALLERS}
        wait_until(partial(_all_answer, services, path, [(200, picture("png", 302, 200))]))
    assert set(calls.values()) == {2}


def _all_answer(services: list[Service], path: str, answer: list[tuple[int, bytes]]) -> bool:
    return all(Crowd(image(), size=1).ask_for(path, [service]) == answer for service in services)


@pytest.mark.parametrize(
    ("upstream_status", "status", "attempts"),
    [
        pytest.param(404, 422, 1, id="for good"),
        pytest.param(401, 502, 1, id="by the operator's fault"),
        pytest.param(500, 502, 3, id="perhaps for a moment, so it is tried thrice"),
    ],
)
def test_all_who_ask_at_once_hear_of_the_failure_once(
    services: list[Service], upstream: Upstream, upstream_status: int, status: int, attempts: int
) -> None:
    crowd = Crowd(json_error(upstream_status, {"error": "sorry", "message": "no"}))
    upstream.behave(crowd.upstream_answer)
    heard = crowd.ask(services)
    assert Counter(heard_status for heard_status, _ in heard) == {status: CALLERS}
    documents = [json.loads(body) for _, body in heard]
    assert len({(document["type"], document["detail"]) for document in documents}) == 1
    assert len(upstream.requests) == attempts


def test_a_crowd_that_is_larger_than_the_line_makes_one_call_as_well(
    upstream: Upstream, tmp_path: Path
) -> None:
    """Who had to wait for a thread, until the failure was known, hears of it instead of trying afresh."""
    crowd = Crowd(json_error(404, {"error": "sorry", "message": "no"}), size=24)
    upstream.behave(crowd.upstream_answer)
    environ = snapapi_environment(upstream.url, WEB_CONCURRENCY="1", WEB_THREADS="4")
    with running_service(tmp_path, environ) as service:
        heard = crowd.ask([service])
    assert {status for status, _ in heard} <= {422, 503}
    assert Counter(status for status, _ in heard)[422] >= 3, "those in line"
    assert len(upstream.requests) == 1
