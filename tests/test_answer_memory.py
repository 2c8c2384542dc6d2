"""What the fast path reads of a request, and what it remembers of answers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import given
from hypothesis import strategies as st

from blueprints.replays import Replay
from tests.support.clocks import Clock
from wiring.fast_path import KNOWN_FIELDS, AnswerMemory, PlainRequest, read_environ, read_plainly

NAMES = st.sampled_from([*(name.decode() for name in KNOWN_FIELDS), "X-API-Key", "Range", "Content-Length"])
VALUES = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=12)
FIELDS = st.lists(st.tuples(NAMES.map(str.title), st.sampled_from(["", " ", "\t"]), VALUES), max_size=6)
TARGETS = st.text(st.characters(codec="latin-1"), max_size=12).map(lambda text: f"/{text}")


def head_of(method: str, target: str, fields: list[tuple[str, str, str]]) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost:8000"]
    lines += [f"{name}:{space}{value}" for name, space, value in fields]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@given(st.sampled_from(["GET", "HEAD", "POST", "get"]), TARGETS, FIELDS)
def test_what_is_read_plainly_is_what_the_server_reads(
    method: str, target: str, fields: list[tuple[str, str, str]]
) -> None:
    received = head_of(method, target, fields)
    plain = read_plainly(received)
    if plain is None:
        return
    config = Config()
    request = Request(config, IterUnreader(iter([received])), ("127.0.0.1", 1))
    environ = wsgi.default_environ(request, None, config)
    environ |= {f"HTTP_{name.replace('-', '_')}": value for name, value in request.headers}
    assert read_environ(environ) == plain
    assert request.body.read() == b""


HEAD = head_of("GET", "/thumb?url=a", [("Accept", " ", "image/webp")])


@pytest.mark.parametrize(
    "received",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(HEAD[:-2], id="half a head"),
        pytest.param(HEAD + HEAD, id="two requests"),
        pytest.param(HEAD + b"x", id="something behind it"),
        pytest.param(HEAD.replace(b"GET", b"POST"), id="another method"),
        pytest.param(HEAD.replace(b"1.1", b"1.0"), id="another version"),
        pytest.param(HEAD.replace(b"/thumb", b"http://localhost/thumb"), id="a whole URL"),
        pytest.param(HEAD.replace(b"\r\n", b"\n"), id="bare line feeds"),
        pytest.param(HEAD.replace(b"Accept:", b" Accept:"), id="a folded field"),
        pytest.param(HEAD.replace(b"Accept:", b"Accept :"), id="a space before the colon"),
        pytest.param(HEAD.replace(b"Accept: image/webp", b"Accept: "), id="an empty field that counts"),
        pytest.param(HEAD.replace(b"Host: localhost:8000\r\n", b""), id="no host"),
        pytest.param(HEAD.replace(b"localhost", b"local_host/"), id="an odd host"),
        pytest.param(HEAD.replace(b"Accept", b"accept: a\r\nAccept"), id="a field twice"),
        pytest.param(HEAD.replace(b"Accept", b"X-Api-Key"), id="a key"),
        pytest.param(HEAD.replace(b"Accept", b"Transfer-Encoding"), id="an encoding"),
        pytest.param(HEAD.replace(b"image/webp", b"im\x00age"), id="a control character"),
        pytest.param(HEAD.replace(b"image/webp", b"im\xe4ge"), id="a letter outside of ASCII"),
        pytest.param(HEAD.replace(b"Accept: image/webp", b"Connection: close"), id="the end of a connection"),
        pytest.param(HEAD.replace(b"Accept: image/webp", b"Connection: Upgrade"), id="another protocol"),
    ],
)
def test_nothing_out_of_the_ordinary_is_read_plainly(received: bytes) -> None:
    assert read_plainly(HEAD) is not None
    assert read_plainly(received) is None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> AnswerMemory:
    return AnswerMemory(life_seconds=3, max_bytes=100_000, clock=clock)


def replay_of(clock: Clock, body: bytes = b"picture", **more: Any) -> Replay:
    facts = {
        "body": body,
        "dated_headers": lambda now: {"Age": str(int(now) % 100)},
        "good_until": clock.now + 60,
        "is_current": lambda: True,
        "facts": {"cache": "hit"},
        "account": "anonymous",
        "route": "/thumb",
    }
    return Replay(**{**facts, **more})


def asked(target: str = "/thumb?a", **fields: str) -> dict[str, str]:
    named = {f"HTTP_{name.upper()}": value for name, value in fields.items()}
    request = {
        "REQUEST_METHOD": "GET",
        "RAW_URI": target,
        "PATH_INFO": "/thumb",
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    return request | named


HEADERS = [("Age", "0"), ("Content-Type", "image/png")]
WISH = PlainRequest(b"GET", b"/thumb?a")


def test_an_answer_is_kept_for_its_life_and_renewed_once_before_its_end(
    memory: AnswerMemory, clock: Clock
) -> None:
    memory.keep(asked(), "200 OK", HEADERS, replay_of(clock))
    clock.now += 1.9
    assert memory.find(WISH, clock.now) is not None
    clock.now += 0.2
    found = [memory.find(WISH, clock.now) for _ in range(3)]
    assert [each is None for each in found] == [True, False, False]
    clock.now += 1
    assert memory.find(WISH, clock.now) is None


def test_the_time_is_told_anew_each_second_and_nothing_else_is(memory: AnswerMemory, clock: Clock) -> None:
    memory.keep(asked(), "200 OK", HEADERS, replay_of(clock))
    found = memory.find(WISH, clock.now)
    assert found is not None
    first, later = found.head(clock.now), found.head(clock.now + 1)
    assert re.findall(rb"Age: (\d+)", first + later) == [b"0", b"1"]
    assert found.head(clock.now + 1.5) is later
    assert first.endswith(b"Content-Type: image/png\r\n\r\n")


@pytest.mark.parametrize(
    "more",
    [
        pytest.param({"good_until": Clock.now + 1}, id="its picture is too old"),
        pytest.param({"is_current": lambda: False}, id="something was purged"),
    ],
)
def test_an_answer_that_is_no_longer_right_is_not_found(
    memory: AnswerMemory, clock: Clock, more: dict[str, Any]
) -> None:
    memory.keep(asked(), "200 OK", HEADERS, replay_of(clock, **more))
    assert memory.find(WISH, clock.now + 1) is None


def test_a_clock_that_was_set_back_makes_no_answer_live_longer(memory: AnswerMemory, clock: Clock) -> None:
    memory.keep(asked(), "200 OK", HEADERS, replay_of(clock))
    assert memory.find(WISH, clock.now - 1) is None


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        pytest.param(asked(), "206 PARTIAL CONTENT", id="a part"),
        pytest.param(asked(), "202 ACCEPTED", id="a stand-in"),
        pytest.param(asked(range="bytes=0-1"), "200 OK", id="a request with a field of consequence"),
        pytest.param(asked() | {"SERVER_PROTOCOL": "HTTP/1.0"}, "200 OK", id="an old client"),
    ],
)
def test_only_answers_to_plain_requests_are_kept(
    memory: AnswerMemory, clock: Clock, environ: dict[str, str], status: str
) -> None:
    memory.keep(environ, status, HEADERS, replay_of(clock))
    assert memory.find(WISH, clock.now) is None


def test_an_answer_that_varies_is_for_the_same_accept_only(memory: AnswerMemory, clock: Clock) -> None:
    varying = [*HEADERS, ("Vary", "Accept")]
    memory.keep(asked(), "200 OK", varying, replay_of(clock, b"for nobody"))
    memory.keep(asked(accept="image/webp"), "200 OK", varying, replay_of(clock, b"webp"))
    bodies = {}
    for accept in (b"", b"image/webp", b"image/avif"):
        found = memory.find(PlainRequest(b"GET", b"/thumb?a", accept=accept), clock.now)
        bodies[accept] = found.body if found else None
    assert bodies == {b"": b"for nobody", b"image/webp": b"webp", b"image/avif": None}


def test_memory_is_bounded_and_the_oldest_answers_go_first(memory: AnswerMemory, clock: Clock) -> None:
    for number in range(200):
        memory.keep(asked(f"/thumb?{number}"), "200 OK", HEADERS, replay_of(clock, bytes(1000)))
    kept = [
        number
        for number in range(200)
        if memory.find(PlainRequest(b"GET", f"/thumb?{number}".encode()), clock.now)
    ]
    assert kept == list(range(200 - len(kept), 200))
    assert 100_000 // 6000 <= len(kept) <= 100_000 // 1000
    memory.keep(asked(), "200 OK", HEADERS, replay_of(clock, bytes(200_000)))
    assert memory.find(WISH, clock.now) is None
