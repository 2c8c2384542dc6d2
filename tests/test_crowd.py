"""Nobody slow stops the others: who may wait, who is turned away at once, who is served meanwhile."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from werkzeug.serving import make_server

from blueprints.services import EXTENSION
from tests.support.ageing import age_pictures
from tests.support.answers import Answer, Received, image, json_error, streamed
from tests.support.pictures import picture
from tests.support.processes import free_port, wait_until
from tests.support.service import (
    Service,
    running_app,
    running_service,
    snapapi_environment,
)
from tests.support.upstream import Upstream
from thumbnailer.line import Line

THREADS = 6
WAITING = 4
ASKING = 12

#: Nobody is turned away by anything but the line. One worker, so that it is known which line that is.
BOUNDS = {
    "WEB_CONCURRENCY": "1",
    "WEB_THREADS": str(THREADS),
    "WEB_WAITING": str(WAITING),
    "UPSTREAM_CONCURRENCY": "2",
    "CAPTURE_QUEUE": "3",
    "RATELIMIT_ENABLED": "false",
}


class Gate:
    """An upstream's behaviour: pages named slow are not photographed before the gate is open."""

    def __init__(self, answer: Answer | None = None) -> None:
        self._answer = answer or image()
        self._is_open = threading.Event()

    def open(self) -> None:
        self._is_open.set()

    def __call__(self, received: Received) -> Answer:
        if "/slow" in received.json["url"]:
            assert self._is_open.wait(60), "nobody has opened the gate"
        return self._answer


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(
        tmp_path_factory.mktemp("service"), snapapi_environment(upstream.url, **BOUNDS)
    ) as service:
        yield service


@pytest.fixture
def gate(upstream: Upstream) -> Iterator[Gate]:
    gate = Gate()
    upstream.behave(gate)
    yield gate
    gate.open()


def a_page(kind: str) -> str:
    return f"http://93.184.216.34/{kind}/{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class Door:
    """A route by which a picture is asked for."""

    method: str
    path: str
    options: tuple[tuple[str, str], ...] = ()

    def ask(self, service_url: str, target: str) -> requests.Response:
        """With a field that not everybody sends: plain requests of one kind wait without a thread."""
        given = {"url": target, **dict(self.options)}
        way: dict[str, Any] = {"params": given} if self.method == "GET" else {"json": given}
        way["headers"] = {"X-Shop": "17"}
        return requests.request(self.method, service_url + self.path, timeout=90, **way)


DOORS = [
    Door("GET", "/thumb"),
    Door("GET", "/thumb", (("thumb_width", "64"),)),
    Door("GET", "/screenshot"),
    Door("POST", "/screenshot"),
    Door("GET", "/screenshot/stream"),
    Door("POST", "/persist"),
    Door("GET", "/api/screenshot"),
    Door("POST", "/api/screenshots"),
    Door("GET", "/api/screenshot/stream"),
    Door("GET", "/v1/screenshot"),
    Door("POST", "/v1/screenshot"),
]


def name_of(door: Door) -> str:
    return " ".join([door.method, door.path, *(f"{name}={text}" for name, text in door.options)])


@contextlib.contextmanager
def crowd(door: Door, service_url: str, targets: list[str]) -> Iterator[list[Future[requests.Response]]]:
    """All of them asked for at once."""
    with ThreadPoolExecutor(len(targets)) as pool:
        yield [pool.submit(door.ask, service_url, target) for target in targets]


def turned_away(asking: list[Future[requests.Response]], count: int) -> list[requests.Response]:
    """The first ``count`` answers, which come while everybody else still waits."""
    wait_until(lambda: sum(each.done() for each in asking) >= count, seconds=60, what="so many answers")
    return [each.result() for each in asking if each.done()]


def slug_of(answer: requests.Response) -> str:
    document = answer.json()
    told = answer.headers.get("X-Problem") or document.get("error")
    return str(told or document["type"].removeprefix("/problems/"))


@pytest.mark.parametrize("door", DOORS, ids=name_of)
def test_who_finds_the_line_full_is_turned_away_at_once_and_who_stands_in_it_is_served(
    service: Service, upstream: Upstream, gate: Gate, door: Door
) -> None:
    with crowd(door, service.url, [a_page("slow")] * ASKING) as asking:
        refused = turned_away(asking, ASKING - WAITING)
        gate.open()
        statuses = Counter(each.result().status_code for each in asking)
    assert {(answer.status_code, slug_of(answer)) for answer in refused} == {(503, "overloaded")}
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused)
    assert len(refused) == ASKING - WAITING
    assert statuses[503] == ASKING - WAITING
    assert statuses[200] + statuses[201] == WAITING
    assert len(upstream.requests) == 1, "one capture, for all in line"


def test_captures_in_line_are_bounded_as_well(service: Service, gate: Gate) -> None:
    with crowd(DOORS[0], service.url, [a_page("slow") for _ in range(ASKING)]) as asking:
        refused = turned_away(asking, ASKING - WAITING)
        gate.open()
        statuses = Counter(each.result().status_code for each in asking)
    assert {(answer.status_code, slug_of(answer)) for answer in refused} == {(503, "overloaded")}
    assert statuses == {200: WAITING, 503: ASKING - WAITING}


def test_what_needs_no_waiting_is_answered_while_the_line_is_full(
    service: Service, upstream: Upstream, gate: Gate
) -> None:
    hit, old, very_old = (a_page("quick") for _ in range(3))
    for target, until_the_next_seconds in ((very_old, 20 * 86_400), (old, 7200), (hit, 0)):
        assert requests.get(f"{service.url}/screenshot", {"url": target}, timeout=60).status_code == 200
        assert age_pictures(service.log.parent / "cache", until_the_next_seconds)
    with crowd(DOORS[0], service.url, [a_page("slow")] * ASKING) as asking:
        turned_away(asking, ASKING - WAITING)
        found = [
            requests.get(f"{service.url}/screenshot", {"url": target} | more, timeout=60)
            for target, more in ((hit, {}), (old, {"fresh": "true"}), (very_old, {}), (old, {}))
        ]
        health, ready = (requests.get(service.url + path, timeout=60) for path in ("/health", "/ready"))
        assert sum(not each.done() for each in asking) == WAITING, "the line has been full all the time"
        gate.open()
    assert [(answer.status_code, answer.headers["X-Cache"]) for answer in found] == [
        (200, "HIT"),
        (200, "STALE"),
        (200, "STALE"),
        (200, "STALE"),
    ]
    assert [answer.content for answer in found] == [picture()] * 4
    troubles = [answer.headers["Cache-Status"].partition("detail=")[2] for answer in found]
    assert troubles == ["", "overloaded", "overloaded", ""]
    assert (health.json(), ready.status_code) == ({"ok": True}, 200)


@contextlib.contextmanager
def threaded_service(environ: dict[str, str]) -> Iterator[tuple[str, Line]]:
    """The application under a server in this process: its URL, and its line."""
    with running_app(environ) as app:
        port = free_port()
        server = make_server("127.0.0.1", port, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}", app.extensions[EXTENSION].line
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(image(), 200, id="a picture"),
        pytest.param(json_error(404, {"error": "sorry", "message": "no"}), 422, id="a failure"),
        pytest.param(json_error(500, {"error": "sorry", "message": "no"}), 502, id="a broken upstream"),
    ],
)
@pytest.mark.parametrize("door", [DOORS[0], DOORS[4], DOORS[5]], ids=name_of)
def test_the_line_is_empty_again_whatever_came_of_the_capture(
    upstream: Upstream, door: Door, answer: Answer, status: int
) -> None:
    gate = Gate(answer)
    upstream.behave(gate)
    with threaded_service(snapapi_environment(upstream.url, **BOUNDS)) as (url, line):
        with crowd(door, url, [a_page("slow")] * WAITING) as asking:
            wait_until(lambda: line.length == WAITING)
            gate.open()
        assert {each.result().status_code for each in asking} <= {status, 201 if status == 200 else status}
        wait_until(lambda: line.length == 0)


def test_the_line_is_empty_again_when_the_time_is_over(upstream: Upstream, gate: Gate) -> None:
    environ = snapapi_environment(upstream.url, UPSTREAM_TIMEOUT="1", **BOUNDS)
    with threaded_service(environ) as (url, line):
        with crowd(DOORS[0], url, [a_page("slow") for _ in range(WAITING)]) as asking:
            pass
        assert {slug_of(each.result()) for each in asking} <= {"upstream-timeout", "overloaded"}
        wait_until(lambda: line.length == 0)
        assert DOORS[0].ask(url, a_page("quick")).status_code == 200, "no capture's turn was lost"


@pytest.mark.parametrize("path", ["/thumb", "/screenshot/stream"])
def test_the_line_is_empty_again_when_those_in_it_have_gone(
    upstream: Upstream, gate: Gate, path: str
) -> None:
    with threaded_service(snapapi_environment(upstream.url, **BOUNDS)) as (url, line):
        for target in (a_page("slow"), a_page("slow")):
            asking = f"GET {path}?url={target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            for _ in range(WAITING // 2):
                with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as caller:
                    caller.sendall(asking)
        wait_until(lambda: line.length == WAITING)
        gate.open()
        wait_until(lambda: line.length == 0)
        assert DOORS[0].ask(url, a_page("quick")).status_code == 200, "no capture's turn was lost"


def test_who_reads_a_stream_slowly_stands_in_the_line_until_the_end(upstream: Upstream) -> None:
    upstream.behave(streamed(8 * 1024 * 1024))
    with threaded_service(snapapi_environment(upstream.url, **BOUNDS)) as (url, line):
        with socket.socket() as idler:
            idler.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idler.connect(("127.0.0.1", int(url.rpartition(":")[2])))
            target = a_page("large")
            idler.sendall(f"GET /screenshot/stream?url={target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert idler.recv(12, socket.MSG_WAITALL) == b"HTTP/1.1 200"
            assert DOORS[0].ask(url, target).status_code == 200, "the capture is there"
            wait_until(lambda: line.length == 1, what="the other to leave its place")
            assert line.length == 1
        wait_until(lambda: line.length == 0)


def test_an_answer_from_the_cache_takes_no_place(upstream: Upstream) -> None:
    upstream.behave(image())
    with threaded_service(snapapi_environment(upstream.url, **BOUNDS)) as (url, line):
        target = a_page("quick")
        assert DOORS[0].ask(url, target).headers["X-Cache"] == "MISS"
        wait_until(lambda: line.length == 0)
        places = [line.take_place() for _ in range(WAITING)]
        assert DOORS[0].ask(url, target).headers["X-Cache"] == "HIT"
        assert DOORS[0].ask(url, a_page("quick")).status_code == 503
        assert line.length == len(places)


def test_problem_documents_of_the_crowd_say_when_to_come_again(service: Service, gate: Gate) -> None:
    with crowd(DOORS[0], service.url, [a_page("slow")] * ASKING) as asking:
        refused = turned_away(asking, ASKING - WAITING)[0]
        gate.open()
    document = json.loads(refused.content)
    assert (document["status"], document["retryable"]) == (503, True)
    assert refused.headers["Cache-Control"] == "no-store"
