"""Conditional and partial answers of every picture route, by RFC 9110, sections 13 and 14."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Response
from flask.testing import FlaskClient
from werkzeug.http import http_date
from werkzeug.test import TestResponse

from blueprints.conditions import answer_conditionally
from tests.support.answers import image, streamed
from tests.support.pictures import picture
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream

BODY = picture()
SIZE = len(BODY)
RANGE = "bytes=0-9"
LARGE_BYTES = 700_000


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def client(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    media = str(tmp_path_factory.mktemp("media"))
    settings = snapapi_environment(upstream.url, RATELIMIT_ENABLED="false", MEDIA_DIR=media)
    with client_of(settings) as client:
        yield client


def _media_path(client: FlaskClient) -> str:
    return f"/media/{client.post('/persist', json={'url': TARGET}).get_json()['key']}"


ROUTES = ["thumb", "screenshot", "cached stream", "dialect", "another dialect", "stored image"]


@pytest.fixture(scope="module", params=ROUTES)
def path(request: pytest.FixtureRequest, client: FlaskClient) -> str:
    """A picture that is at hand, by each route."""
    if request.param == "stored image":
        return _media_path(client)
    paths = {"thumb": "/thumb", "screenshot": "/screenshot", "cached stream": "/screenshot/stream"}
    paths["another dialect"] = "/v1/screenshot"
    path = f"{paths.get(request.param, '/api/screenshot')}?url={TARGET}&format=png"
    client.get(path, buffered=True)
    return path


def _fetch(client: FlaskClient, path: str, method: str = "GET", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open(path, method=method, headers=named, buffered=True)


def _an_hour(client: FlaskClient, path: str, hours: int) -> str:
    modified = _fetch(client, path).last_modified
    assert modified is not None
    return http_date(modified + timedelta(hours=hours))


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        pytest.param("bytes=0-99", 0, 99, id="the beginning"),
        pytest.param("bytes=100-199", 100, 199, id="the middle"),
        pytest.param(f"bytes={SIZE - 10}-", SIZE - 10, SIZE - 1, id="from somewhere on"),
        pytest.param("bytes=-10", SIZE - 10, SIZE - 1, id="the end"),
        pytest.param(f"bytes=0-{SIZE * 2}", 0, SIZE - 1, id="more than there is"),
        pytest.param(f"bytes=-{SIZE * 2}", 0, SIZE - 1, id="more of the end than there is"),
        pytest.param("bytes=0-0", 0, 0, id="one byte"),
        pytest.param("Bytes=0-0", 0, 0, id="a unit in capitals"),
    ],
)
def test_a_part_is_sent_where_one_is_asked_for(
    client: FlaskClient, path: str, asked: str, first: int, last: int
) -> None:
    response, whole = _fetch(client, path, Range=asked), _fetch(client, path)
    assert (response.status_code, response.data) == (206, BODY[first : last + 1])
    assert response.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"
    assert response.headers["Content-Length"] == str(last - first + 1)
    for name in ("Content-Type", "ETag", "Last-Modified", "Cache-Control", "Content-Disposition"):
        assert response.headers[name] == whole.headers[name]


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 9}", "bytes=-0"])
def test_a_part_that_does_not_exist_is_refused(client: FlaskClient, path: str, asked: str) -> None:
    response = _fetch(client, path, Range=asked)
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{SIZE}"
    assert response.headers["Cache-Control"] == "no-store"
    assert "ETag" not in response.headers


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param("items=0-5", id="another unit"),
        pytest.param("bytes=9-5", id="backwards"),
        pytest.param("bytes=a-b", id="no numbers"),
        pytest.param("bytes=-", id="no number"),
        pytest.param("bytes=0-1,5-6", id="several"),
        pytest.param("bytes=" + ",".join(["0-"] * 500), id="very many"),
        pytest.param(f"bytes={'9' * 5000}-", id="a number beyond all bounds"),
        pytest.param("rubbish", id="rubbish"),
    ],
)
def test_what_is_no_single_range_is_overlooked(client: FlaskClient, path: str, asked: str) -> None:
    response = _fetch(client, path, Range=asked)
    assert (response.status_code, response.data) == (200, BODY)
    assert response.headers["Accept-Ranges"] == "bytes"


def test_head_sends_no_part(client: FlaskClient, path: str) -> None:
    response = _fetch(client, path, "HEAD", Range=RANGE)
    assert (response.status_code, response.headers["Content-Length"]) == (200, str(SIZE))
    assert "Content-Range" not in response.headers
    assert _fetch(client, path, "HEAD", Range=f"bytes={SIZE}-").status_code == 200


def test_who_has_the_whole_needs_no_part(client: FlaskClient, path: str) -> None:
    whole = _fetch(client, path)
    for held in (
        {"If_None_Match": whole.headers["ETag"]},
        {"If_None_Match": f'W/{whole.headers["ETag"]}, "other"'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": whole.headers["Last-Modified"]},
        {"If_Modified_Since": _an_hour(client, path, 1)},
    ):
        for method in ("GET", "HEAD"):
            for asked in (RANGE, f"bytes={SIZE}-"):
                response = _fetch(client, path, method, Range=asked, **held)
                assert (response.status_code, response.data) == (304, b""), held
                assert response.headers["ETag"] == whole.headers["ETag"]
                assert response.headers["Cache-Control"] == whole.headers["Cache-Control"]
                assert "Content-Range" not in response.headers
                assert "Content-Length" not in response.headers


def test_another_version_is_sent_whole(client: FlaskClient, path: str) -> None:
    for held in ({"If_None_Match": '"other"'}, {"If_Modified_Since": _an_hour(client, path, -1)}):
        assert _fetch(client, path, **held).data == BODY
        assert _fetch(client, path, Range=RANGE, **held).status_code == 206


def test_a_tag_goes_before_a_date(client: FlaskClient, path: str) -> None:
    later = _an_hour(client, path, 1)
    assert _fetch(client, path, If_None_Match='"other"', If_Modified_Since=later).status_code == 200


def test_a_part_of_another_version_is_not_mixed_in(client: FlaskClient, path: str) -> None:
    whole = _fetch(client, path)
    same = (whole.headers["ETag"], whole.headers["Last-Modified"])
    others = (
        '"other"',
        f"W/{whole.headers['ETag']}",
        _an_hour(client, path, 1),
        _an_hour(client, path, -1),
        "rubbish",
    )
    for condition in same:
        assert _fetch(client, path, Range=RANGE, If_Range=condition).status_code == 206, condition
    for condition in others:
        response = _fetch(client, path, Range=RANGE, If_Range=condition)
        assert (response.status_code, response.data) == (200, BODY), condition
    assert _fetch(client, path, If_Range='"other"').status_code == 200


@pytest.mark.parametrize("condition", ["rubbish", "Thu, 32 Jan 1970 00:00:00 GMT", '"other"', 'W/"this"'])
def test_a_picture_of_no_known_age_is_no_older_than_rubbish(client: FlaskClient, condition: str) -> None:
    asked = {"Range": RANGE, "If-Range": condition}
    with client.application.test_request_context(headers=asked):
        answer = Response(BODY, headers={"ETag": '"this"'})
        assert answer_conditionally(answer, SIZE).status_code == 200
    with client.application.test_request_context(headers=asked | {"If-Range": '"this"'}):
        answer = Response(BODY, headers={"ETag": '"this"'})
        assert answer_conditionally(answer, SIZE).status_code == 206


def test_who_insists_on_a_version_gets_no_other(client: FlaskClient, path: str) -> None:
    whole = _fetch(client, path)
    for wanted in (whole.headers["ETag"], f'"other", {whole.headers["ETag"]}', "*"):
        assert _fetch(client, path, If_Match=wanted).data == BODY
    for unwanted in ({"If_Match": '"other"'}, {"If_Match": f"W/{whole.headers['ETag']}"}):
        response = _fetch(client, path, Range=RANGE, **unwanted)
        assert response.status_code == 412
        assert response.headers["Cache-Control"] == "no-store"
        assert len(response.data) < 1000, "no picture"
    assert _fetch(client, path, If_Unmodified_Since=whole.headers["Last-Modified"]).status_code == 200
    assert _fetch(client, path, If_Unmodified_Since=_an_hour(client, path, -1)).status_code == 412
    both = {"If_Match": whole.headers["ETag"], "If_Unmodified_Since": _an_hour(client, path, -1)}
    assert _fetch(client, path, **both).status_code == 200


def test_a_part_of_a_large_picture_comes_from_all_its_pieces(client: FlaskClient, upstream: Upstream) -> None:
    path = f"/screenshot?url={TARGET}?large"
    upstream.behave(streamed(LARGE_BYTES))
    whole = client.get(path, buffered=True).data
    assert len(whole) == LARGE_BYTES
    for first, last in ((0, 9), (131_000, 132_000), (200_000, 600_000), (LARGE_BYTES - 5, LARGE_BYTES - 1)):
        response = _fetch(client, path, Range=f"bytes={first}-{last}")
        assert (response.status_code, response.data) == (206, whole[first : last + 1])


def test_a_picture_that_is_still_arriving_has_no_parts(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(streamed(LARGE_BYTES))
    response = _fetch(client, f"/screenshot/stream?url={TARGET}?arriving", Range=RANGE)
    assert (response.status_code, len(response.data)) == (200, LARGE_BYTES)
    assert response.headers["Accept-Ranges"] == "none"


def test_posted_requests_know_no_parts(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(image("png"))
    headers = {"Range": RANGE, "If-None-Match": "*"}
    response = client.post("/screenshot", json={"url": f"{TARGET}?posted"}, headers=headers)
    assert (response.status_code, response.data) == (200, BODY)


def test_a_refused_part_leaves_no_file_open(client: FlaskClient) -> None:
    path = _media_path(client)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        assert _fetch(client, path, Range=f"bytes={SIZE}-").status_code == 416
        assert _fetch(client, path, If_None_Match="*").status_code == 304
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 5
