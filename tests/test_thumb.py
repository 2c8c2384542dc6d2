"""``GET /thumb`` and ``/screenshot``: what a caller sees, with a real upstream behind."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image

from blueprints.services import EXTENSION
from tests.support.answers import content, json_error
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    with client_of(snapapi_environment(upstream.url)) as client:
        yield client


def test_a_page_becomes_a_picture(client: FlaskClient, upstream: Upstream) -> None:
    response = client.get("/thumb", query_string={"url": TARGET})
    assert response.status_code == 200
    assert response.content_type == "image/png"
    assert Image.open(io.BytesIO(response.data)).size == (320, 200)
    assert response.headers["X-Cache"] == "MISS"
    assert upstream.requests[0].json["url"] == TARGET


def test_the_second_call_is_a_hit_and_costs_no_capture(client: FlaskClient, upstream: Upstream) -> None:
    first = client.get("/thumb", query_string={"url": TARGET})
    second = client.get("/thumb", query_string={"url": TARGET})
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert first.data == second.data
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({}, {"width": "800"}, id="an option that changes the picture makes another capture"),
        pytest.param({"format": "jpeg"}, {"format": "jpeg", "quality": "30"}, id="so does the quality"),
        pytest.param({}, {"hide_selectors": ".ad"}, id="and what is hidden"),
    ],
)
def test_different_pictures_have_different_keys(
    client: FlaskClient, upstream: Upstream, one: dict[str, str], other: dict[str, str]
) -> None:
    assert client.get("/thumb", query_string={"url": TARGET} | one).headers["X-Cache"] == "MISS"
    assert client.get("/thumb", query_string={"url": TARGET} | other).headers["X-Cache"] == "MISS"
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"url": "http://93.184.216.34/page"}, {"url": "HTTP://93.184.216.34:80/page"}, id="url"),
        pytest.param({}, {"width": "1280", "height": "720"}, id="a default that is written out"),
        pytest.param({"retina": "true"}, {"device_scale_factor": "2"}, id="retina"),
        pytest.param({"format": "jpeg"}, {"format": "jpeg", "quality": "80"}, id="the usual quality"),
    ],
)
def test_the_same_picture_has_one_key_however_it_is_asked_for(
    client: FlaskClient, upstream: Upstream, one: dict[str, str], other: dict[str, str]
) -> None:
    client.get("/thumb", query_string={"url": TARGET} | one)
    assert client.get("/thumb", query_string={"url": TARGET} | other).headers["X-Cache"] == "HIT"
    assert len(upstream.requests) == 1


def test_thumb_and_screenshot_answer_with_their_own_age(client: FlaskClient) -> None:
    thumb = client.get("/thumb", query_string={"url": TARGET})
    screenshot = client.get("/screenshot", query_string={"url": TARGET})
    stale = "stale-while-revalidate=604800, stale-if-error=2592000"
    assert thumb.headers["Cache-Control"] == f"public, max-age=86400, {stale}"
    assert screenshot.headers["Cache-Control"] == f"public, max-age=3600, {stale}"


def test_thumb_blocks_ads_by_default_and_screenshot_does_not(client: FlaskClient, upstream: Upstream) -> None:
    client.get("/thumb", query_string={"url": TARGET})
    client.get("/screenshot", query_string={"url": TARGET})
    thumb, screenshot = (request.json for request in upstream.requests)
    assert thumb["blockAds"] is True
    assert "blockAds" not in screenshot


def test_the_answer_carries_validators_and_what_keeps_a_browser_safe(client: FlaskClient) -> None:
    client.get("/thumb", query_string={"url": TARGET})
    response = client.get("/thumb", query_string={"url": TARGET})
    assert response.headers["ETag"].startswith('"')
    assert "Last-Modified" in response.headers
    assert int(response.headers["Age"]) >= 0
    assert response.headers["Cache-Status"].startswith("thumbnailer; hit; ttl=")
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'"
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert "cache;dur=" in response.headers["Server-Timing"]


def test_a_copy_that_is_still_good_is_not_sent_again(client: FlaskClient) -> None:
    etag = client.get("/thumb", query_string={"url": TARGET}).headers["ETag"]
    response = client.get("/thumb", query_string={"url": TARGET}, headers={"If-None-Match": etag})
    assert response.status_code == 304
    assert response.data == b""
    assert response.headers["ETag"] == etag


def test_head_answers_as_get_without_a_body(client: FlaskClient) -> None:
    got = client.get("/thumb", query_string={"url": TARGET})
    head = client.head("/thumb", query_string={"url": TARGET})
    assert head.data == b""
    assert head.headers["Content-Length"] == str(len(got.data))
    assert head.headers["ETag"] == got.headers["ETag"]


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp", "pdf"])
def test_the_content_type_is_that_of_the_bytes(client: FlaskClient, image_format: str) -> None:
    response = client.get("/screenshot", query_string={"url": TARGET, "format": image_format})
    expected = "application/pdf" if image_format == "pdf" else f"image/{image_format}"
    assert response.content_type == expected


def test_the_upstreams_word_on_the_content_type_does_not_count(
    client: FlaskClient, upstream: Upstream
) -> None:
    upstream.behave(content(picture("jpeg"), "text/html"))
    response = client.get("/thumb", query_string={"url": TARGET})
    assert response.content_type == "image/jpeg"


def _hours_later(client: FlaskClient, hours: int = 1) -> None:
    services = client.application.extensions[EXTENSION]
    later = lambda: time.time() + hours * 3600  # noqa: E731  no request can wait that long
    services.thumbnails.pipeline._clock = services.thumbnails._clock = later
    client.application.extensions[EXTENSION] = replace(services, clock=later)


def test_an_old_picture_is_served_and_replaced_behind(client: FlaskClient, upstream: Upstream) -> None:
    query = {"url": TARGET, "ttl": "60"}
    fresh = client.get("/thumb", query_string=query)
    _hours_later(client)
    stale = client.get("/thumb", query_string=query)
    assert (stale.status_code, stale.headers["X-Cache"], stale.data) == (200, "STALE", fresh.data)
    assert int(stale.headers["Age"]) >= 3600
    assert stale.headers["Cache-Status"].startswith("thumbnailer; hit; ttl=-35")
    wait_until(lambda: client.get("/thumb", query_string=query).headers["X-Cache"] == "HIT")
    assert len(upstream.requests) == 2


def test_a_picture_of_before_a_clock_was_set_back_is_not_said_to_come_from_the_future(
    client: FlaskClient,
) -> None:
    client.get("/thumb", query_string={"url": TARGET})
    _hours_later(client, -1)
    old = client.get("/thumb", query_string={"url": TARGET})
    assert old.headers["X-Cache"] == "STALE"
    assert old.last_modified is not None
    assert old.last_modified.timestamp() <= time.time() - 3600


def test_a_dead_page_keeps_its_last_good_picture(client: FlaskClient, upstream: Upstream) -> None:
    query = {"url": TARGET, "ttl": "60"}
    client.get("/thumb", query_string=query)
    _hours_later(client)
    upstream.behave(json_error(404, {"error": "gone"}))
    client.get("/thumb", query_string=query)
    wait_until(lambda: len(upstream.requests) == 1)
    assert client.get("/thumb", query_string=query).headers["X-Cache"] == "STALE"
    response = client.post("/persist", json={"url": TARGET, "ttl": 60, "force": True})
    assert response.get_json()["type"] == "/problems/not-a-real-picture"


def test_json_and_query_ask_for_the_same_capture(client: FlaskClient, upstream: Upstream) -> None:
    client.get(
        "/screenshot", query_string={"url": TARGET, "full_page": "true", "delay": "5", "locale": "de-AT"}
    )
    response = client.post(
        "/screenshot", json={"url": TARGET, "full_page": True, "delay": 5, "locale": "de-AT"}
    )
    assert response.headers["X-Cache"] == "HIT"
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("query", "wire"),
    [
        pytest.param({"retina": "true"}, {"deviceScaleFactor": 2}, id="retina"),
        pytest.param({"device": "iPhone 14"}, {"device": "iPhone 14"}, id="device"),
        pytest.param({"selector": "#main"}, {"selector": "#main"}, id="selector"),
        pytest.param(
            {"clip": "1,2,30,40"}, {"clipX": 1, "clipY": 2, "clipWidth": 30, "clipHeight": 40}, id="clip"
        ),
        pytest.param({"wait_until": "networkidle"}, {"waitUntil": "networkidle"}, id="wait_until"),
        pytest.param({"wait_for": ".done"}, {"waitForSelector": ".done"}, id="wait_for"),
        pytest.param({"dark_mode": "true"}, {"darkMode": True}, id="dark_mode"),
        pytest.param({"reduced_motion": "true"}, {"reducedMotion": True}, id="reduced_motion"),
        pytest.param({"hide_selectors": ".a, .b"}, {"hideSelectors": [".a, .b"]}, id="hide_selectors"),
        pytest.param({"user_agent": "Bot/1"}, {"userAgent": "Bot/1"}, id="user_agent"),
        pytest.param({"timezone": "Asia/Tokyo"}, {"timezone": "Asia/Tokyo"}, id="timezone"),
        pytest.param({"fail_on_status": "none"}, {"failOnHttpError": False}, id="fail_on_status"),
    ],
)
def test_an_option_reaches_the_provider(
    client: FlaskClient, upstream: Upstream, query: dict[str, str], wire: dict[str, Any]
) -> None:
    response = client.get("/screenshot", query_string={"url": TARGET} | query)
    assert response.status_code == 200, response.json
    sent = upstream.requests[0].json
    assert {name: sent.get(name) for name in wire} == wire


@pytest.mark.parametrize(
    ("default", "given", "wire"),
    [
        pytest.param("retina=true", {"device_scale_factor": "1"}, {"deviceScaleFactor": None}, id="scale"),
        pytest.param("full_page=true", {"clip": "0,0,9,9"}, {"fullPage": None, "clipWidth": 9}, id="area"),
        pytest.param(
            "full_page=true", {"preset": "logo"}, {"fullPage": None, "selector": "img"}, id="a preset's area"
        ),
        pytest.param(
            "delay=1",
            {"preset": "logo", "full_page": "true"},
            {"fullPage": True, "selector": None},
            id="another area than the preset's",
        ),
        pytest.param(
            "full_page=true",
            {"preset": "logo", "full_page": "false"},
            {"fullPage": None, "selector": "img"},
            id="what the preset's area implies",
        ),
    ],
)
def test_what_the_caller_wrote_goes_before_the_operators_defaults(
    upstream: Upstream, default: str, given: dict[str, str], wire: dict[str, Any]
) -> None:
    settings = {"THUMB_DEFAULTS": default, "PRESETS": "logo:selector=img"}
    with client_of(snapapi_environment(upstream.url, **settings)) as client:
        assert client.get("/thumb", query_string={"url": TARGET} | given).status_code == 200
    sent = upstream.requests[0].json
    assert {name: sent.get(name) for name in wire} == wire


def test_the_operator_can_change_what_thumb_does_by_default(upstream: Upstream) -> None:
    changed = snapapi_environment(
        upstream.url, THUMB_DEFAULTS="width=800,format=jpeg,block_ads=false,ttl=120"
    )
    with client_of(changed) as client:
        response = client.get("/thumb", query_string={"url": TARGET})
    assert response.content_type == "image/jpeg"
    assert response.headers["Cache-Control"].startswith("public, max-age=120,")
    sent = upstream.requests[0].json
    assert sent["width"] == 800
    assert "blockAds" not in sent
