"""The fast path answers as the application does, to the letter, and only where that would."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from tests.support.answers import streamed
from tests.support.processes import wait_until
from tests.support.raw_http import connected
from tests.support.service import Service, running_service, snapapi_environment
from tests.support.upstream import Upstream
from tests.support.vendors import play_vendors
from thumbnailer.signing import UrlSigner, parse_signing_keys
from wiring.fast_path import rest_of

SIGNING_KEYS = "k1:" + secrets.token_hex(32)
SIGNER = UrlSigner(parse_signing_keys(SIGNING_KEYS))

#: What differs between two answers to the same request, a moment apart.
OWN = re.compile(rb"(Date|X-Request-ID|Age): [^\r]*|dur=[0-9.]+|(?<=hit; ttl=)\d+|(?<=X-Accel-Expires: @)\d+")


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One worker, so that it is known whose memory answers."""
    settings = snapapi_environment(
        upstream.url,
        LOG_LEVEL="info",
        WEB_CONCURRENCY="1",
        SIGNING_KEYS=SIGNING_KEYS,
        PUBLIC_TARGETS="93.184.216.34",
        LIMIT_THUMB="1000 per hour",
        TRUSTED_PROXIES="127.0.0.1",
        LIMIT_CACHED="200 per hour",
    )
    with running_service(tmp_path_factory.mktemp("service"), settings) as service:
        yield service


@dataclass(frozen=True, slots=True)
class Wire:
    """An answer as the bytes that came."""

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def alike(self) -> bytes:
        """The head without what each answer has of its own."""
        return OWN.sub(b"*", self.head)

    def field(self, name: str) -> str:
        found = re.search(rb"\r\n%s: ([^\r]*)" % name.encode(), self.head)
        return found[1].decode() if found else ""


def request_of(path: str, *fields: str, method: str = "GET", caller: str | None = None) -> bytes:
    """A request by a caller of its own, whose allowance nobody has used."""
    address = caller or f"2001:db8:{secrets.randbelow(65536):x}:{secrets.randbelow(65536):x}::1"
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"X-Forwarded-For: {address}", *fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def exchange(wire: socket.socket, request: bytes) -> Wire:
    """One request and its answer on a connection that goes on."""
    wire.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += wire.recv(65536)
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"\r\nContent-Length: (\d+)", head)
    is_bare = request.startswith(b"HEAD") or head.split()[1] in (b"304", b"204")
    while length and not is_bare and len(body) < int(length[1]):
        body += wire.recv(65536)
    return Wire(head, body)


def thumb(page: str | None = None, **options: str) -> str:
    query = {"url": f"http://93.184.216.34/{page or secrets.token_hex(8)}"} | options
    return "/thumb?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())


def signed(**options: str) -> str:
    return str(
        SIGNER.sign(
            "/thumb",
            [("url", f"http://93.184.216.34/{secrets.token_hex(8)}"), *options.items()],
            now=time.time(),
        )
    )


def empty_the_cache(service: Service) -> None:
    """What is answered with a picture now comes from memory, or has been photographed anew."""
    shutil.rmtree(service.log.parent / "cache" / "entries")


def answered_twice(service: Service, request: bytes) -> tuple[Wire, Wire]:
    """What the application says to a request, and what memory does."""
    with connected(service.url) as wire:
        by_the_application = exchange(wire, request)
        empty_the_cache(service)
        return by_the_application, exchange(wire, request)


ALIKE: dict[str, tuple[Callable[[], str], tuple[str, ...]]] = {
    "a hit": (thumb, ()),
    "a signed URL": (signed, ()),
    "a size": (lambda: thumb(thumb_width="60", format="webp"), ()),
    "a format by Accept": (lambda: thumb(format="auto"), ("Accept: image/avif,image/webp,*/*",)),
    "a format by no Accept": (lambda: thumb(format="auto"), ()),
    "a name to save it under": (lambda: thumb(download="täe.png"), ()),
    "a request with a name": (thumb, ("X-Request-ID: my-own-name-4711",)),
    "a browser": (
        thumb,
        (
            "Connection: keep-alive",
            "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
            "Accept: image/avif,image/webp,image/*,*/*;q=0.8",
            "Accept-Language: de,en;q=0.5",
            "Accept-Encoding: gzip, deflate, br",
            "Referer: https://www.example.com/a/b?c=d",
            "Cookie: a=b; c=d",
            "Sec-Fetch-Dest: image",
            "Sec-Fetch-Mode: no-cors",
            "Sec-Fetch-Site: cross-site",
            "Priority: u=5, i",
        ),
    ),
}


@pytest.mark.parametrize("kind", ALIKE)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_memory_answers_as_the_application_does(service: Service, kind: str, method: str) -> None:
    path, fields = ALIKE[kind][0](), ALIKE[kind][1]
    request = request_of(path, *fields, method=method)
    with connected(service.url) as wire:
        assert exchange(wire, request_of(path, *fields)).status == 200
    first, second = answered_twice(service, request)
    assert (first.status, first.field("X-Cache"), second.field("X-Cache")) == (200, "HIT", "HIT")
    assert second.alike == first.alike
    assert second.body == first.body
    assert bool(second.body) == (method == "GET")
    assert first.field("X-Request-ID") != second.field("X-Request-ID") or "X-Request-ID" in str(fields)


@pytest.mark.parametrize("condition", ["If-None-Match: {ETag}", "If-Modified-Since: {Last-Modified}"])
def test_who_has_the_picture_hears_so_from_memory_too(service: Service, condition: str) -> None:
    path = thumb()
    with connected(service.url) as wire:
        whole = exchange(wire, request_of(path))
    names = {"ETag": whole.field("ETag"), "Last-Modified": whole.field("Last-Modified")}
    first, second = answered_twice(service, request_of(path, condition.format_map(names)))
    assert (first.status, second.status) == (304, 304)
    assert second.alike == first.alike
    with connected(service.url) as wire:
        without = exchange(wire, request_of(path))
    assert (without.status, without.body) == (200, whole.body), "who has nothing is told all of it"


def test_each_accept_gets_its_own_format_from_memory(service: Service) -> None:
    path = thumb(format="auto")
    wanted = {"image/webp": "image/webp", "image/avif": "image/avif", "image/png": "image/png"}
    with connected(service.url) as wire:
        requests_of = {accept: request_of(path, f"Accept: {accept}") for accept in wanted}
        for request in [*requests_of.values(), *requests_of.values()]:
            exchange(wire, request)
        empty_the_cache(service)
        found = {accept: exchange(wire, request) for accept, request in requests_of.items()}
    assert {accept: answer.field("Content-Type") for accept, answer in found.items()} == wanted
    assert {answer.field("X-Cache") for answer in found.values()} == {"HIT"}


#: Requests that memory leaves to the application, although it has an answer to nearly the same.
LEFT_ALONE = {
    "a part": (("Range: bytes=0-9",), 206),
    "another version": (('If-Match: "other"',), 412),
    "a key": (("X-API-Key: tk_nobody",), 401),
    "a bearer": (("Authorization: Bearer nobody",), 401),
    "an unknown field": (("X-Whatever: 1",), 200),
    "a body": (("Content-Length: 0",), 200),
    "an end": (("Connection: close",), 200),
    "no host": (("Host: elsewhere",), 400),
    "a stranger's word of an edge": (("X-Edge-Seconds: 60",), 200),
}


@pytest.mark.parametrize("kind", LEFT_ALONE)
def test_what_is_out_of_the_ordinary_is_the_applications(
    service: Service, upstream: Upstream, kind: str
) -> None:
    fields, status = LEFT_ALONE[kind]
    path = thumb()
    with connected(service.url) as wire:
        for _ in range(2):
            exchange(wire, request_of(path))
    empty_the_cache(service)
    before = len(upstream.requests)
    with connected(service.url) as wire:
        assert exchange(wire, request_of(path, *fields)).status == status
    assert len(upstream.requests) == before + (status in (200, 206, 412)), "the application had to look"


def test_a_signature_that_has_ended_is_not_honoured_from_memory(service: Service) -> None:
    exp = int(time.time()) + 4
    path = str(SIGNER.sign("/thumb", [("url", "http://93.184.216.34/ending")], now=time.time(), exp=exp))
    statuses: list[tuple[float, int]] = []
    with connected(service.url) as wire:

        def is_over() -> bool:
            asked_at = time.time()
            statuses.append((asked_at, exchange(wire, request_of(path)).status))
            return statuses[-1][1] == 403

        wait_until(is_over, what="the end of the signature")
    assert [status for _, status in statuses].count(200) > 1, "the second one came from memory"
    assert {status for asked_at, status in statuses if asked_at >= exp} <= {403}


def test_memory_counts_for_the_same_allowance_as_the_application(service: Service) -> None:
    path = thumb()
    caller = "2001:db8:1:2::3"
    with connected(service.url) as wire:
        statuses = [exchange(wire, request_of(path, caller=caller)).status for _ in range(202)]
        empty_the_cache(service)
        other = exchange(wire, request_of(path))
        refused = exchange(wire, request_of(path, caller=caller))
    assert statuses == [200] * 200 + [429] * 2
    assert other.field("X-Cache") == "HIT"
    assert json.loads(refused.body)["type"] == "/problems/rate-limited"
    assert refused.field("RateLimit-Policy") == '"answers";q=200;w=3600'


def test_a_claimed_address_counts_for_nothing_where_the_proxy_is_not_trusted(
    upstream: Upstream, tmp_path: Path
) -> None:
    settings = snapapi_environment(upstream.url, LIMIT_CACHED="5 per hour", WEB_CONCURRENCY="1")
    with running_service(tmp_path, settings) as service, connected(service.url) as wire:
        path = thumb()
        statuses = [exchange(wire, request_of(path)).status for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2


@pytest.fixture(scope="module")
def open_service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """For everybody, who may purge, too."""
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="1", LIMIT_PURGE="100 per hour")
    with running_service(tmp_path_factory.mktemp("open"), settings) as service:
        yield service


def test_what_is_purged_is_gone_from_memory_at_once(open_service: Service) -> None:
    page, purge = secrets.token_hex(8), f"{open_service.url}/cache"
    with connected(open_service.url) as wire:
        for _ in range(3):
            found = [exchange(wire, request_of(thumb(page))).field("X-Cache") for _ in range(3)]
            assert found[1:] == ["HIT", "HIT"]
            target = {"url": f"http://93.184.216.34/{page}"}
            assert requests.delete(purge, params=target, timeout=20).status_code == 200
            assert exchange(wire, request_of(thumb(page))).field("X-Cache") == "MISS"


def test_what_memory_answers_is_counted_as_the_rest_is(open_service: Service) -> None:
    path, usage = thumb(), f"{open_service.url}/usage"

    def counted() -> dict[str, int]:
        (account,) = requests.get(usage, timeout=20).json()["accounts"]
        return {name: account["total"][name] for name in ("captures", "hits", "misses", "size_bytes")}

    before = counted()
    with connected(open_service.url) as wire:
        size_bytes = len(exchange(wire, request_of(path)).body)
        for _ in range(9):
            exchange(wire, request_of(path))
        exchange(wire, request_of(path, method="HEAD"))
        exchange(wire, request_of(path, method="HEAD"))
    after = {name: count - before[name] for name, count in counted().items()}
    assert after == {"captures": 1, "hits": 11, "misses": 1, "size_bytes": 10 * size_bytes}


def test_an_answer_is_given_again_for_a_few_seconds_only(service: Service, upstream: Upstream) -> None:
    path = thumb()
    with connected(service.url) as wire:
        for _ in range(2):
            exchange(wire, request_of(path))
        empty_the_cache(service)
        assert exchange(wire, request_of(path)).field("X-Cache") == "HIT"
        before = len(upstream.requests)
        wait_until(
            lambda: exchange(wire, request_of(path)).field("X-Cache") == "MISS", what="memory to forget"
        )
    assert len(upstream.requests) == before + 1


def test_each_answer_has_its_line_in_the_log(service: Service) -> None:
    path = thumb()
    with connected(service.url) as wire:
        exchange(wire, request_of(path))
        first, second = (exchange(wire, request_of(path)) for _ in range(2))

        def line_of(answer: Wire) -> dict[str, object]:
            name = answer.field("X-Request-ID")
            wait_until(lambda: name in service.log.read_text(), what="the line")
            (line,) = [one for one in service.log.read_text().splitlines() if name in one]
            return dict(json.loads(line))

        lines = [line_of(first), line_of(second)]
    for line in lines:
        assert isinstance(line.pop("duration_ms"), float)
        assert str(line.pop("timestamp")).endswith("Z")
        del line["request_id"]
    assert lines[0] == lines[1]
    assert list(lines[0]) == list(lines[1])
    assert lines[0]["cache"] == "hit"


def test_who_asks_on_without_reading_holds_up_nobody_and_gets_every_answer_whole(
    service: Service, upstream: Upstream
) -> None:
    path, size_bytes, many = thumb(), 250_000, 40
    upstream.behave(streamed(size_bytes))
    with connected(service.url) as other:
        large = exchange(other, request_of(path)).body
        upstream.behave(play_vendors)
        assert exchange(other, request_of(path)).body == large
        with connected(service.url, receive_buffer=4096) as wire:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each request by itself
            for _ in range(many):
                wire.sendall(request_of(path))
                assert exchange(other, request_of("/health")).status == 200
            received = bytearray()
            while len(received) < many * size_bytes or not received.endswith(large[-99:]):
                received += wire.recv(1 << 20)
    assert bytes(received).count(large) == many


@pytest.mark.parametrize("sent", range(9))
def test_what_a_client_has_not_taken_is_the_rest_of_the_answer_and_the_body_is_not_copied(sent: int) -> None:
    head, body = b"head", b"body"
    rest = rest_of(head, body, sent)
    assert bytes(rest) == (head + body)[sent:]
    assert (rest.obj is body) == (sent >= len(head))


def test_a_worker_that_stops_does_not_wait_for_who_has_just_taken_the_rest_of_an_answer(
    upstream: Upstream, tmp_path: Path
) -> None:
    path = thumb()
    upstream.behave(streamed(250_000))
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="1", RATELIMIT_ENABLED="false")
    with (
        running_service(tmp_path, settings) as service,
        connected(service.url) as other,
        connected(service.url, receive_buffer=4096) as wire,
    ):
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # each request by itself
        answers = [exchange(other, request_of(path)) for _ in range(3)]
        size_bytes, asked = len(answers[-1].head) + 4 + len(answers[-1].body), 0
        while asked * size_bytes < _under_way(wire) + 1000:
            wire.sendall(request_of(path))
            asked += 1
            assert exchange(other, request_of(path)).status == 200  # looked at after the one before
        os.kill(service.pid, signal.SIGTERM)
        while other.recv(65536):
            """The worker closes idle connections when it stops."""
        received = bytearray()
        while chunk := wire.recv(1 << 20):  # patient, but for less long than a worker takes to stop at most
            received += chunk
    assert len(received) > (asked - 1) * size_bytes


def _under_way(wire: socket.socket) -> int:
    """How many bytes for the client the kernel has, at either end of the connection, once they lie still."""
    before, found = -1, _queued(wire)
    while before != found:
        before, found = found, _queued(wire)
    return found


def _queued(wire: socket.socket) -> int:
    ends = {wire.getsockname()[1], wire.getpeername()[1]}
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        local, remote, _, queues = line.split()[1:5]
        if {int(end.split(":")[1], 16) for end in (local, remote)} == ends:
            found += sum(int(queue, 16) for queue in queues.split(":"))
    return found
