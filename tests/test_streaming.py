"""``GET /screenshot/stream`` under a real gunicorn, in front of an upstream that can be held and cut."""

from __future__ import annotations

import contextlib
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, IncompleteRead
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import requests

from tests.support.answers import Answer, content, cut_off, html_as_png, image, streamed
from tests.support.pictures import big_png, picture
from tests.support.processes import wait_until
from tests.support.service import TARGET, Service, running_service, snapapi_environment
from tests.support.upstream import Upstream

MIB = 2**20
MAX_BYTES = 4 * MIB
LARGE = b"".join(big_png(3 * MIB))

STREAM = "/screenshot/stream"
ROUTES = [STREAM, "/screenshot?stream=true", "/api/screenshot/stream"]
FRAMINGS = ["length", "chunked"]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    environ = snapapi_environment(
        upstream.url,
        WEB_CONCURRENCY="2",
        RATELIMIT_ENABLED="false",
        MAX_IMAGE_BYTES=str(MAX_BYTES),
        BREAKER_FAILURES="10000",
    )
    with running_service(tmp_path_factory.mktemp("service"), environ) as service:
        yield service


@pytest.fixture
def target() -> str:
    """A page that nobody has asked for."""
    return f"http://93.184.216.34/{secrets.token_hex(8)}"


@dataclass(frozen=True, slots=True)
class HeldPicture:
    """An upstream that sends the first part of ``body`` and keeps the rest until it is let go."""

    body: bytes = field(default_factory=picture)
    framing: str = "length"
    go_on: threading.Event = field(default_factory=threading.Event)

    def answer(self) -> Answer:
        return Answer(
            headers=(("Content-Type", "image/png"),),
            chunks=self._chunks,
            length=len(self.body) if self.framing == "length" else None,
            is_unframed=self.framing == "close",
        )

    def _chunks(self) -> Iterator[bytes]:
        half = len(self.body) // 2
        yield self.body[:half]
        if self.go_on.wait(60):
            yield self.body[half:]


def path_of(route: str, target: str) -> str:
    return f"{route}{'&' if '?' in route else '?'}url={quote(target, safe='')}"


@contextlib.contextmanager
def asked(
    service: Service, route: str, target: str, *, method: str = "GET", **headers: str
) -> Iterator[HTTPResponse]:
    """The head of an answer, whose body is still to be read."""
    address = urlsplit(service.url)
    with contextlib.closing(HTTPConnection(str(address.hostname), address.port, timeout=60)) as connection:
        connection.request(method, path_of(route, target), headers=headers)
        yield connection.getresponse()


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that came to its end."""

    status: int
    headers: dict[str, str]
    body: bytes


def fetch(
    service: Service, target: str, *, route: str = STREAM, method: str = "GET", **headers: str
) -> Whole:
    """Raises IncompleteRead where the connection breaks."""
    with asked(service, route, target, method=method, **headers) as response:
        return Whole(response.status, dict(response.getheaders()), response.read())


def raw_exchange(service: Service, request: str) -> bytes:
    """Every byte that comes back until the connection ends."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(request.encode())
        return b"".join(iter(lambda: connection.recv(65536), b""))


@pytest.mark.parametrize("framing", [*FRAMINGS, "close"])
@pytest.mark.parametrize("route", ROUTES)
def test_bytes_pass_on_before_the_upstream_has_finished(
    service: Service, upstream: Upstream, target: str, route: str, framing: str
) -> None:
    held = HeldPicture(framing=framing)
    upstream.behave(held.answer())
    with asked(service, route, target) as response:
        first = response.read1(65536)
        assert first, "the upstream still holds the second half"
        held.go_on.set()
        assert first + response.read() == held.body
    assert response.getheader("Content-Type") == "image/png"
    assert response.getheader("Content-Length") == (str(len(held.body)) if framing == "length" else None)
    assert response.getheader("X-Cache") == "MISS"
    assert response.getheader("X-Accel-Buffering") == "no", "nginx would collect it first"
    assert response.getheader("ETag") is None, "nobody knows it before the end"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_upstream_that_dies_halfway_breaks_the_connection_and_leaves_nothing_in_the_cache(
    service: Service, upstream: Upstream, target: str, framing: str
) -> None:
    upstream.behave(cut_off(framing=framing), image(framing=framing))
    with asked(service, STREAM, target) as response:
        assert response.status == 200
        with pytest.raises(IncompleteRead):
            response.read()
    again = fetch(service, target)
    assert (again.headers["X-Cache"], again.body) == ("MISS", picture())
    assert len(upstream.requests) == 2
    log = service.log.read_text()
    assert "stream_broken_off" in log
    assert "Traceback" not in log, "an upstream's fault is no bug of ours"


@pytest.mark.parametrize(
    ("answer", "slug"),
    [
        pytest.param(html_as_png(), "not-an-image", id="html as png"),
        pytest.param(content(b"", "image/png"), "not-an-image", id="nothing at all"),
        pytest.param(streamed(MAX_BYTES + 1), "image-too-large", id="more bytes announced than allowed"),
        pytest.param(
            content(picture(width=16, height=16)[:-4], "image/png"), "not-an-image", id="no end, at once"
        ),
    ],
)
def test_what_shows_in_the_first_bytes_is_a_problem_document(
    service: Service, upstream: Upstream, target: str, answer: Answer, slug: str
) -> None:
    upstream.behave(answer)
    got = fetch(service, target)
    assert got.status == 502
    assert got.headers["Content-Type"] == "application/problem+json"
    assert got.headers["Cache-Control"] == "no-store"
    assert json.loads(got.body)["type"] == f"/problems/{slug}"


@pytest.mark.parametrize(
    ("answer", "slug"),
    [
        pytest.param(streamed(MAX_BYTES + 1, framing="chunked"), "image-too-large", id="too many bytes"),
        pytest.param(
            content(picture() + b"<script>", "image/png", framing="chunked"),
            "not-an-image",
            id="more after the end",
        ),
        pytest.param(content(LARGE[:-4], "image/png"), "not-an-image", id="no end, of the length announced"),
        pytest.param(cut_off(framing="close"), "not-an-image", id="no end, of no length announced"),
    ],
)
def test_what_shows_only_later_breaks_the_connection_and_leaves_nothing_in_the_cache(
    service: Service, upstream: Upstream, target: str, answer: Answer, slug: str
) -> None:
    upstream.behave(answer, image())
    with asked(service, STREAM, target) as response:
        assert response.status == 200
        with pytest.raises(IncompleteRead):
            response.read()
    again = fetch(service, target)
    assert again.status == 502, "the failure is remembered, and there is no picture to answer with instead"
    assert json.loads(again.body)["type"] == f"/problems/{slug}"


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_caller_who_goes_away_leaves_the_picture_to_the_next(
    service: Service, upstream: Upstream, target: str, framing: str
) -> None:
    held = HeldPicture(LARGE, framing)
    upstream.behave(held.answer())
    with asked(service, STREAM, target) as response:
        assert response.read1(65536)
    held.go_on.set()
    assert fetch(service, target).body == LARGE
    assert fetch(service, target).headers["X-Cache"] == "HIT"
    assert len(upstream.requests) == 1


def test_who_asks_while_a_picture_streams_gets_it_too_without_a_second_call(
    service: Service, upstream: Upstream, target: str
) -> None:
    held = HeldPicture(LARGE)
    upstream.behave(held.answer())
    with ThreadPoolExecutor() as pool, asked(service, STREAM, target) as response:
        others = [pool.submit(fetch, service, target, route=route) for route in (STREAM, "/screenshot")]
        held.go_on.set()
        bodies = [response.read(), *(other.result().body for other in others)]
    assert bodies == [LARGE] * 3
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("body", [picture(), LARGE], ids=["small", "large"])
def test_the_second_call_is_a_hit_with_the_same_bytes_and_validators(
    service: Service, upstream: Upstream, target: str, body: bytes
) -> None:
    upstream.behave(content(body, "image/png"))
    first, second, third = (fetch(service, target) for _ in range(3))
    assert [each.headers["X-Cache"] for each in (first, second, third)] == ["MISS", "HIT", "HIT"]
    assert first.body == second.body == third.body == body
    assert second.headers["ETag"] == third.headers["ETag"]
    assert fetch(service, target, **{"If-None-Match": second.headers["ETag"]}).status == 304
    assert len(upstream.requests) == 1


def test_the_option_and_the_route_are_the_same_picture(
    service: Service, upstream: Upstream, target: str
) -> None:
    upstream.behave(image())
    option = fetch(service, target, route="/screenshot?stream=true")
    route, plain = fetch(service, target), fetch(service, target, route="/screenshot?stream=false")
    assert [each.headers["X-Cache"] for each in (option, route, plain)] == ["MISS", "HIT", "HIT"]
    assert option.body == route.body == plain.body
    assert option.headers["Cache-Control"] == route.headers["Cache-Control"]
    assert len(upstream.requests) == 1


def test_head_answers_as_get_would_without_a_body(service: Service, upstream: Upstream, target: str) -> None:
    upstream.behave(image(framing="chunked"))
    head = fetch(service, target, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    got = fetch(service, target)
    for name in ("Content-Type", "Content-Length", "ETag"):
        assert head.headers[name] == got.headers[name]


@pytest.mark.parametrize("framing", [*FRAMINGS, "close"])
def test_an_http_1_0_caller_gets_the_whole_picture_and_its_length(
    service: Service, upstream: Upstream, target: str, framing: str
) -> None:
    upstream.behave(image(framing=framing))
    got = raw_exchange(service, f"GET {path_of(STREAM, target)} HTTP/1.0\r\nHost: localhost\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    assert b" 200 " in head.splitlines()[0]
    assert f"\r\ncontent-length: {len(picture())}".encode() in head.lower()
    assert body == picture()


@pytest.mark.parametrize("framing", [*FRAMINGS, "close"])
def test_an_http_1_0_caller_never_gets_half_a_picture(
    service: Service, upstream: Upstream, target: str, framing: str
) -> None:
    """To HTTP/1.0 a connection that ends early can look like the end of the body: RFC 1945, section 7.2.2."""
    upstream.behave(cut_off(framing=framing))
    got = raw_exchange(service, f"GET {path_of(STREAM, target)} HTTP/1.0\r\nHost: localhost\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    assert b" 502 " in head.splitlines()[0]
    assert json.loads(body)["status"] == 502


def test_a_reader_who_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Their socket's buffers fill up; the capture goes on, others get it, and the next one is taken."""
    with Upstream(streamed(8 * 1024 * 1024)) as upstream:
        settings = snapapi_environment(upstream.url, UPSTREAM_CONCURRENCY="1", RATELIMIT_ENABLED="false")
        with running_service(tmp_path, settings) as service, socket.socket() as idler:
            idler.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            idler.connect(("127.0.0.1", service.port))
            idler.sendall(f"GET /screenshot/stream?url={TARGET} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_until(lambda: len(upstream.requests) == 1)
            same = requests.get(f"{service.url}/screenshot", {"url": TARGET}, timeout=60)
            other = requests.get(f"{service.url}/screenshot", {"url": f"{TARGET}?other"}, timeout=60)
    assert (same.status_code, len(same.content)) == (200, 8 * 1024 * 1024)
    assert other.status_code == 200
    assert len(upstream.requests) == 2
