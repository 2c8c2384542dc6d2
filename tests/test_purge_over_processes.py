"""Purges over workers and machines: gunicorns that share nothing but a folder, or nothing but a Redis."""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle

import pytest
import requests

from tests.support.answers import Answer, Received, image
from tests.support.pictures import picture
from tests.support.processes import running_redis, wait_until
from tests.support.service import Service, running_service, snapapi_environment
from tests.support.upstream import Upstream

OLD, NEW = picture("png", 320, 200), picture("png", 400, 300)
ASKERS = 12


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


@pytest.fixture
def target() -> str:
    return f"http://93.184.216.34/{secrets.token_hex(8)}"


def ask(service: Service, target: str) -> requests.Response:
    """On a connection of its own: any worker may take it."""
    return requests.get(f"{service.url}/thumb", params={"url": target}, timeout=60)


def ask_all(services: list[Service], target: str) -> list[requests.Response]:
    """As many at once as it takes to keep every worker busy."""
    with ThreadPoolExecutor(ASKERS) as pool:
        asking = [
            pool.submit(ask, service, target)
            for service, _ in zip(cycle(services), range(ASKERS), strict=False)
        ]
        return [each.result() for each in asking]


def contents(services: list[Service], target: str) -> set[bytes]:
    return {answer.content for answer in ask_all(services, target)}


def _show_the_new_one(services: list[Service], target: str) -> bool:
    return contents(services, target) == {NEW}


def purge(service: Service, target: str) -> None:
    response = requests.delete(f"{service.url}/cache", params={"url": target}, timeout=60)
    assert response.status_code == 200, response.text


def test_no_worker_serves_what_any_of_them_has_purged(
    services: list[Service], upstream: Upstream, target: str
) -> None:
    for round_number in range(3):
        upstream.behave(image("png", 320, 200))
        assert contents(services, target) == {OLD}, round_number
        upstream.behave(image("png", 400, 300))
        purge(services[-1], target)
        wait_until(partial(_show_the_new_one, services, target), what="every worker's memory to end")
        assert len(upstream.requests) == 1, "one capture for all of them"
        target += "/next"


@dataclass
class Held:
    """An upstream that keeps the old picture back until it is let go, and has the new one at once."""

    go_on: threading.Event = field(default_factory=threading.Event)
    calls: int = 0

    def __call__(self, _received: Received) -> Answer:
        self.calls += 1
        if self.calls == 1:
            assert self.go_on.wait(60)
            return image("png", 320, 200)
        return image("png", 400, 300)


def test_what_one_had_under_way_when_another_purged_is_kept_by_nobody(
    services: list[Service], upstream: Upstream, target: str
) -> None:
    held = Held()
    upstream.behave(held)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ask, services[0], target)
        wait_until(lambda: held.calls == 1, what="the capture")
        purge(services[-1], target)
        late = ask_all(services, target)
        held.go_on.set()
        early = waiting.result()
    assert {answer.content for answer in late} == {NEW}
    assert (early.content, early.headers["Cache-Control"]) == (OLD, "no-store")
    assert contents(services, target) == {NEW}
    assert held.calls == 2
