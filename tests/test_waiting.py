"""``wait=N``: nobody has to wait longer for a picture, and it is made all the same."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
import requests
from flask.testing import FlaskClient
from PIL import Image

from blueprints.services import EXTENSION
from tests.support.answers import Answer, Received, image, json_error
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.screenshots import decoded, likeness
from tests.support.service import TARGET, client_of, running_service, snapapi_environment
from tests.support.upstream import Upstream

IMG = {"Sec-Fetch-Dest": "image", "Accept": "image/avif,image/webp,image/apng,image/*,*/*;q=0.8"}


class Held:
    """Holds the upstream's answers back until told otherwise."""

    def __init__(self, answer: Answer | None = None) -> None:
        self._answer = answer or image("png", 1280, 720)
        self.go_on = threading.Event()

    def __call__(self, received: Received) -> Answer:
        assert self.go_on.wait(30)
        return self._answer


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def held(upstream: Upstream) -> Iterator[Held]:
    held = Held()
    upstream.behave(held)
    yield held
    held.go_on.set()


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path) -> Iterator[FlaskClient]:
    settings = snapapi_environment(upstream.url, LIMIT_THUMB="3 per hour", MEDIA_DIR=str(tmp_path))
    with client_of(settings) as client:
        yield client


def _query(**options: str) -> dict[str, str]:
    return {"url": TARGET, "wait": "0", **options}


def _is_hit(client: FlaskClient, query: dict[str, str]) -> bool:
    return client.get("/thumb", query_string=query).headers["X-Cache"] == "HIT"


@pytest.mark.parametrize("options", [{}, {"thumb_width": "200"}], ids=["a capture", "a rendition"])
def test_a_picture_that_is_being_made_is_there_the_next_time(
    client: FlaskClient, upstream: Upstream, held: Held, options: dict[str, str]
) -> None:
    query = _query(**options)
    pending = client.get("/thumb", query_string=query)
    assert pending.status_code == 202
    assert int(pending.headers["Retry-After"]) > 0
    held.go_on.set()
    wait_until(lambda: client.get("/thumb", query_string=query).status_code == 200)
    ready = client.get("/thumb", query_string=query)
    assert (ready.headers["X-Cache"], len(upstream.requests)) == ("HIT", 1)
    assert _is_hit(client, {"url": TARGET, **options}), "it is the same picture without wait"


def test_a_program_is_told_in_json(client: FlaskClient, held: Held) -> None:
    pending = client.get("/thumb", query_string=_query())
    assert (pending.status_code, pending.content_type) == (202, "application/json")
    told = pending.get_json()
    assert told["status"] == "pending"
    assert str(told["retry_after_seconds"]) == pending.headers["Retry-After"]
    assert told["request_id"] == pending.headers["X-Request-ID"]


@pytest.mark.parametrize(
    ("headers", "options", "is_picture"),
    [
        pytest.param(IMG, {}, True, id="an img"),
        pytest.param({}, {"on_error": "placeholder"}, True, id="asked for"),
        pytest.param(IMG, {"on_error": "status"}, False, id="declined"),
        pytest.param({"Accept": "*/*"}, {}, False, id="a program"),
    ],
)
def test_who_can_only_show_a_picture_gets_one(
    client: FlaskClient, held: Held, headers: dict[str, str], options: dict[str, str], is_picture: bool
) -> None:
    pending = client.get("/thumb", query_string=_query(**options), headers=headers)
    assert pending.status_code == 202
    assert pending.content_type.startswith("image/") == is_picture


@pytest.mark.parametrize(
    ("options", "size"),
    [
        pytest.param({"thumb_width": "320", "thumb_height": "200"}, (320, 200), id="both sides"),
        pytest.param({"thumb_width": "160", "dpr": "2"}, (320, 180), id="twice as dense"),
        pytest.param({"thumb_width": "160", "width": "800", "height": "800"}, (160, 160), id="its viewport"),
        pytest.param({"preset": "card"}, (240, 135), id="of a preset"),
    ],
)
def test_the_stand_in_has_the_size_and_a_format_that_the_client_shows(
    upstream: Upstream, held: Held, options: dict[str, str], size: tuple[int, int]
) -> None:
    with client_of(snapapi_environment(upstream.url, PRESETS="card:thumb_width=240")) as client:
        shown = client.get("/thumb", query_string=_query(**options), headers=IMG)
        assert shown.content_type == "image/avif"
        old = IMG | {"Accept": "image/png,image/*;q=0.8"}
        shown = client.get("/thumb", query_string=_query(**options), headers=old)
        held.go_on.set()
    assert shown.content_type == "image/png"
    assert Image.open(io.BytesIO(shown.data)).size == size


def test_being_made_and_having_failed_look_different(client: FlaskClient, upstream: Upstream) -> None:
    held = Held(json_error(500, {"error": "broken"}))
    upstream.behave(held)
    options = {"thumb_width": "400", "format": "png", "on_error": "placeholder"}
    pending = client.get("/thumb", query_string=_query(**options))
    held.go_on.set()
    failed = client.get("/thumb", query_string=_query(**options) | {"wait": "30"})
    assert (pending.status_code, failed.status_code) == (202, 502)
    assert likeness(decoded(pending.data), decoded(failed.data)) < 40


def test_nobody_keeps_the_stand_in_and_nothing_vouches_for_it(client: FlaskClient, held: Held) -> None:
    for headers in (IMG, {}):
        pending = client.get("/thumb", query_string=_query(), headers=headers)
        assert pending.headers["Cache-Control"] == "no-store"
        assert not {"ETag", "Last-Modified", "Age", "Accept-Ranges"} & {name for name, _ in pending.headers}
        assert {"accept", "sec-fetch-dest"} <= {one.lower() for one in pending.vary}
        assert pending.headers["X-Cache"] == "MISS"
    held.go_on.set()
    stored = client.post("/persist", json={"url": TARGET})
    assert (stored.status_code, stored.get_json()["width"]) == (201, 1280), "the true picture"


def test_head_answers_as_get_without_a_body(client: FlaskClient, held: Held) -> None:
    for headers in (IMG, {}):
        head = client.head("/thumb", query_string=_query(), headers=headers)
        assert (head.status_code, head.data) == (202, b"")
        assert int(head.headers["Content-Length"]) > 0


def test_who_waits_long_enough_gets_the_picture(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(image("png", 1280, 720))
    answer = client.get("/thumb", query_string=_query(wait="30"))
    assert (answer.status_code, answer.headers["X-Cache"]) == (200, "MISS")
    assert answer.headers["Cache-Status"] == "thumbnailer; fwd=miss; stored"
    assert answer.headers["ETag"]


def test_a_failure_in_time_is_the_usual_one(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(json_error(404, {"error": "gone"}))
    answer = client.get("/thumb", query_string=_query(wait="30"))
    assert (answer.status_code, answer.get_json()["type"]) == (422, "/problems/target-unreachable")


def test_a_failure_behind_is_told_the_next_time(client: FlaskClient, upstream: Upstream) -> None:
    held = Held(json_error(404, {"error": "gone"}))
    upstream.behave(held)
    assert client.get("/thumb", query_string=_query()).status_code == 202
    held.go_on.set()
    wait_until(lambda: client.get("/thumb", query_string=_query()).status_code == 422)
    assert len(upstream.requests) == 1


def test_a_forbidden_target_is_not_being_made(client: FlaskClient) -> None:
    assert client.get("/thumb", query_string=_query(url="http://10.0.0.1/")).status_code == 403


def test_it_is_one_capture_and_paid_for_once_however_many_ask(
    client: FlaskClient, upstream: Upstream, held: Held
) -> None:
    def ask(number: int) -> int:
        own = client.application.test_client()
        address = {"REMOTE_ADDR": f"198.51.100.{number % 2}"}
        return own.get("/thumb", query_string=_query(), environ_base=address).status_code

    with ThreadPoolExecutor(12) as threads:
        assert set(threads.map(ask, range(24))) == {202}
    held.go_on.set()
    wait_until(lambda: ask(0) == 200)
    assert len(upstream.requests) == 1
    upstream.behave(image("png", 1280, 720))
    paid = 0
    for caller in ("198.51.100.0", "198.51.100.1"):
        for number in range(3):
            query = _query(url=f"{TARGET}?{caller}-{number}", wait="30")
            answer = client.get("/thumb", query_string=query, environ_base={"REMOTE_ADDR": caller})
            paid += answer.status_code == 429
    assert paid == 1, "one of the two had two captures left of three, the other all three"


def test_who_may_have_no_more_captures_is_told_so_and_not_to_wait(
    client: FlaskClient, upstream: Upstream
) -> None:
    upstream.behave(image("png", 1280, 720))
    for number in range(3):
        query = _query(url=f"{TARGET}?{number}", wait="30")
        assert client.get("/thumb", query_string=query).status_code == 200
    refused = client.get("/thumb", query_string=_query(url=f"{TARGET}?more"))
    assert (refused.status_code, refused.get_json()["type"]) == (429, "/problems/rate-limited")
    assert len(upstream.requests) == 3


def test_an_old_picture_is_better_than_a_stand_in(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(image("png", 1280, 720))
    query = _query(thumb_width="100", fresh="true")
    old = client.get("/thumb", query_string=query | {"wait": "30"})
    thumbnails = client.application.extensions[EXTENSION].thumbnails
    thumbnails._clock = thumbnails.pipeline._clock = lambda: time.time() + 3600
    held = Held(image("png", 1280, 700))
    upstream.behave(held)
    answer = client.get("/thumb", query_string=query)
    assert (answer.status_code, answer.headers["X-Cache"], answer.data) == (200, "STALE", old.data)
    held.go_on.set()
    wait_until(lambda: client.get("/thumb", query_string=query).data != old.data)
    assert len(upstream.requests) == 1


def test_too_many_at_once_are_refused(upstream: Upstream, held: Held) -> None:
    settings = snapapi_environment(
        upstream.url, UPSTREAM_CONCURRENCY="2", CAPTURE_QUEUE="1", RATELIMIT_ENABLED="false"
    )
    with client_of(settings) as client:
        statuses = [
            client.get("/thumb", query_string=_query(url=f"{TARGET}?{number}")).status_code
            for number in range(5)
        ]
        assert statuses == [202, 202, 202, 503, 503]
        held.go_on.set()
        for number in range(3):
            query = _query(url=f"{TARGET}?{number}")
            wait_until(lambda query=query: _is_hit(client, query))  # type: ignore[misc]  # bound now
    assert len(upstream.requests) == 3


def test_who_waits_takes_a_place_in_the_line_and_who_does_not_takes_none(
    upstream: Upstream, held: Held
) -> None:
    settings = snapapi_environment(
        upstream.url, WEB_THREADS="4", CAPTURE_QUEUE="1", UPSTREAM_CONCURRENCY="9", RATELIMIT_ENABLED="false"
    )
    with client_of(settings) as client:
        line = client.application.extensions[EXTENSION].line
        for number in range(5):
            query = _query(url=f"{TARGET}?{number}")
            assert client.get("/thumb", query_string=query).status_code == 202
        assert line.length == 0, "nobody waits"
        waiting = client.get("/thumb", query_string=_query(url=f"{TARGET}?w", wait="1"))
        assert (waiting.status_code, line.length) == (202, 1)
        waiting.close()
        assert line.length == 0
        places = [line.take_place() for _ in range(line._places)]
        assert client.get("/thumb", query_string=_query(wait="1")).status_code == 503
        assert client.get("/thumb", query_string=_query()).status_code == 202
        held.go_on.set()
    assert places


def test_the_operator_can_make_nobody_wait(upstream: Upstream, held: Held) -> None:
    with client_of(snapapi_environment(upstream.url, THUMB_DEFAULTS="wait=0")) as client:
        assert client.get("/thumb", query_string={"url": TARGET}).status_code == 202
        held.go_on.set()
        assert client.get("/thumb", query_string={"url": TARGET, "wait": "30"}).status_code == 200


@pytest.mark.parametrize("wait", ["-1", "61", "1.5", "soon", ""])
def test_other_times_are_refused(client: FlaskClient, wait: str) -> None:
    response = client.get("/thumb", query_string=_query(wait=wait))
    assert (response.status_code, list(response.get_json()["errors"])) == (400, ["wait"])


def test_the_picture_is_made_although_the_caller_has_gone(
    tmp_path: Path, upstream: Upstream, held: Held
) -> None:
    """Over two worker processes: whichever is asked next has it too."""
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="2", RATELIMIT_ENABLED="false")
    with running_service(tmp_path, settings) as service:
        leaver = HTTPConnection(urlsplit(service.url).netloc)
        leaver.request("GET", "/thumb?" + urlencode(_query(wait="60")))
        wait_until(lambda: len(upstream.requests) == 1)
        leaver.close()
        assert requests.get(f"{service.url}/thumb", _query(), timeout=30).status_code == 202
        held.go_on.set()
        wait_until(
            lambda: requests.get(f"{service.url}/thumb", _query(), timeout=30).headers["X-Cache"] == "HIT"
        )
        found = requests.get(f"{service.url}/thumb", _query(), timeout=30)
    assert found.content == picture("png", 1280, 720)
    assert len(upstream.requests) == 1


def test_waiting_has_an_end(client: FlaskClient, upstream: Upstream, held: Held) -> None:
    assert client.get("/thumb", query_string=_query(wait="1")).status_code == 202
