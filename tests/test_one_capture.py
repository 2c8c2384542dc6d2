"""One capture per picture, over threads and workers of a real gunicorn, and with Redis over two of them."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.support.answers import Answer, Received, image, json_error
from tests.support.pictures import picture
from tests.support.processes import running_redis
from tests.support.service import Service, running_service, snapapi_environment
from tests.support.upstream import Upstream

CALLERS = 80


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
        target = f"http://93.184.216.34/{secrets.token_hex(8)}"
        path = f"{route}?url={quote(target, safe='')}"
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
def services(
    upstream: Upstream, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[list[Service]]:
    """Two workers with a file cache, or four on two machines that share nothing but a Redis."""
    environ = snapapi_environment(upstream.url, WEB_CONCURRENCY="2", RATELIMIT_ENABLED="false")
    folders = [tmp_path_factory.mktemp("service")]
    with contextlib.ExitStack() as held:
        if request.param.endswith("redis"):
            environ["REDIS_URL"] = held.enter_context(running_redis(folders[0]))
            environ["REDIS_TIMEOUT"] = "5"  # a busy machine is no dead Redis
            folders.append(tmp_path_factory.mktemp("service"))
        yield [held.enter_context(running_service(folder, environ)) for folder in folders]


@pytest.mark.parametrize("route", ["/thumb", "/screenshot/stream"])
def test_all_who_ask_at_once_get_the_one_capture(
    services: list[Service], upstream: Upstream, route: str
) -> None:
    crowd = Crowd(image())
    upstream.behave(crowd.upstream_answer)
    assert Counter(crowd.ask(services, route)) == {(200, picture()): CALLERS}
    assert len(upstream.requests) == 1


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
