"""The SnapSharp dialect: programs written for that API find here what they expect, errors included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from blueprints.services import EXTENSION
from tests.support import answers
from tests.support.answers import Answer
from tests.support.pictures import picture
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream

PATH = "/v1/screenshot"
BEARER = {"Authorization": "Bearer sk_live_whatever"}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    settings = snapapi_environment(upstream.url, UPSTREAM_TIMEOUT="2", RATELIMIT_ENABLED="false")
    with client_of(settings) as client:
        yield client


def get(client: FlaskClient, **query: str | list[str]) -> Any:
    return client.get(PATH, query_string={"url": TARGET} | query, headers=BEARER, buffered=True)


def post(client: FlaskClient, **body: Any) -> Any:
    return client.post(PATH, json={"url": TARGET} | body, headers=BEARER, buffered=True)


def assert_error(response: Any, status: int, code: str, *, said: str = "") -> None:
    """The vendor's shape: JSON with ``error`` and ``message``."""
    assert response.status_code == status, response.data
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    document = response.get_json()
    assert set(document) == {"error", "message", "request_id"}
    assert document["error"] == code
    assert document["message"]
    assert said in document["message"]
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert "127.0.0.1" not in response.text
    assert "sk-test-secret" not in response.text


@pytest.mark.parametrize("ask", [get, post], ids=["GET", "POST"])
def test_the_defaults_are_the_vendors(client: FlaskClient, upstream: Upstream, ask: Any) -> None:
    response = ask(client)
    assert (response.status_code, response.content_type) == (200, "image/png")
    assert response.data == picture("png")
    assert upstream.requests[0].json == {
        "url": TARGET,
        "width": 1280,
        "height": 720,
        "format": "png",
        "failOnHttpError": True,
    }


def test_a_get_may_be_kept_and_a_post_may_not(client: FlaskClient, upstream: Upstream) -> None:
    first, second = get(client), get(client)
    assert first.headers["Cache-Control"].startswith("public, max-age=3600,")
    assert [each.headers["X-Cache"] for each in (first, second)] == ["MISS", "HIT"]
    has_it = client.get(PATH, query_string={"url": TARGET}, headers={"If-None-Match": first.headers["ETag"]})
    assert has_it.status_code == 304
    head = client.head(PATH, query_string={"url": TARGET})
    assert (head.status_code, head.headers["Content-Length"]) == (200, str(len(first.data)))
    body = post(client)
    assert (body.headers["Cache-Control"], body.headers["X-Cache"]) == ("no-store", "HIT")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("query", "wire"),
    [
        pytest.param({"width": "1000", "height": "500"}, {"width": 1000, "height": 500}, id="size"),
        pytest.param({"format": "webp"}, {"format": "webp", "quality": 80}, id="format"),
        pytest.param({"format": "jpeg", "quality": "7"}, {"format": "jpeg", "quality": 7}, id="quality"),
        pytest.param({"quality": "7"}, {"format": "png", "quality": None}, id="quality of no jpeg"),
        pytest.param({"format": "pdf", "quality": "7"}, {"format": "pdf", "quality": None}, id="pdf"),
        pytest.param({"full_page": "true"}, {"fullPage": True}, id="full_page"),
        pytest.param({"retina": "true"}, {"deviceScaleFactor": 2}, id="retina"),
        pytest.param({"delay": "250"}, {"delay": 250}, id="delay"),
        pytest.param({"wait_until": "networkidle"}, {"waitUntil": "networkidle"}, id="wait_until"),
        pytest.param({"wait_for": "#a"}, {"waitForSelector": "#a"}, id="wait_for"),
        pytest.param({"hide_selectors": ".a,.b"}, {"hideSelectors": [".a,.b"]}, id="hide_selectors"),
        pytest.param({"hide_selectors": [".a", ".b"]}, {"hideSelectors": [".a", ".b"]}, id="one by one"),
        pytest.param(
            {"hide_selectors": "", "wait_for": "", "proxy": ""},
            dict.fromkeys(("hideSelectors", "waitForSelector")),
            id="empty",
        ),
        pytest.param({"dark_mode": "true"}, {"darkMode": True}, id="dark_mode"),
        pytest.param({"block_ads": "true"}, {"blockAds": True}, id="block_ads"),
        pytest.param({"device": "iPhone 14"}, {"device": "iPhone 14"}, id="device"),
        pytest.param({"user_agent": "Bot"}, {"userAgent": "Bot"}, id="user_agent"),
        pytest.param({"clip": "1,2,30,40"}, {"clipX": 1, "clipY": 2, "clipWidth": 30}, id="clip"),
        pytest.param({"css": "a {}"}, {"css": "a {}"}, id="css"),
        pytest.param({"js": "1"}, {"javascript": "1"}, id="js"),
    ],
)
def test_parameters_of_a_query_reach_the_provider(
    client: FlaskClient, upstream: Upstream, query: dict[str, str | list[str]], wire: dict[str, Any]
) -> None:
    response = get(client, **query)
    assert response.status_code == 200, response.text
    sent = upstream.requests[0].json
    assert {name: sent.get(name) for name in wire} == wire


@pytest.mark.parametrize(
    ("body", "wire"),
    [
        pytest.param({"full_page": True, "delay": 5.0}, {"fullPage": True, "delay": 5}, id="scalars"),
        pytest.param(
            {"clip": {"x": 1, "y": 2, "width": 30, "height": 40}},
            {"clipX": 1, "clipY": 2, "clipWidth": 30, "clipHeight": 40},
            id="clip",
        ),
        pytest.param({"hide_selectors": [".a", ".b"]}, {"hideSelectors": [".a", ".b"]}, id="an array"),
        pytest.param({"headers": {"X-A": "b"}}, {"extraHeaders": {"x-a": "b"}}, id="headers"),
        pytest.param(
            {"cookies": [{"name": "a", "value": "b"}, {"name": "c", "value": "d", "path": "/"}]},
            {
                "cookies": [
                    {"name": "a", "value": "b", "domain": "93.184.216.34", "path": "/"},
                    {"name": "c", "value": "d", "domain": "93.184.216.34", "path": "/"},
                ]
            },
            id="cookies",
        ),
        pytest.param(
            {"css": "a {\n}", "js": "1;\n2"}, {"css": "a {\n}", "javascript": "1;\n2"}, id="programs"
        ),
        pytest.param({"wait_for": None, "retina": None, "clip": None}, {"waitForSelector": None}, id="null"),
    ],
)
def test_parameters_of_a_body_reach_the_provider(
    client: FlaskClient, upstream: Upstream, body: dict[str, Any], wire: dict[str, Any]
) -> None:
    response = post(client, **body)
    assert response.status_code == 200, response.text
    sent = upstream.requests[0].json
    assert {name: sent.get(name) for name in wire} == wire


def test_the_cache_is_used_as_the_caller_wants(client: FlaskClient) -> None:
    assert get(client, cache="true").headers["X-Cache"] == "MISS"
    assert get(client, cache_ttl="7200").headers["X-Cache"] == "HIT"
    assert get(client, cache_ttl="7200").headers["Cache-Control"].startswith("public, max-age=7200,")
    afresh = get(client, cache="false")  # which there is one of this minute for
    assert "stale-while-revalidate" not in afresh.headers["Cache-Control"]
    assert afresh.headers["Cache-Control"].startswith("public, max-age=60,")


UNAVAILABLE = ("click", "stealth", "proxy", "country", "bypass_csp")


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_what_this_service_cannot_do_is_named_unless_it_is_not_wanted(
    client: FlaskClient, upstream: Upstream, name: str
) -> None:
    said = f"{name}: This service cannot do that."
    assert_error(get(client, **{name: "true"}), 400, "validation_error", said=said)
    assert_error(post(client, **{name: "#menu"}, full_page=False), 400, "validation_error", said=said)
    assert upstream.requests == ()
    assert get(client, **{name: "false"}).status_code == 200
    for value in (False, None):
        assert post(client, **{name: value}, full_page=False).status_code == 200


@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param({"width": "1"}, "width: ", id="out of range"),
        pytest.param({"colour": "red"}, "colour: Unknown field.", id="unknown"),
        pytest.param({"fullPage": "true"}, "fullPage: Unknown field.", id="the other spelling"),
        pytest.param({"thumb_width": "100"}, "thumb_width: Unknown field.", id="an option of this service"),
        pytest.param({"ttl": "100"}, "ttl: Unknown field.", id="this service's word for cache_ttl"),
        pytest.param({"cache_ttl": "5"}, "cache_ttl: ", id="cache_ttl"),
        pytest.param({"headers": "a"}, "headers: Send it in a JSON body", id="headers in a query"),
        pytest.param({"url": "nonsense"}, "url: ", id="no target"),
        pytest.param({"url": "http://10.0.0.1/"}, "", id="a private target"),
        pytest.param({"full_page": "true", "clip": "0,0,9,9"}, "Cannot be combined", id="two areas"),
        pytest.param({"access_key": "tn_secret"}, "access_key: Unknown field.", id="a key"),
    ],
)
def test_a_wrong_parameter_is_told_the_vendors_way(
    client: FlaskClient, upstream: Upstream, query: dict[str, str], said: str
) -> None:
    response = get(client, **query)
    assert_error(response, 400, "validation_error", said=said)
    assert "tn_secret" not in response.text
    assert upstream.requests == ()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        pytest.param({"clip": "0,0,9,9"}, "clip: Must be an object", id="a clip of a query"),
        pytest.param({"clip": {"x": 0, "y": 0, "width": 9}}, "clip: Must be an object", id="half a clip"),
        pytest.param(
            {"clip": {"x": 0.5, "y": 0, "width": 9, "height": 9}}, "whole CSS pixels", id="half pixels"
        ),
        pytest.param({"clip": {"x": -1, "y": 0, "width": 9, "height": 9}}, "clip: Must lie", id="outside"),
        pytest.param(
            {"cookies": {"a": "b"}, "retina": False}, "cookies: Must be an array", id="cookies by name"
        ),
        pytest.param(
            {"cookies": [{"name": "a", "value": "b", "domain": "example.com"}], "retina": False},
            "cookies: Must have the target's host",
            id="another host's cookie",
        ),
        pytest.param(
            {"cookies": [{"name": "a", "value": "b", "path": "/x"}], "retina": False},
            "cookies: Must hold cookies for the path /",
            id="a cookie of a path",
        ),
        pytest.param(
            {"cookies": [{"name": "a", "value": "b", "secure": True}], "retina": False},
            "cookies: Must hold cookies of name, value, domain and path only.",
            id="more of a cookie",
        ),
        pytest.param(
            {"cookies": [{"name": "a", "value": "b"}] * 2, "retina": False},
            "cookies: Must not name a cookie twice.",
            id="a cookie twice",
        ),
        pytest.param({"headers": {"Host": "x"}}, "headers: ", id="a header of the browser's"),
        pytest.param({"url": None, "retina": True}, "url: Field may not be null.", id="null for a target"),
    ],
)
def test_a_wrong_body_is_told_the_vendors_way(
    client: FlaskClient, upstream: Upstream, body: dict[str, Any], said: str
) -> None:
    assert_error(post(client, **body), 400, "validation_error", said=said)
    assert upstream.requests == ()


def test_a_repeated_parameter_is_refused(client: FlaskClient) -> None:
    repeated = client.get(f"{PATH}?url={TARGET}&width=800&width=900")
    assert_error(repeated, 400, "validation_error", said="width: Must not be repeated.")


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        pytest.param(answers.snapapi_error(401, "INVALID_API_KEY", "x"), 502, "screenshot_failed", id="401"),
        pytest.param(answers.snapapi_error(402, "QUOTA_EXCEEDED", "x"), 503, "queue_unavailable", id="402"),
        pytest.param(answers.snapapi_error(404, "NOT_FOUND", "x"), 422, "target_unreachable", id="404"),
        pytest.param(answers.snapapi_error(422, "X", "no such element"), 422, "validation_error", id="422"),
        pytest.param(answers.snapapi_error(429, "RATE_LIMITED", "x"), 503, "queue_unavailable", id="429"),
        pytest.param(answers.snapapi_error(504, "TIMEOUT", "x"), 504, "timeout", id="504"),
        pytest.param(answers.html_as_png(), 502, "screenshot_failed", id="html"),
        pytest.param(answers.oversized(), 422, "screenshot_failed", id="too many pixels"),
        pytest.param(answers.silence(), 504, "timeout", id="silence"),
    ],
)
def test_an_upstreams_failure_is_told_the_vendors_way(
    client: FlaskClient, upstream: Upstream, behaviour: Answer, status: int, code: str
) -> None:
    upstream.behave(behaviour)
    response = get(client)
    assert_error(response, status, code)
    if status == 503:
        assert int(response.headers["Retry-After"]) >= 1


def test_a_bug_is_told_the_vendors_way_and_says_nothing_of_itself(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_arguments: object) -> None:
        raise RuntimeError("secret detail of the inside")

    client.application.extensions[EXTENSION].thumbnails.fetch = explode
    response = get(client)
    assert_error(response, 500, "internal_error")
    assert "secret detail" not in response.text
    assert "secret detail of the inside" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("DELETE", PATH, 405, "method_not_allowed", id="no such method"),
        pytest.param("POST", "/v1/usage", 405, "method_not_allowed", id="a POST of a GET"),
        pytest.param("GET", "/v1/jobs/4711", 404, "not_found", id="no such address"),
        pytest.param("POST", "/v1/batch", 404, "not_found", id="what is not spoken"),
    ],
)
def test_what_is_not_there_is_told_the_vendors_way(
    client: FlaskClient, method: str, path: str, status: int, code: str
) -> None:
    response = client.open(path, method=method, headers=BEARER)
    assert_error(response, status, code)
    assert ("Allow" in response.headers) == (status == 405)


def test_elsewhere_it_is_told_as_everywhere(client: FlaskClient) -> None:
    assert client.get("/v1nowhere").content_type == "application/problem+json"
    assert client.get("/api/nowhere").get_json()["success"] is False
