"""Every kind of answer, as it comes over the wire, before a judge who knows the RFCs.

The judge is httplint (``tests/support/http_linter.py``). What it finds fault with is a failure, except
for what ``ALLOWED`` gives a reason for.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.support.ageing import age_pictures
from tests.support.answers import Answer, Received, image, json_error
from tests.support.http_linter import Exchange, ask, members
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.service import TARGET, Service, running_service, snapapi_environment
from tests.support.upstream import Upstream

IMG = {"Sec-Fetch-Dest": "image", "Accept": "image/avif,image/webp,image/apng,image/*,*/*;q=0.8"}
JSON = {"Content-Type": "application/json"}
DAY = 86_400


@dataclass
class Stage:
    """A real service over a real upstream; every request comes from an address of its own."""

    service: Service
    upstream: Upstream
    cache: Path
    addresses: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def ask(
        self,
        path: str,
        headers: dict[str, str] | None = None,
        *,
        method: str = "GET",
        body: object = None,
        address: str | None = None,
    ) -> Exchange:
        caller = address or str(ip_address("198.18.0.0") + next(self.addresses))
        given = {"User-Agent": "judge", "X-Forwarded-For": caller, **(headers or {"Accept": "*/*"})}
        content = json.dumps(body).encode() if body is not None else b""
        return ask(self.service.url + path, method, given | (JSON if content else {}), content)

    def thumb(self, page: str = "", headers: dict[str, str] | None = None, **options: str) -> Exchange:
        return self.ask(_thumb(page, **options), headers)


def _thumb(page: str = "", **options: str) -> str:
    return "/thumb?" + urlencode({"url": TARGET + page, **options})


def _stream(page: str) -> str:
    return "/screenshot/stream?" + urlencode({"url": TARGET + page})


def _tag(stage: Stage) -> str:
    return stage.thumb().field("ETag")


def _media(stage: Stage) -> str:
    return "/media/" + str(json.loads(stage.ask("/persist", method="POST", body={"url": TARGET}).body)["key"])


def _chunked(stage: Stage) -> Exchange:
    stage.upstream.behave(image(framing="chunked"))
    return stage.ask(_stream("?chunked"))


def _stale(stage: Stage) -> Exchange:
    stage.thumb("?stale")
    assert age_pictures(stage.cache, 2 * DAY)
    return stage.thumb("?stale")


def _dead(stage: Stage) -> Exchange:
    stage.thumb("?dead")
    age_pictures(stage.cache, 9 * DAY)
    stage.upstream.behave(json_error(404, {"error": "gone"}))
    return stage.thumb("?dead")


def _dying(stage: Stage) -> Exchange:
    """The picture is a little too old, and the page has just proved to be dead."""
    stage.thumb("?dying")
    age_pictures(stage.cache, 2 * DAY)
    stage.upstream.behave(json_error(404, {"error": "gone"}))
    wait_until(lambda: bool(stage.thumb("?dying").values("X-Problem")))
    return stage.thumb("?dying")


def _failed(stage: Stage, headers: dict[str, str] | None) -> Exchange:
    stage.upstream.behave(json_error(404, {"error": "gone"}))
    return stage.thumb("?failed", headers)


def _limited(stage: Stage, headers: dict[str, str] | None) -> Exchange:
    for number in range(3):
        answer = stage.ask(_thumb(f"?limited{number}"), headers, address="203.0.113.1")
    return answer


def _pending(stage: Stage, headers: dict[str, str] | None, method: str = "GET") -> Exchange:
    go_on = threading.Event()

    def hold(received: Received) -> Answer:
        assert go_on.wait(20)
        return image()

    stage.upstream.behave(hold)
    path = _thumb(f"?pending{next(stage.addresses)}", wait="0")
    try:
        return stage.ask(path, headers, method=method)
    finally:
        go_on.set()


#: What is asked, and the status of the answer.
CASES: dict[str, tuple[int, Callable[[Stage], Exchange]]] = {
    "miss": (200, lambda stage: stage.thumb("?new")),
    "hit": (200, lambda stage: [stage.thumb(), stage.thumb()][1]),
    "rendition": (200, lambda stage: stage.thumb(thumb_width="100", format="webp")),
    "negotiated": (200, lambda stage: stage.thumb("", IMG, thumb_width="100", format="auto")),
    "stale": (200, _stale),
    "dead page, far too old": (200, _dead),
    "dead page, a little too old": (200, _dying),
    "head": (200, lambda stage: stage.ask(_thumb(), method="HEAD")),
    "not modified": (304, lambda stage: stage.thumb("", {"If-None-Match": _tag(stage)})),
    "head, not modified": (
        304,
        lambda stage: stage.ask(_thumb(), {"If-None-Match": _tag(stage)}, method="HEAD"),
    ),
    "part": (206, lambda stage: stage.thumb("", {"Range": "bytes=0-9"})),
    "end": (206, lambda stage: stage.thumb("", {"Range": "bytes=-9", "If-Range": _tag(stage)})),
    "no such part": (416, lambda stage: stage.thumb("", {"Range": "bytes=9999999-"})),
    "another version": (412, lambda stage: stage.thumb("", {"If-Match": '"other"'})),
    "saved": (200, lambda stage: stage.thumb(download="Übersicht „neu“.png")),
    "pdf": (200, lambda stage: stage.ask("/screenshot?" + urlencode({"url": TARGET, "format": "pdf"}))),
    "posted": (200, lambda stage: stage.ask("/screenshot", method="POST", body={"url": TARGET})),
    "stream": (200, lambda stage: stage.ask(_stream("?stream"))),
    "stream, chunked": (200, _chunked),
    "stream, cached": (200, lambda stage: [stage.ask(_stream("?s")), stage.ask(_stream("?s"))][1]),
    "dialect": (200, lambda stage: stage.ask("/api/screenshot?" + urlencode({"url": TARGET}))),
    "another dialect": (200, lambda stage: stage.ask("/v1/screenshot?" + urlencode({"url": TARGET}))),
    "another dialect, posted": (
        200,
        lambda stage: stage.ask("/v1/screenshot", method="POST", body={"url": TARGET}),
    ),
    "another dialect, refused": (400, lambda stage: stage.ask("/v1/screenshot?url=x")),
    "being made, img": (202, lambda stage: _pending(stage, IMG)),
    "being made, program": (202, lambda stage: _pending(stage, None)),
    "being made, head": (202, lambda stage: _pending(stage, IMG, "HEAD")),
    "stored": (201, lambda stage: stage.ask("/persist", method="POST", body={"url": TARGET + "?1"})),
    "media": (200, lambda stage: stage.ask(_media(stage))),
    "media, head": (200, lambda stage: stage.ask(_media(stage), method="HEAD")),
    "media, part": (206, lambda stage: stage.ask(_media(stage), {"Range": "bytes=-5"})),
    "media, no such part": (416, lambda stage: stage.ask(_media(stage), {"Range": "bytes=9999999-"})),
    "media, not modified": (304, lambda stage: stage.ask(_media(stage), {"If-None-Match": "*"})),
    "placeholder": (422, lambda stage: _failed(stage, IMG)),
    "problem": (422, lambda stage: _failed(stage, None)),
    "limited": (429, lambda stage: _limited(stage, None)),
    "limited, img": (429, lambda stage: _limited(stage, IMG)),
    "wrong parameter": (400, lambda stage: stage.thumb(width="1")),
    "wrong parameter, img": (400, lambda stage: stage.thumb("", IMG, width="1")),
    "forbidden": (403, lambda stage: stage.ask("/thumb?url=http%3A%2F%2F10.0.0.1%2F")),
    "nothing here": (404, lambda stage: stage.ask("/nowhere")),
    "no such method": (405, lambda stage: stage.ask("/thumb", method="DELETE")),
    "health": (200, lambda stage: stage.ask("/health")),
    "ready": (200, lambda stage: stage.ask("/ready")),
    "openapi": (200, lambda stage: stage.ask("/openapi.json")),
    "docs": (200, lambda stage: stage.ask("/docs")),
    "playground": (200, lambda stage: stage.ask("/")),
    "playground, head": (200, lambda stage: stage.ask("/", method="HEAD")),
    "playground, not modified": (304, lambda stage: stage.ask("/", {"If-None-Match": "*"})),
    "problem page": (200, lambda stage: stage.ask("/problems/internal")),
    "style": (200, lambda stage: stage.ask("/static/page.css")),
}


def _is_avif(found: Exchange) -> bool:
    return found.field("Content-Type") == "image/avif"


#: What the judge says without being right here, when that is so, and why.
ALLOWED: dict[str, tuple[Callable[[Exchange], bool], str]] = {
    "STORE_PUBLIC_UNNECESSARY: field-cache-control": (
        lambda found: found.status in (200, 206, 304),
        "public is needed where a proxy in front adds credentials to the requests: RFC 9111, section 3.5",
    ),
    "CONTENT_TYPE_MISMATCH: content-type": (_is_avif, "the judge looks for magic numbers, and knows no AVIF"),
    "STATUS_BAD_REQUEST: ": (lambda found: found.status == 400, "that is the answer to a bad request"),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("http")
    with Upstream() as upstream:
        settings = snapapi_environment(
            upstream.url,
            TRUSTED_PROXIES="127.0.0.1",
            LIMIT_THUMB="2 per hour",
            WEB_CONCURRENCY="1",
        )
        with running_service(folder, settings) as service:
            yield Stage(service, upstream, folder / "cache")


@pytest.fixture(scope="module", params=CASES)
def found(request: pytest.FixtureRequest, stage: Stage) -> Exchange:
    """One answer of each kind."""
    stage.upstream.behave(lambda received: image(received.json.get("format", "png")))
    status, make = CASES[request.param]
    found = make(stage)
    assert found.status == status, found.body[:500]
    return found


def test_the_judge_finds_no_fault(found: Exchange) -> None:
    assert found.is_complete
    faults = {fault for fault in found.faults if not (fault in ALLOWED and ALLOWED[fault][0](found))}
    assert not faults, found.fields


def test_no_field_comes_twice(found: Exchange) -> None:
    names = [name.decode().lower() for name, _ in found.fields]
    assert sorted(names) == sorted(set(names))


def test_who_may_keep_it_is_said_in_so_many_words(found: Exchange) -> None:
    directives = found.field("Cache-Control")
    is_final = found.status in (200, 206, 304)
    if not is_final:
        assert directives == "no-store"
        assert not found.values("ETag")
        assert not found.values("Last-Modified")
    elif found.values("X-Cache"):
        is_for_nobody = found.method == "POST" and directives == "no-store"
        assert is_for_nobody or directives.startswith("public, max-age=")


def test_a_cache_status_is_one_by_rfc_9211(found: Exchange) -> None:
    for value in found.values("Cache-Status"):
        caches = members(value)
        ((name, parameters),) = caches
        assert str(name) == "thumbnailer"
        assert ("hit" in parameters) != ("fwd" in parameters), "either, and never both"
        if "fwd" in parameters:
            assert str(parameters["fwd"]) == "miss"
        assert parameters.keys() <= {"hit", "fwd", "stored", "collapsed", "ttl", "detail"}
        assert {type(parameters[flag]) for flag in ("hit", "stored", "collapsed") if flag in parameters} <= {
            bool
        }
        assert isinstance(parameters.get("ttl", 0), int)
        assert ("ttl" in parameters) == ("hit" in parameters)


def test_limits_are_structured_fields(found: Exchange) -> None:
    policies = found.values("RateLimit-Policy")
    assert bool(policies) == bool(found.values("RateLimit"))
    assert policies or found.status != 429
    for value, keys in [(one, {"q", "w"}) for one in policies] + [
        (one, {"r", "t"}) for one in found.values("RateLimit")
    ]:
        for name, parameters in members(value):
            assert isinstance(name, str)
            assert parameters.keys() == keys
            assert all(isinstance(number, int) and number >= 0 for number in parameters.values())


def test_durations_and_pauses_are_numbers(found: Exchange) -> None:
    for value in found.values("Server-Timing"):
        steps = members(value)
        assert all(parameters["dur"] >= 0 for _, parameters in steps)
    assert all(int(value) > 0 for value in found.values("Retry-After"))
    assert all(int(value) >= 0 for value in found.values("Age"))
    if found.status in (202, 429, 503):
        assert found.values("Retry-After")


def test_every_fault_that_is_allowed_is_found_somewhere(stage: Stage) -> None:
    found = {fault for name in ("hit", "negotiated", "wrong parameter") for fault in _faults(stage, name)}
    assert found == set(ALLOWED)


def _faults(stage: Stage, name: str) -> frozenset[str]:
    return CASES[name][1](stage).faults


VARYING = {b"date", b"x-request-id", b"server-timing", b"age"}


def _told(found: Exchange) -> dict[bytes, bytes]:
    return {name.lower(): value for name, value in found.fields if name.lower() not in VARYING}


@pytest.mark.parametrize("path", [_thumb("?head"), "/media", "/nowhere", _thumb("?head", width="1")])
def test_head_says_what_get_would_say(stage: Stage, path: str) -> None:
    path = _media(stage) if path == "/media" else path
    stage.ask(path)
    got, head = stage.ask(path), stage.ask(path, method="HEAD")
    told, told_by_head = _told(got), _told(head)
    for each in (told, told_by_head):
        status = each.pop(b"cache-status", b"")
        assert b"hit" in status or not status  # its ttl is counted down
    assert told == told_by_head
    assert not head.body


def test_not_modified_says_what_a_whole_answer_would_say_to_caches(stage: Stage) -> None:
    whole = stage.thumb()
    same = stage.thumb("", {"If-None-Match": whole.field("ETag")})
    for name in ("Cache-Control", "ETag", "X-Cache"):
        assert same.field(name) == whole.field(name)
    assert not same.values("Content-Length")


def test_the_parts_of_a_picture_make_the_whole(stage: Stage) -> None:
    body, step = picture(), 5000
    parts = [
        stage.thumb("", {"Range": f"bytes={start}-{start + step - 1}"}).body
        for start in range(0, len(body), step)
    ]
    assert b"".join(parts) == body
