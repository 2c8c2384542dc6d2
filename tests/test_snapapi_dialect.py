"""The SnapAPI dialect: programs written for that API find here what they expect, errors included."""

from __future__ import annotations

import threading
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from blueprints.services import EXTENSION
from tests.support import answers
from tests.support.answers import Answer, Received, image
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream

PATH = "/v1/screenshot"
KEYS = {"X-Api-Key": "sk_live_whatever", "Authorization": "Bearer sk_live_whatever"}
HOST = "93.184.216.34"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    settings = snapapi_environment(
        upstream.url, UPSTREAM_TIMEOUT="2", RATELIMIT_ENABLED="false", TTL_MAX="86400"
    )
    with client_of(settings) as client:
        yield client


def post(client: FlaskClient, **body: Any) -> Any:
    return client.post(PATH, json={"url": TARGET} | body, headers=KEYS, buffered=True)


def assert_error(response: Any, status: int, code: str, *, said: str = "") -> dict[str, Any]:
    """The vendor's nested shape, with what some clients read of the flat one; answers the details."""
    assert response.status_code == status, response.data
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    document = response.get_json()
    assert set(document) == {"error", "statusCode", "message"}
    assert set(document["error"]) == {"code", "message", "details"}
    assert document["error"]["code"] == code
    assert said in document["error"]["message"]
    assert document["error"]["message"] == document["message"] != ""
    assert document["statusCode"] == status
    details: dict[str, Any] = document["error"]["details"]
    assert details["requestId"] == response.headers["X-Request-ID"]
    assert details.get("retryAfter") == response.headers.get("Retry-After", type=int)
    assert "127.0.0.1" not in response.text
    assert "sk-test-secret" not in response.text
    return details


def test_the_defaults_are_the_vendors(client: FlaskClient, upstream: Upstream) -> None:
    response = post(client)
    assert (response.status_code, response.content_type) == (200, "image/png")
    assert response.data == picture("png")
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Request-Id"]
    assert upstream.requests[0].json == {
        "url": TARGET,
        "width": 1280,
        "height": 800,
        "format": "png",
        "failOnHttpError": False,
    }
    assert post(client).headers["X-Cache"] == "HIT"


@pytest.mark.parametrize(
    ("body", "wire"),
    [
        pytest.param({"width": 1000, "height": 500}, {"width": 1000, "height": 500}, id="size"),
        pytest.param({"format": "jpeg", "quality": 7}, {"format": "jpeg", "quality": 7}, id="quality"),
        pytest.param({"quality": 80}, {"format": "png", "quality": None}, id="quality of a png"),
        pytest.param({"format": "avif"}, {"format": "png"}, id="avif, which is made of a png"),
        pytest.param({"format": "pdf"}, {"format": "pdf"}, id="pdf"),
        pytest.param({"deviceScaleFactor": 1.5}, {"deviceScaleFactor": 1.5}, id="deviceScaleFactor"),
        pytest.param({"fullPage": True}, {"fullPage": True}, id="fullPage"),
        pytest.param({"selector": "#a"}, {"selector": "#a"}, id="selector"),
        pytest.param(
            {"clipX": 1, "clipY": 2, "clipWidth": 30, "clipHeight": 40},
            {"clipX": 1, "clipY": 2, "clipWidth": 30, "clipHeight": 40},
            id="clip",
        ),
        pytest.param(
            {"clipWidth": 30, "clipHeight": 40},
            {"clipX": 0, "clipY": 0, "clipWidth": 30},
            id="clip at the corner",
        ),
        pytest.param({"delay": 250}, {"delay": 250}, id="delay"),
        pytest.param({"waitUntil": "networkidle"}, {"waitUntil": "networkidle"}, id="waitUntil"),
        pytest.param({"waitForSelector": "#a"}, {"waitForSelector": "#a"}, id="waitForSelector"),
        pytest.param({"darkMode": True}, {"darkMode": True}, id="darkMode"),
        pytest.param({"reducedMotion": True}, {"reducedMotion": True}, id="reducedMotion"),
        pytest.param({"css": "a {}"}, {"css": "a {}"}, id="css"),
        pytest.param({"javascript": "1"}, {"javascript": "1"}, id="javascript"),
        pytest.param({"hideSelectors": [".a", ".b"]}, {"hideSelectors": [".a", ".b"]}, id="hideSelectors"),
        pytest.param({"blockAds": True}, {"blockAds": True}, id="blockAds"),
        pytest.param({"blockTrackers": True}, {"blockAds": True}, id="blockTrackers"),
        pytest.param({"blockAds": True, "blockTrackers": True}, {"blockAds": True}, id="both"),
        pytest.param({"blockCookieBanners": True}, {"blockCookieBanners": True}, id="blockCookieBanners"),
        pytest.param({"userAgent": "Bot"}, {"userAgent": "Bot"}, id="userAgent"),
        pytest.param({"extraHeaders": {"X-A": "b"}}, {"extraHeaders": {"x-a": "b"}}, id="extraHeaders"),
        pytest.param(
            {"cookies": [{"name": "a", "value": "b", "domain": HOST, "path": "/"}]},
            {"cookies": [{"name": "a", "value": "b", "domain": HOST, "path": "/"}]},
            id="cookies",
        ),
        pytest.param(
            {"geolocation": {"latitude": 52.52, "longitude": -13}},
            {"geolocation": {"latitude": 52.52, "longitude": -13.0}},
            id="geolocation",
        ),
        pytest.param({"timezone": "Asia/Tokyo"}, {"timezone": "Asia/Tokyo"}, id="timezone"),
        pytest.param({"locale": "de-AT"}, {"locale": "de-AT"}, id="locale"),
        pytest.param({"failOnHttpError": True}, {"failOnHttpError": True}, id="failOnHttpError"),
        pytest.param({"failOnHttpError": False}, {"failOnHttpError": False}, id="none"),
        pytest.param({"darkMode": None, "proxy": None}, {"darkMode": None, "proxy": None}, id="null"),
        pytest.param(
            {"css": "", "selector": "", "hideSelectors": [], "extraHeaders": {}, "cookies": [], "proxy": ""},
            dict.fromkeys(("css", "selector", "hideSelectors", "extraHeaders", "cookies")),
            id="empty",
        ),
        pytest.param({"device": "Pixel 7"}, {"device": "Pixel 7", "width": None}, id="device"),
        pytest.param({"device": "iphone-14"}, {"device": "iPhone 14"}, id="the vendor's name"),
        pytest.param({"device": "samsung-galaxy-s24"}, {"device": "Galaxy S24"}, id="another"),
        pytest.param(
            {"device": "ipad", "width": 1280, "height": 800},
            {"device": "iPad", "width": None, "height": None},
            id="a device and what the vendor's client always sends",
        ),
        pytest.param(
            {"device": "ipad", "width": 1000}, {"device": "iPad", "width": 1000}, id="a device and a width"
        ),
        pytest.param(
            {"device": "ipad", "isMobile": True, "hasTouch": True}, {"device": "iPad"}, id="as the device is"
        ),
        pytest.param({"isMobile": False, "hasTouch": False, "isLandscape": False}, {}, id="not mobile"),
    ],
)
def test_parameters_reach_the_provider(
    client: FlaskClient, upstream: Upstream, body: dict[str, Any], wire: dict[str, Any]
) -> None:
    response = post(client, **body)
    assert response.status_code == 200, response.text
    sent = upstream.requests[0].json
    assert {name: sent.get(name) for name in wire} == wire


UNAVAILABLE = (
    *("isLandscape", "fullPageScrollDelay", "fullPageMaxHeight", "clickSelector"),
    *("blockChatWidgets", "httpAuth", "proxy", "pdfOptions"),
)


@pytest.mark.parametrize("name", UNAVAILABLE)
@pytest.mark.parametrize("value", [True, 250, "#menu", {"username": "a"}], ids=repr)
def test_what_this_service_cannot_do_is_named(
    client: FlaskClient, upstream: Upstream, name: str, value: Any
) -> None:
    details = assert_error(
        post(client, **{name: value}), 400, "INVALID_REQUEST", said=f"{name}: This service"
    )
    assert details[name] == "This service cannot do that."
    assert upstream.requests == ()


@pytest.mark.parametrize("name", UNAVAILABLE)
def test_what_is_not_wanted_need_not_be_had(client: FlaskClient, name: str) -> None:
    for value in (False, None):
        assert post(client, **{name: value}).status_code == 200


@pytest.mark.parametrize(
    ("body", "code", "name"),
    [
        pytest.param({"width": 100}, "INVALID_REQUEST", "width", id="out of range here"),
        pytest.param({"delay": 30_000}, "INVALID_REQUEST", "delay", id="longer than here"),
        pytest.param({"fullPage": "yes"}, "INVALID_REQUEST", "fullPage", id="no flag"),
        pytest.param({"colour": "red"}, "INVALID_REQUEST", "colour", id="unknown"),
        pytest.param({"format": "gif"}, "INVALID_FORMAT", "format", id="format"),
        pytest.param({"url": "nonsense"}, "INVALID_URL", "url", id="no URL"),
        pytest.param({"cacheTtl": 5}, "INVALID_REQUEST", "cacheTtl", id="too short a time"),
        pytest.param({"cacheTtl": 100_000}, "INVALID_REQUEST", "cacheTtl", id="longer than the operator's"),
        pytest.param({"clipX": 5}, "INVALID_REQUEST", "clipX", id="half a rectangle"),
        pytest.param(
            {"clipX": 16_000, "clipWidth": 900, "clipHeight": 9}, "INVALID_REQUEST", "clipWidth", id="outside"
        ),
        pytest.param({"selector": "a", "fullPage": True}, "INVALID_REQUEST", "selector", id="two areas"),
        pytest.param(
            {"blockAds": True, "blockTrackers": False}, "INVALID_REQUEST", "blockTrackers", id="half the list"
        ),
        pytest.param({"isMobile": True}, "INVALID_REQUEST", "isMobile", id="a phone, but which"),
        pytest.param({"device": "ipad", "hasTouch": False}, "INVALID_REQUEST", "hasTouch", id="half a phone"),
        pytest.param({"device": "nokia-3310"}, "INVALID_REQUEST", "device", id="no such device"),
        pytest.param({"geolocation": "1,2"}, "INVALID_REQUEST", "geolocation", id="a place as text"),
        pytest.param(
            {"geolocation": {"latitude": 91, "longitude": 0}}, "INVALID_REQUEST", "geolocation", id="no place"
        ),
        pytest.param(
            {"geolocation": {"latitude": float("nan"), "longitude": 0}},
            "INVALID_REQUEST",
            "geolocation",
            id="no number",
        ),
        pytest.param({"timeout": 0}, "INVALID_REQUEST", "timeout", id="no time"),
        pytest.param(
            {"cookies": [{"name": "a", "value": "b", "domain": f".{HOST}"}]},
            "INVALID_REQUEST",
            "cookies",
            id="cookie",
        ),
    ],
)
def test_a_wrong_parameter_is_told_the_vendors_way(
    client: FlaskClient, upstream: Upstream, body: dict[str, Any], code: str, name: str
) -> None:
    assert name in assert_error(post(client, **body), 400, code, said=f"{name}: ")
    assert upstream.requests == ()


def test_a_private_target_is_an_invalid_url(client: FlaskClient) -> None:
    response = post(client, url="http://10.0.0.1/")
    assert_error(response, 400, "INVALID_URL")
    assert response.headers["X-Problem"] == "target-forbidden"


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        pytest.param(answers.snapapi_error(401, "INVALID_API_KEY", "x"), 500, "SCREENSHOT_FAILED", id="401"),
        pytest.param(answers.snapapi_error(402, "QUOTA_EXCEEDED", "x"), 503, "SERVICE_UNAVAILABLE", id="402"),
        pytest.param(answers.snapapi_error(404, "NOT_FOUND", "x"), 422, "TARGET_UNREACHABLE", id="404"),
        pytest.param(answers.snapapi_error(422, "X", "no such element"), 422, "INVALID_REQUEST", id="422"),
        pytest.param(answers.snapapi_error(429, "RATE_LIMITED", "x"), 503, "SERVICE_UNAVAILABLE", id="429"),
        pytest.param(answers.snapapi_error(504, "TIMEOUT", "x"), 504, "TIMEOUT", id="504"),
        pytest.param(answers.html_as_png(), 500, "SCREENSHOT_FAILED", id="html"),
        pytest.param(answers.oversized(), 422, "CONTENT_CHECK_FAILED", id="too many pixels"),
        pytest.param(answers.silence(), 504, "TIMEOUT", id="silence"),
    ],
)
def test_an_upstreams_failure_is_told_the_vendors_way(
    client: FlaskClient, upstream: Upstream, behaviour: Answer, status: int, code: str
) -> None:
    upstream.behave(behaviour)
    response = post(client)
    details = assert_error(response, status, code)
    if status == 503:
        assert details["retryAfter"] >= 1


def test_a_bug_is_told_the_vendors_way_and_says_nothing_of_itself(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_arguments: object) -> None:
        raise RuntimeError("secret detail of the inside")

    client.application.extensions[EXTENSION].thumbnails.fetch = explode
    response = post(client)
    assert_error(response, 500, "SCREENSHOT_FAILED")
    assert "secret detail" not in response.text
    assert "secret detail of the inside" in caplog.text


@pytest.mark.parametrize(
    ("body", "content_type", "status", "code"),
    [
        pytest.param(b"{", "application/json", 400, "INVALID_REQUEST", id="broken JSON"),
        pytest.param(b"[]", "application/json", 400, "INVALID_REQUEST", id="no object"),
        pytest.param(b"url=x", "application/x-www-form-urlencoded", 400, "INVALID_REQUEST", id="a form"),
        pytest.param(b"{}", "application/json", 400, "INVALID_URL", id="no target"),
        pytest.param(b'{"url":"a","url":"b"}', "application/json", 400, "INVALID_URL", id="two targets"),
        pytest.param(b" " * (1024 * 1024 + 1), "application/json", 413, "PAYLOAD_TOO_LARGE", id="too large"),
    ],
)
def test_a_wrong_body_is_told_the_vendors_way(
    client: FlaskClient, body: bytes, content_type: str, status: int, code: str
) -> None:
    assert_error(client.post(PATH, data=body, content_type=content_type, headers=KEYS), status, code)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        pytest.param("PUT", PATH, 405, "METHOD_NOT_ALLOWED", id="no such method"),
        pytest.param("GET", "/v1/devices", 404, "NOT_FOUND", id="no such address"),
    ],
)
def test_what_is_not_there_is_told_the_vendors_way(
    client: FlaskClient, method: str, path: str, status: int, code: str
) -> None:
    assert_error(client.open(path, method=method, headers=KEYS), status, code)


def test_an_encoded_body_is_told_the_vendors_way(client: FlaskClient) -> None:
    response = client.post(PATH, json={"url": TARGET}, headers=KEYS | {"Content-Encoding": "gzip"})
    assert_error(response, 415, "INVALID_REQUEST", said="compressed")


def test_an_option_is_called_as_the_caller_calls_it(upstream: Upstream) -> None:
    with client_of({"PROVIDERS": "hermesforge", "HERMESFORGE_API_BASE": upstream.url}) as client:
        response = post(client, waitForSelector="#a")
    assert_error(
        response, 422, "INVALID_REQUEST", said="hermesforge cannot honour the option waitForSelector."
    )
    assert response.headers["X-Problem"] == "option-unsupported"


def test_the_picture_comes_as_the_caller_wants_it(client: FlaskClient) -> None:
    body = picture("webp")
    text = post(client, format="webp", responseType="base64")
    assert (text.status_code, text.mimetype) == (200, "text/plain")
    assert text.headers["X-Content-Type-Options"] == "nosniff"
    assert b64decode(text.data, validate=True) == body
    described = post(client, format="webp", responseType="json")
    assert described.headers["Cache-Control"] == "no-store"
    document = described.get_json()
    assert isinstance(document.pop("took"), int)
    assert b64decode(document.pop("data"), validate=True) == body
    assert document == {
        "success": True,
        "format": "webp",
        "width": 320,
        "height": 200,
        "fileSize": len(body),
        "cached": True,
    }
    assert post(client, format="webp", responseType="binary").data == body


def test_the_cache_is_used_as_the_caller_wants(client: FlaskClient, upstream: Upstream) -> None:
    told = [post(client, cache=True), post(client, cacheTtl=7200), post(client, cache=False)]
    assert [each.headers["X-Cache"] for each in told] == ["MISS", "HIT", "HIT"]  # of this minute
    assert len(upstream.requests) == 1


def test_who_is_in_a_hurry_fails_nobody_else(client: FlaskClient, upstream: Upstream) -> None:
    free = threading.Event()

    def wait(_received: Received) -> Answer:
        assert free.wait(20)
        return image("png")

    upstream.behave(wait)
    hurried = post(client, timeout=200)
    assert_error(hurried, 504, "TIMEOUT", said="200 ms")
    free.set()
    wait_until(
        lambda: post(client, timeout=200).status_code == 200, what="the picture that went on being made"
    )
    assert len(upstream.requests) == 1
    assert post(client, timeout=60_000).headers["X-Cache"] == "HIT"
