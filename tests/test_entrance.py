"""What comes to a real gunicorn and is none of the requests that the doors are made for."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.support import answers
from tests.support.processes import wait_until
from tests.support.raw_http import RawAnswer, connected, exchange, head, read_answer
from tests.support.service import TARGET, Service, running_service, snapapi_environment
from tests.support.upstream import Upstream

THREADS = 3


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = snapapi_environment(
        upstream.url,
        RATELIMIT_ENABLED="false",
        LOG_LEVEL="info",
        WEB_CONCURRENCY="1",
        WEB_THREADS=str(THREADS),
        UPSTREAM_TIMEOUT="2",
        CLIENT_REQUEST_TIMEOUT="1",
        CLIENT_ANSWER_TIMEOUT="1",
    )
    with running_service(tmp_path_factory.mktemp("service"), settings) as service:
        yield service


def _assert_problem(answer: RawAnswer, status: int, slug: str) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["type"]) == (status, f"/problems/{slug}")
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


#: Requests that gunicorn itself cannot or will not read.
UNREADABLE = {
    "a line that is none": (b"GARBAGE<script>alert(1)</script>\r\n\r\n", 400),
    "a line that is too long": (head("GET /health?" + "a" * 9000 + " HTTP/1.1"), 414),
    "too many header fields": (head("GET /health HTTP/1.1", *(f"X-{n}: 1" for n in range(70))), 431),
    "a header field that is too long": (head("GET /health HTTP/1.1", "X: " + "a" * 9000), 431),
    "a name that no header has": (head("GET /health HTTP/1.1", "Bad Header<b>: 1"), 400),
    "a folded header": (head("GET /health HTTP/1.1", "X: a", " b"), 400),
    "a line feed for a line's end": (b"GET /health HTTP/1.1\nHost: localhost\n\n\r\n\r\n", 400),
    "a method that is none": (head("G<ET /health HTTP/1.1"), 400),
    "a NUL in the path": (head("GET /health\x00 HTTP/1.1"), 400),
    "two hosts": (head("GET /health HTTP/1.1", "Host: elsewhere"), 400),
    "HTTP/0.9": (b"GET /health\r\n\r\n", 400),
    "HTTP/3": (head("GET /health HTTP/3.0"), 400),
    "the preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "the line of a proxy": (b"PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n" + head("GET /health HTTP/1.1"), 400),
    "two lengths": (head("POST /screenshot HTTP/1.1", "Content-Length: 5", "Content-Length: 6"), 400),
    "a negative length": (head("POST /screenshot HTTP/1.1", "Content-Length: -5"), 400),
    "a length with a sign": (head("POST /screenshot HTTP/1.1", "Content-Length: +5"), 400),
    "a length and chunks": (
        head("POST /screenshot HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        400,
    ),
    "an unknown coding": (head("POST /screenshot HTTP/1.1", "Transfer-Encoding: bogus"), 400),
    "an expectation nobody knows": (head("GET /health HTTP/1.1", "Expect: 200-maybe"), 417),
}


@pytest.mark.parametrize(("request_bytes", "status"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_cannot_be_read_is_refused_in_a_problem_document_that_repeats_nothing(
    service: Service, request_bytes: bytes, status: int
) -> None:
    answer = exchange(service.url, request_bytes)
    _assert_problem(answer, status, "invalid-parameters")
    for told in (b"GARBAGE", b"script", b"Bad Header", b"<b>", b"9021", b"gunicorn"):
        assert told not in answer.body


JSON = "Content-Type: application/json"
BODY = json.dumps({"url": TARGET}).encode()

REFUSED = {
    "no host": (head("GET /health HTTP/1.1", host=None), 400, "invalid-parameters"),
    "a host that is none": (head("GET /health HTTP/1.1", host='evil"><x'), 400, "invalid-parameters"),
    "a host with a user": (head("GET /health HTTP/1.1", host="a@evil.example"), 400, "invalid-parameters"),
    "a host with a path": (head("GET /health HTTP/1.1", host="evil.example/x"), 400, "invalid-parameters"),
    "a port that is none": (head("GET /health HTTP/1.1", host="localhost:99999"), 400, "invalid-parameters"),
    "chunks": (
        head("POST /screenshot HTTP/1.1", JSON, "Transfer-Encoding: chunked") + b"0\r\n\r\n",
        411,
        "invalid-parameters",
    ),
    "gzip": (
        head("POST /screenshot HTTP/1.1", JSON, "Content-Encoding: gzip", f"Content-Length: {len(BODY)}")
        + BODY,
        415,
        "invalid-parameters",
    ),
    "a length beyond the limit": (
        head("POST /screenshot HTTP/1.1", JSON, "Content-Length: 99999999999") + b"{",
        413,
        "body-too-large",
    ),
    "a length of too many digits": (
        head("POST /screenshot HTTP/1.1", JSON, "Content-Length: " + "9" * 400) + b"{",
        413,
        "body-too-large",
    ),
    "a body where there is no door": (
        head("POST /health HTTP/1.1", JSON, f"Content-Length: {len(BODY)}") + BODY,
        405,
        "method-not-allowed",
    ),
    "TRACE": (head("TRACE /thumb HTTP/1.1"), 405, "method-not-allowed"),
    "OPTIONS": (head("OPTIONS /thumb HTTP/1.1"), 405, "method-not-allowed"),
    "an unknown method": (head("BREW /thumb HTTP/1.1"), 405, "method-not-allowed"),
    "OPTIONS of everything": (head("OPTIONS * HTTP/1.1"), 404, "not-found"),
    "CONNECT": (head("CONNECT evil.example:443 HTTP/1.1"), 404, "not-found"),
}


@pytest.mark.parametrize(("request_bytes", "status", "slug"), REFUSED.values(), ids=REFUSED.keys())
def test_what_no_door_is_made_for_is_refused_in_a_problem_document(
    service: Service, upstream: Upstream, request_bytes: bytes, status: int, slug: str
) -> None:
    calls = len(upstream.requests)
    answer = exchange(service.url, request_bytes)
    _assert_problem(answer, status, slug)
    assert ("allow" in answer.headers) == (status == 405)
    assert len(upstream.requests) == calls


@pytest.mark.parametrize("field", ["Content-Length: 2000000", "Transfer-Encoding: chunked"])
def test_a_connection_ends_and_says_so_where_nobody_reads_the_body_on_it(
    service: Service, field: str
) -> None:
    request = f"POST /screenshot HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n{field}\r\n\r\n"
    answer = exchange(service.url, request.encode())
    assert answer.status in (411, 413)
    assert answer.headers["connection"] == "close"


def test_a_body_that_ends_too_early_is_no_request(service: Service, upstream: Upstream) -> None:
    calls = len(upstream.requests)
    with connected(service.url) as wire:
        wire.sendall(head("POST /screenshot HTTP/1.1", JSON, f"Content-Length: {len(BODY) + 10}") + BODY)
        wire.shutdown(1)
        document = _assert_problem(read_answer(wire), 400, "invalid-parameters")
    assert "shorter" in document["detail"]
    assert len(upstream.requests) == calls


def test_an_old_client_that_names_no_host_is_served(service: Service) -> None:
    assert exchange(service.url, head("GET /health HTTP/1.0", host=None)).json() == {"ok": True}


def test_a_body_that_waits_to_be_asked_for_is_asked_for(service: Service) -> None:
    with connected(service.url) as wire:
        length = f"Content-Length: {len(BODY)}"
        wire.sendall(head("POST /screenshot HTTP/1.1", JSON, length, "Expect: 100-continue"))
        assert wire.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(BODY)
        assert read_answer(wire).status == 200


SLOW = {
    "half a line": b"GET /hea",
    "half a head": b"GET /health HTTP/1.1\r\nHost: loc",
    "half a body": head("POST /screenshot HTTP/1.1", JSON, "Content-Length: 100") + b"{",
}


@pytest.mark.parametrize("beginning", SLOW.values(), ids=SLOW.keys())
def test_who_does_not_finish_a_request_is_cut_off_and_holds_up_nobody_for_longer(
    service: Service, beginning: bytes
) -> None:
    with ExitStack() as opened:
        wires = [opened.enter_context(connected(service.url)) for _ in range(2 * THREADS)]
        for wire in wires:
            wire.sendall(beginning)
        assert requests.get(f"{service.url}/health", timeout=20).json() == {"ok": True}
        for wire in wires:
            document = _assert_problem(read_answer(wire), 408, "invalid-parameters")
            assert document["retryable"]


def test_who_says_nothing_is_let_go(service: Service) -> None:
    with connected(service.url) as wire:
        assert wire.recv(1) == b""


def test_who_sends_a_byte_now_and_then_is_cut_off_too(service: Service) -> None:
    with connected(service.url) as wire:
        is_over = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                wire.sendall(b"GET /health HTTP/1.1\r\nX: ")
                while not is_over.wait(0.05):
                    wire.sendall(b"x")

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            answer = b""
            with contextlib.suppress(ConnectionError):
                while chunk := wire.recv(4096):
                    answer += chunk
            assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
        finally:
            is_over.set()
            dripping.join(20)


def test_who_does_not_read_an_answer_is_let_go(service: Service, upstream: Upstream) -> None:
    upstream.behave(answers.streamed(15_000_000))
    try:
        path = f"/screenshot/stream?url={TARGET}?unread"
        assert len(requests.get(service.url + path, timeout=20).content) == 15_000_000
        with ExitStack() as opened:
            for _ in range(THREADS):
                wire = opened.enter_context(connected(service.url, receive_buffer=4096))
                wire.sendall(head(f"GET {path} HTTP/1.1"))
                assert wire.recv(12) == b"HTTP/1.1 200"
            assert requests.get(f"{service.url}/health", timeout=20).json() == {"ok": True}
    finally:
        upstream.behave(answers.image("png"))


def test_who_does_not_read_what_memory_answers_is_let_go_too(service: Service, upstream: Upstream) -> None:
    path, size_bytes, many = f"/screenshot?url={TARGET}?unread-memory", 250_000, 40
    request = head(f"GET {path} HTTP/1.1").replace(b"Connection: close\r\n", b"")
    upstream.behave(answers.streamed(size_bytes))
    try:
        with connected(service.url, receive_buffer=4096) as wire:
            ends = (wire.getpeername(), wire.getsockname())
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each request by itself
            for _ in range(many):
                wire.sendall(request)
                assert requests.get(service.url + path, timeout=20).headers["Content-Length"] == str(
                    size_bytes
                )
            wait_until(lambda: not _is_established(ends), what="the end of the connection")
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while chunk := wire.recv(1 << 20):
                    received += len(chunk)
        assert received < many * size_bytes
    finally:
        upstream.behave(answers.image("png"))


def _is_established(ends: tuple[Any, Any]) -> bool:
    """Whether the server still has its end of a connection."""
    found = [one for one in psutil.net_connections("tcp") if (one.laddr, one.raddr) == ends]
    return any(one.status == psutil.CONN_ESTABLISHED for one in found)


def test_who_does_not_hang_up_holds_up_nobody(service: Service) -> None:
    with ExitStack() as opened:
        for _ in range(20):
            wire = opened.enter_context(connected(service.url))
            wire.sendall(head("GET /health HTTP/1.1"))
        # One after the other, two seconds each: as gunicorn would wait for them to hang up.
        assert requests.get(f"{service.url}/health", timeout=15).json() == {"ok": True}


def test_a_line_about_one_request_never_bears_the_name_of_another(service: Service) -> None:
    start = Path(service.log).stat().st_size
    for _ in range(2 * THREADS):
        requests.get(f"{service.url}/health", headers={"X-Request-ID": "neighbour-0001"}, timeout=20)
        answer = exchange(service.url, b"SECRET /thumb?sig=hidden-signature\r\n\r\n")
        named = answer.headers["x-request-id"]
        wait_until(partial(_is_logged, service, start, named), what="the line about it")
    lines = [json.loads(line) for line in _log(service, start).splitlines()]
    unreadable = [line for line in lines if line["event"] == "request_unreadable"]
    assert len({line["request_id"] for line in unreadable}) == len(unreadable) == 2 * THREADS
    assert "neighbour-0001" not in {line["request_id"] for line in unreadable}
    assert "hidden-signature" not in _log(service, start)


def _log(service: Service, start: int) -> str:
    return service.log.read_bytes()[start:].decode()


def _is_logged(service: Service, start: int, text: str) -> bool:
    return text in _log(service, start)
