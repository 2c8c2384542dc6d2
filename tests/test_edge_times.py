"""The shipped nginx before something that plays the service: how long it keeps answers, and who may ask."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.answers import Answer, content
from tests.support.edge import SECOND, Application, ask, edge_cache, port_of, thumb_path
from tests.support.nginx import Nginx, running_nginx
from tests.support.pictures import picture
from tests.support.processes import free_port, wait_until
from tests.support.raw_http import connected, head, read_answer
from tests.support.upstream import Upstream

#: A busy machine may need longer than the edge waits.
PATIENT_LOCK = {"proxy_cache_lock_timeout 250ms;": "proxy_cache_lock_timeout 20s;"}


@pytest.fixture
def application() -> Iterator[Application]:
    with Application() as application:
        yield application


def test_many_who_want_what_is_not_there_ask_once(tmp_path: Path, application: Application) -> None:
    application.terms = "max-age=60"
    application.free.clear()
    with (
        running_nginx(tmp_path, application.port, changes=PATIENT_LOCK) as nginx,
        ThreadPoolExecutor(8) as pool,
    ):
        asking = [pool.submit(ask, nginx.url, "/thumb?url=x") for _ in range(8)]
        wait_until(lambda: len(application.requests) == 1, what="the first request")
        application.free.set()
        assert [each.result().body for each in asking] == [b"1"] * 8
    assert len(application.requests) == 1


def test_an_old_answer_is_whole_before_the_new_one_has_come(tmp_path: Path, application: Application) -> None:
    application.terms = "max-age=1, stale-while-revalidate=60"
    with running_nginx(tmp_path, application.port) as nginx:
        assert ask(nginx.url, "/thumb?url=x").body == b"1"
        application.free.clear()
        with connected(nginx.url) as wire:
            wait_until(lambda: _asks_again(wire, application), what="an update")
        assert ask(nginx.url, "/thumb?url=x").body == b"1", "others do not wait either"
        assert len(application.requests) == 2, "and ask for no second update"
        application.free.set()
        wait_until(lambda: ask(nginx.url, "/thumb?url=x").body == b"2", what="the new answer")


def _asks_again(wire: socket.socket, application: Application) -> bool:
    """Whether this answer, which is read to its last byte, has made the edge ask for a new one."""
    wire.sendall(b"GET /thumb?url=x HTTP/1.1\r\nHost: localhost\r\n\r\n")
    received = b""
    while not received.endswith(b"\r\n\r\n1"):
        chunk = wire.recv(65536)
        assert chunk
        received += chunk
    deadline = time.monotonic() + 0.3
    while time.monotonic() < deadline and len(application.requests) < 2:
        time.sleep(0.01)
    return len(application.requests) > 1


FAILURES = {
    "it is gone": (422, "application/problem+json"),
    "the vendor fails": (502, "application/problem+json"),
    "too much is asked": (503, "application/problem+json"),
    "a bug": (500, "application/problem+json"),
    "it may not be seen": (403, "application/problem+json"),
}


@pytest.mark.parametrize(("status", "content_type"), FAILURES.values(), ids=FAILURES.keys())
def test_an_old_answer_does_not_outlive_its_time_while_there_is_no_new_one(
    tmp_path: Path, application: Application, status: int, content_type: str
) -> None:
    with running_nginx(tmp_path, application.port) as nginx:
        assert ask(nginx.url, "/thumb?url=x").body == b"1"
        application.failure = content(b"{}", content_type, ("Cache-Control", "no-store"), status=status)
        wait_until(lambda: ask(nginx.url, "/thumb?url=x").status == status, what="the bad news")
        application.failure = None
        assert ask(nginx.url, "/thumb?url=x").status == 200


UNTOLD = {
    "private": ("private, max-age=60", "public, max-age=60"),
    "no-store": ("no-store", ""),
    "no terms": ("public, max-age=60", ""),
}


@pytest.mark.parametrize(("cache_control", "terms"), UNTOLD.values(), ids=UNTOLD.keys())
def test_nothing_is_kept_that_nobody_allows(tmp_path: Path, cache_control: str, terms: str) -> None:
    headers = [("Cache-Control", cache_control)]
    headers += [("X-Edge-Client-Cache-Control", terms)] if terms else []
    answer = content(picture(), "image/png", *headers)
    with Upstream(answer) as server, running_nginx(tmp_path, port_of(server.url)) as nginx:
        answers = [ask(nginx.url, "/thumb?url=x") for _ in range(2)]
        assert [edge_cache(each) for each in answers] == ["MISS", "MISS"]
        assert nginx.kept == 0


def test_what_depends_on_more_than_accept_is_not_kept(tmp_path: Path) -> None:
    terms = (("Cache-Control", "max-age=60"), ("X-Edge-Client-Cache-Control", "public, max-age=60"))
    answer = content(picture(), "image/png", *terms, ("Vary", "Origin"))
    with Upstream(answer) as server, running_nginx(tmp_path, port_of(server.url)) as nginx:
        assert [edge_cache(ask(nginx.url, "/thumb?url=x")) for _ in range(2)] == ["MISS", "MISS"]


def test_while_the_service_is_down_old_pictures_go_on_but_not_those_whose_url_ends(tmp_path: Path) -> None:
    paths = {"open": thumb_path(), "ending": thumb_path(exp="1999999999"), "spelt": thumb_path() + "&e%78p=9"}
    with Application() as application, running_nginx(tmp_path, application.port, changes=SECOND) as nginx:
        for path in paths.values():
            assert edge_cache(ask(nginx.url, path)) == "MISS"
            assert edge_cache(ask(nginx.url, path)) in {"HIT", "UPDATING", "STALE"}
        application.close()
        wait_until(lambda: ask(nginx.url, paths["ending"]).status == 502, what="the end of a copy")
        wait_until(lambda: ask(nginx.url, paths["spelt"]).status == 502, what="the end of another")
        later = ask(nginx.url, paths["open"])
    assert (later.status, edge_cache(later), later.body) == (200, "STALE", b"1")


def test_every_signature_has_a_copy_of_its_own(tmp_path: Path, application: Application) -> None:
    application.terms = "max-age=60"
    urls = ["/thumb?url=x", "/thumb?url=x&sig=a", "/thumb?url=x&sig=b", "/thumb?url=x&exp=9&sig=a"]
    with running_nginx(tmp_path, application.port) as nginx:
        assert [ask(nginx.url, url).body for url in urls * 2] == [b"1", b"2", b"3", b"4"] * 2


@pytest.mark.parametrize("ending", ["", "&exp=99999999999"], ids=["open", "ending"])
def test_head_and_picture_of_a_kept_thumbnail_leave_in_one_piece(tmp_path: Path, ending: str) -> None:
    body = b"x" * 10_000
    terms = (("Cache-Control", "max-age=60"), ("X-Edge-Client-Cache-Control", "public, max-age=60"))
    path = f"/thumb?url=x&thumb_width=400{ending}"
    answer = content(body, "image/png", *terms)
    with Upstream(answer) as server, running_nginx(tmp_path, port_of(server.url)) as nginx:
        assert ask(nginx.url, path).body == body
        with connected(nginx.url) as wire:
            wire.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = wire.recv(65536)
    assert b"X-Edge-Cache: HIT" in received
    assert received.endswith(b"\r\n\r\n" + body)


def test_a_kept_picture_larger_than_the_buffer_comes_whole(tmp_path: Path) -> None:
    body = random.Random(1).randbytes(300_000)
    terms = (("Cache-Control", "max-age=60"), ("X-Edge-Client-Cache-Control", "public, max-age=60"))
    answer = content(body, "image/png", *terms)
    with Upstream(answer) as server, running_nginx(tmp_path, port_of(server.url)) as nginx:
        answers = [ask(nginx.url, "/thumb?url=x") for _ in range(2)]
        assert [edge_cache(each) for each in answers] == ["MISS", "HIT"]
        assert [each.body for each in answers] == [body, body]


# --- clients --------------------------------------------------------------------------------------


def test_a_slow_reader_of_a_large_answer_does_not_bring_its_url_into_the_log(tmp_path: Path) -> None:
    """nginx keeps the answer in a file meanwhile, and would tell of that with the whole URL."""
    taken_over = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield from [bytes(1 << 20)] * 32
        taken_over.set()

    answer = Answer(headers=(("Content-Type", "image/png"),), chunks=pieces, length=32 << 20)
    with (
        Upstream(answer) as server,
        running_nginx(tmp_path, port_of(server.url)) as nginx,
        connected(nginx.url) as wire,
    ):
        wire.sendall(head("GET /thumb?url=x&sig=said HTTP/1.1", "X-API-Key: tn_none"))
        assert taken_over.wait(60)
    assert "sig=said" not in (tmp_path / "nginx.log").read_text()


def test_who_asks_too_much_is_told_when_to_come_again(tmp_path: Path, application: Application) -> None:
    changes = {"zone=answers burst=300 nodelay": "zone=answers burst=1 nodelay", "rate=600r/m": "rate=1r/m"}
    with running_nginx(tmp_path, application.port, changes=changes) as nginx:
        answers = [ask(nginx.url, "/thumb?url=x") for _ in range(3)]
        ending = ask(nginx.url, "/thumb?url=x&exp=9")
        keyed = ask(nginx.url, "/thumb?url=x", "X-API-Key: tn_none")
    assert "/thumb" not in (tmp_path / "nginx.log").read_text(), "errors are told with the whole URL"
    assert [each.status for each in answers] == [200, 200, 429]
    refused = answers[2]
    assert {**ending.json(), "request_id": ""} == {**refused.json(), "request_id": ""}
    assert ending.headers["retry-after"] == "1"
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["cache-control"] == "no-store"
    assert (refused.headers["ratelimit-policy"], refused.headers["ratelimit"]) == (
        '"edge";q=600;w=60',
        '"edge";r=0;t=1',
    )
    document = refused.json()
    assert (document["type"], document["status"], document["retryable"]) == (
        "/problems/rate-limited",
        429,
        True,
    )
    assert keyed.status == 200, "who has a key has limits of their own"


def test_a_request_that_does_not_come_in_time_never_reaches_the_service(
    tmp_path: Path, application: Application
) -> None:
    changes = {"client_header_timeout 10s;": "client_header_timeout 1s;"}
    changes |= {"client_body_timeout 10s;": "client_body_timeout 1s;"}
    post = head("POST /screenshot HTTP/1.1", "Content-Length: 100").replace(b"Connection: close\r\n", b"")
    with running_nginx(tmp_path, application.port, changes=changes) as nginx:
        for begun in (b"GET /thumb HTTP/1.1\r\nHost: x\r\n", post + b"{"):
            with connected(nginx.url) as wire:
                wire.sendall(begun)
                with contextlib.suppress(ConnectionResetError):
                    assert not wire.recv(65536).startswith(b"HTTP/1.1 200")
    assert application.requests == ()


def test_a_client_that_does_not_read_holds_nobody_up_behind_the_edge(tmp_path: Path) -> None:
    body = b"x" * 4_000_000
    sent = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield from (body[at : at + 65536] for at in range(0, len(body), 65536))
        sent.set()

    answer = Answer(headers=(("Content-Type", "image/png"),), chunks=chunks, length=len(body))
    with (
        Upstream(answer) as server,
        running_nginx(tmp_path, port_of(server.url)) as nginx,
        connected(nginx.url, receive_buffer=4096) as wire,
    ):
        wire.sendall(head("GET /thumb?url=x HTTP/1.1"))
        assert sent.wait(20), "all of it has left the service"
        assert read_answer(wire).body == body


def test_a_port_without_a_service_is_a_problem_that_says_when_to_come_again(tmp_path: Path) -> None:
    with running_nginx(tmp_path, free_port()) as nginx:
        for path in ("/thumb?url=x", "/thumb?url=x&exp=9"):
            answer = ask(nginx.url, path)
            assert (answer.status, answer.headers["retry-after"]) == (502, "5")
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["cache-control"] == "no-store"


def test_a_probe_that_names_no_host_is_passed_on(tmp_path: Path) -> None:
    with (
        Upstream(content(b"{}", "application/json")) as server,
        running_nginx(tmp_path, port_of(server.url)) as nginx,
        connected(nginx.url) as wire,
    ):
        wire.sendall(head("GET /health HTTP/1.0", host=None))
        assert read_answer(wire).status == 200
        assert server.requests[0].header("Host") == "localhost"


BEARER, KEY = "Authorization: Bearer tn_x", "X-Api-Key: tn_x"


@pytest.mark.parametrize(
    ("method", "path", "fields", "dialect"),
    [
        pytest.param("GET", "/api/screenshot?url=x", (), "hermesforge", id="hermesforge"),
        pytest.param("GET", "/v1/screenshot?url=x", (), "snapsharp", id="a GET"),
        pytest.param("GET", "/v1/screenshot?url=x", (KEY, BEARER), "snapsharp", id="a GET with both headers"),
        pytest.param("POST", "/v1/screenshot", (), "snapapi", id="a POST"),
        pytest.param("POST", "/v1/screenshot", (BEARER,), "snapsharp", id="a POST of a bearer"),
        pytest.param("POST", "/v1/screenshot", (KEY, BEARER), "snapapi", id="a POST with both headers"),
        pytest.param("GET", "/v1/usage?access_key=x", (), "snapapi", id="a key in the URL"),
        pytest.param("GET", "/v1/usage", (KEY,), "snapapi", id="usage by SnapAPI's header"),
        pytest.param("GET", "/v1/usage", (BEARER,), "snapsharp", id="usage by SnapSharp's header"),
        pytest.param("GET", "/v1/nowhere", (), "snapsharp", id="no address"),
        pytest.param("GET", "/thumb?url=/v1/x", (), "none", id="another route"),
    ],
)
def test_a_vendors_clients_are_refused_in_the_vendors_shape(
    lonely: Nginx, method: str, path: str, fields: tuple[str, ...], dialect: str
) -> None:
    down = ask(lonely.url, path, *fields, method=method)
    large = ask(lonely.url, path, "Content-Length: 3000000", *fields, method=method)
    assert (down.status, down.headers["retry-after"], large.status) == (502, "5", 413)
    for answer, slug, of_snapsharp, of_snapapi in (
        (down, "internal", "queue_unavailable", "SERVICE_UNAVAILABLE"),
        (large, "body-too-large", "payload_too_large", "PAYLOAD_TOO_LARGE"),
    ):
        assert answer.headers["cache-control"] == "no-store"
        told = answer.json()
        if dialect == "none":
            assert told["type"] == f"/problems/{slug}"
            continue
        assert answer.headers["content-type"] == "application/json"
        name, text = answer.headers["x-request-id"], told["message"]
        assert answer.headers.get("x-problem") == (None if dialect == "hermesforge" else slug)
        pause = {"retryAfter": 5} if answer is down else {}
        assert (
            told
            == {
                "hermesforge": {"success": False, "error": slug, "message": text, "request_id": name},
                "snapsharp": {"error": of_snapsharp, "message": text, "request_id": name},
                "snapapi": {
                    "error": {"code": of_snapapi, "message": text, "details": {"requestId": name, **pause}},
                    "statusCode": answer.status,
                    "message": text,
                },
            }[dialect]
        )


@pytest.mark.parametrize(
    ("path", "fields", "code"),
    [
        pytest.param("/thumb?url=x", (), "/problems/method-not-allowed", id="a problem document"),
        pytest.param("/api/screenshot?url=x", (), "method-not-allowed", id="hermesforge"),
        pytest.param("/v1/screenshot?url=x", (BEARER,), "method_not_allowed", id="SnapSharp"),
        pytest.param("/v1/screenshot?url=x", (KEY,), "METHOD_NOT_ALLOWED", id="SnapAPI"),
    ],
)
def test_a_method_that_goes_no_further_is_told_as_one(
    lonely: Nginx, path: str, fields: tuple[str, ...], code: str
) -> None:
    answer = ask(lonely.url, path, *fields, method="TRACE")
    assert (answer.status, answer.headers["cache-control"]) == (405, "no-store")
    assert answer.headers["allow"] == "GET, HEAD, POST, PATCH, DELETE"
    assert f'"{code}"'.encode() in answer.body


@pytest.fixture(scope="module")
def lonely(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """An edge without a service; it soon stops listening to those whom it has refused."""
    brief = {"reset_timedout_connection on;": "reset_timedout_connection on; lingering_timeout 100ms;"}
    with running_nginx(tmp_path_factory.mktemp("lonely"), free_port(), changes=brief) as nginx:
        yield nginx


@pytest.mark.parametrize("shape", ["problem", "vendor", "no-such-part-problem", "no-such-part-vendor"])
def test_what_the_edge_has_for_itself_is_no_address(lonely: Nginx, shape: str) -> None:
    answer = ask(lonely.url, f"/nginx-{shape}")
    assert (answer.status, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json()["type"] == "/problems/not-found"


def test_a_vendors_clients_are_told_when_to_come_again(tmp_path: Path, application: Application) -> None:
    changes = {"zone=answers burst=300 nodelay": "zone=answers burst=1 nodelay", "rate=600r/m": "rate=1r/m"}
    with running_nginx(tmp_path, application.port, changes=changes) as nginx:
        for _ in range(2):
            ask(nginx.url, "/v1/usage")
        sharp, api = ask(nginx.url, "/v1/usage"), ask(nginx.url, "/v1/screenshot", method="POST")
    assert (sharp.status, sharp.json()["error"], sharp.headers["retry-after"]) == (429, "rate_limited", "1")
    error = api.json()["error"]
    assert (api.status, error["code"], error["details"]["retryAfter"]) == (429, "RATE_LIMITED", 1)


def test_a_picture_is_always_asked_of_the_same_instance_and_everything_else_of_any(tmp_path: Path) -> None:
    paths = [thumb_path() for _ in range(12)]
    with (
        Application("no-store") as first,
        Application("no-store") as second,
        running_nginx(tmp_path, first.port, second.port) as nginx,
    ):
        for path in paths * 3:
            assert ask(nginx.url, path).status == 200
        pictures = [{each.target for each in instance.requests} for instance in (first, second)]
        assert pictures[0] | pictures[1] == set(paths)
        assert not pictures[0] & pictures[1]
        assert all(pictures), "each has its share"
        for _ in range(20):
            assert ask(nginx.url, "/persist", "Content-Length: 0", method="POST").status == 200
        for instance in (first, second):
            assert any(each.method == "POST" for each in instance.requests)


def test_pictures_of_an_instance_that_is_down_are_asked_of_another(tmp_path: Path) -> None:
    paths = [thumb_path() for _ in range(12)]
    with (
        Application("no-store") as first,
        Application("no-store") as second,
        running_nginx(tmp_path, first.port, second.port) as nginx,
    ):
        assert {ask(nginx.url, path).status for path in paths} == {200}
        assert first.requests
        first.close()
        wait_until(lambda: {ask(nginx.url, path).status for path in paths} == {200}, what="the other one")
