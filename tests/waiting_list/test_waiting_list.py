"""Who asks for the same picture waits for it in a list, without a thread."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.support.answers import Answer, image, json_error, streamed
from tests.support.crowds import Crowd, Told
from tests.support.gates import Gate, new_page, thumb
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.raw_http import connected
from tests.support.service import Service, running_service, snapapi_environment
from tests.support.upstream import Upstream

#: Many more ask than there are threads, or places in line.
BOUNDS = {
    "WEB_CONCURRENCY": "1",
    "WEB_THREADS": "6",
    "WEB_WAITING": "4",
    "CAPTURE_QUEUE": "3",
    "RATELIMIT_ENABLED": "false",
    "LOG_LEVEL": "info",
}
ASKING = 60


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with running_service(folder, snapapi_environment(upstream.url, **BOUNDS)) as service:
        yield service


@contextlib.contextmanager
def crowd(service: Service, path: str, size: int = ASKING) -> Iterator[Crowd]:
    """All of them have asked for one path, and nobody has an answer, when the block begins."""
    with Crowd([service.url], size) as crowd:
        crowd.ask(path)
        assert requests.get(f"{service.url}/health", timeout=60).ok  # read after all that came before
        assert crowd.is_waiting()
        yield crowd


def caches_of(answers: list[Told]) -> Counter[str]:
    return Counter(answer.field("X-Cache") for answer in answers)


@pytest.mark.parametrize("options", [{}, {"thumb_width": "40"}], ids=["the capture", "a thumbnail"])
def test_a_crowd_without_threads_gets_one_capture_and_stops_nobody(
    service: Service, upstream: Upstream, gate: Gate, options: dict[str, str]
) -> None:
    gate.is_open = True
    known = new_page()
    assert requests.get(f"{service.url}/screenshot", {"url": known}, timeout=60).ok
    gate.is_open, before = False, len(upstream.requests)
    with crowd(service, thumb(new_page(), **options)) as asking:
        hit = requests.get(f"{service.url}/screenshot", {"url": known}, timeout=60)
        waits_too = service.url + thumb(new_page(), wait="0")
        assert requests.get(waits_too, timeout=60).status_code == 202, "there is a place for another page"
        assert asking.is_waiting()
        gate.is_open = True
        answers = asking.told()
    assert (hit.status_code, hit.headers["X-Cache"]) == (200, "HIT")
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert caches_of(answers) == {"MISS": 1, "HIT": ASKING - 1}
    wait_until(lambda: len(upstream.requests) == before + 2, what="the other page to be photographed, too")


def test_the_crowd_is_bounded_and_who_comes_then_stands_in_line(service: Service, gate: Gate) -> None:
    with Crowd([service.url], 520) as asking:
        asking.ask(thumb(new_page()))
        wait_until(lambda: not asking.is_waiting(), seconds=60, what="the first refusal")
        gate.is_open = True
        statuses = Counter(answer.status for answer in asking.told())
    assert statuses.keys() == {200, 503}
    assert statuses[200] >= 500 + int(BOUNDS["WEB_WAITING"])


def test_a_leader_over_its_limit_leaves_the_crowd_to_the_next(
    upstream: Upstream, gate: Gate, tmp_path: Path
) -> None:
    limits = {"RATELIMIT_ENABLED": "true", "LIMIT_THUMB": "1 per hour", "TRUSTED_PROXIES": "127.0.0.1/32"}
    environ = snapapi_environment(upstream.url, **BOUNDS | limits)
    gate.is_open = True
    with running_service(tmp_path, environ) as service, contextlib.ExitStack() as held:
        spent = requests.get(
            service.url + thumb(new_page()), headers={"X-Forwarded-For": "9.9.9.9"}, timeout=60
        )
        gate.is_open = False
        path = thumb(new_page())
        wires = [held.enter_context(connected(service.url)) for _ in range(ASKING)]
        for number, wire in enumerate(wires):
            caller = f"8.8.8.{number}" if number else "9.9.9.9"
            wire.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: {caller}\r\n\r\n".encode())
        gate.is_open = True
        statuses = [wire.recv(12, socket.MSG_WAITALL)[9:] for wire in wires]
    assert spent.status_code == 200
    assert statuses == [b"429"] + [b"200"] * (ASKING - 1)
    assert len(upstream.requests) == 2


def test_a_full_line_costs_a_crowd_whose_capture_is_under_way_those_who_look_for_it(
    upstream: Upstream, gate: Gate, tmp_path: Path
) -> None:
    bounds = BOUNDS | {"WEB_WAITING": "1", "CAPTURE_QUEUE": "0"}
    with (
        running_service(tmp_path, snapapi_environment(upstream.url, **bounds)) as service,
        crowd(service, thumb(new_page())) as asking,
    ):
        wait_until(lambda: not asking.is_waiting(), seconds=60, what="the first to be refused")
        gate.is_open = True
        statuses = Counter(answer.status for answer in asking.told())
    assert statuses.keys() == {200, 503}
    assert statuses[503] <= 3, "one for every two seconds"


def test_a_picture_too_large_for_memory_is_given_to_all(service: Service, gate: Gate) -> None:
    gate.answer = streamed(400_000)
    with crowd(service, thumb(new_page()), size=5) as asking:
        gate.is_open = True
        answers = asking.told()
    assert {(answer.status, len(answer.body)) for answer in answers} == {(200, 400_000)}


def test_a_crowd_gets_one_capture_though_no_cache_can_keep_it(
    upstream: Upstream, gate: Gate, tmp_path: Path
) -> None:
    bounds = BOUNDS | {"WEB_THREADS": "64", "WEB_WAITING": "62", "CACHE_DIR": "/proc/nowhere"}
    with (
        running_service(tmp_path, snapapi_environment(upstream.url, **bounds)) as service,
        crowd(service, thumb(new_page())) as asking,
    ):
        gate.is_open = True
        answers = asking.told()
    assert {(answer.status, answer.body) for answer in answers} == {(200, picture())}
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("answer", "status", "calls"),
    [
        pytest.param(
            json_error(404, {"error": "sorry", "message": "no"}), 422, 1, id="a page that is not there"
        ),
        pytest.param(json_error(500, {"error": "sorry", "message": "no"}), 502, 3, id="a broken upstream"),
    ],
)
def test_a_failure_is_told_to_all_after_one_series_of_attempts(
    upstream: Upstream, gate: Gate, tmp_path: Path, answer: Answer, status: int, calls: int
) -> None:
    gate.answer = answer
    bounds = BOUNDS | {"WEB_THREADS": "64", "WEB_WAITING": "62"}
    with (
        running_service(tmp_path, snapapi_environment(upstream.url, **bounds)) as service,
        crowd(service, thumb(new_page())) as asking,
    ):
        gate.is_open = True
        answers = asking.told()
    assert {answer.status for answer in answers} == {status}
    assert len(upstream.requests) == calls


def durations_of_thumbs(service: Service) -> tuple[int, int]:
    """How many thumbnails the histogram counts, and how many of them took hardly any time."""
    told = requests.get(f"{service.url}/metrics", timeout=60).text
    counted = re.search(r'duration_seconds_count\{route="/thumb"\} (\d+)', told)
    quick = re.search(r'duration_seconds_bucket\{le="0.1",route="/thumb"\} (\d+)', told)
    return int(counted[1]) if counted else 0, int(quick[1]) if quick else 0


def test_the_time_in_the_list_is_told_as_such_and_logged(service: Service, gate: Gate) -> None:
    before = durations_of_thumbs(service)
    with crowd(service, thumb(new_page()), size=8) as asking:
        begun_at = time.monotonic()
        wait_until(lambda: time.monotonic() > begun_at + 0.2, what="a while")
        gate.is_open = True
        held = [answer for answer in asking.told() if answer.field("X-Cache") == "HIT"]
    assert len(held) == 7
    for answer in held:
        steps = dict(step.split(";dur=") for step in answer.field("Server-Timing").split(", "))
        assert steps.keys() == {"wait", "cache"}
        assert float(steps["wait"]) > 200
        assert float(steps["cache"]) < float(steps["wait"])
        line = _line_of(service, answer.field("X-Request-ID"))
        assert line["duration_ms"] > 200
    counted, quick = durations_of_thumbs(service)
    assert (counted - before[0], quick - before[1]) == (8, 0), "all of them waited"


def _line_of(service: Service, request_id: str) -> dict[str, Any]:
    wait_until(lambda: request_id in service.log.read_text(), what="the line")
    (line,) = [each for each in service.log.read_text().splitlines() if request_id in each]
    return dict(json.loads(line))


def test_who_led_and_has_gone_leaves_the_others_their_picture(service: Service, gate: Gate) -> None:
    path = thumb(new_page())
    with contextlib.ExitStack() as held:
        leader = held.enter_context(connected(service.url))
        leader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        asking = held.enter_context(crowd(service, path, size=8))
        leader.close()
        gate.is_open = True
        assert {each.body for each in asking.told()} == {picture()}


def test_one_of_the_crowd_looks_for_itself_where_the_leader_takes_long(
    service: Service, gate: Gate, upstream: Upstream
) -> None:
    path = thumb(new_page())
    with contextlib.ExitStack() as held:
        leader = held.enter_context(connected(service.url))
        leader.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        asking = held.enter_context(crowd(service, path, size=8))
        purged = requests.delete(service.url + path.replace("/thumb", "/cache"), timeout=60)
        assert purged.status_code == 200
        upstream.behave(image("png", 400, 300))
        assert {answer.body for answer in asking.told()} == {picture("png", 400, 300)}
        gate.is_open = True
        assert leader.recv(15, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK"


def test_who_waits_and_goes_stops_nobody(service: Service, gate: Gate) -> None:
    path = thumb(new_page())
    with crowd(service, path, size=8) as asking:
        for _ in range(5):
            with connected(service.url) as wire:
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1] + [0] * 7))
                wire.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        gate.is_open = True
        assert {each.body for each in asking.told()} == {picture()}
    again = requests.get(service.url + path, timeout=60)
    assert (again.status_code, again.headers["X-Cache"]) == (200, "HIT")


def test_connections_go_on_after_they_were_held(service: Service, gate: Gate) -> None:
    path = thumb(new_page())
    with crowd(service, path, size=8) as asking:
        gate.is_open = True
        first = asking.told()
        asking.ask(path)
        again = asking.told()
        gate.is_open = False
        asking.ask(thumb(new_page()))
        gate.is_open = True
        other = asking.told()
    assert {answer.status for answer in [*first, *again, *other]} == {200}
    assert caches_of(again) == {"HIT": 8}
    assert caches_of(other)["MISS"] == 1


def test_those_who_are_held_are_served_before_the_service_stops(
    upstream: Upstream, gate: Gate, tmp_path: Path
) -> None:
    environ = snapapi_environment(upstream.url, **BOUNDS)
    with (
        running_service(tmp_path, environ) as service,
        connected(service.url) as idler,
        crowd(service, thumb(new_page()), size=4) as asking,
    ):
        idler.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idler.recv(15, socket.MSG_WAITALL) == b"HTTP/1.1 200 OK"
        os.kill(service.pid, signal.SIGTERM)
        while idler.recv(65536):
            """The worker closes idle connections when it stops."""
        gate.is_open = True
        answers = asking.told()
    assert {(answer.status, answer.body) for answer in answers} == {(200, picture())}
