"""The hermesforge dialect: programs written for that API find here what they expect, errors included."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient
from PIL import Image

from blueprints.problems import PROBLEMS
from blueprints.services import EXTENSION
from tests.support import answers
from tests.support.answers import Answer
from tests.support.pictures import picture
from tests.support.service import REMEMBERED, TARGET, client_of, running_service, snapapi_environment
from tests.support.upstream import Upstream
from tests.support.vendors import play_vendors

GETS = ("/api/screenshot", "/api/screenshot/cached", "/api/screenshot/stream")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    settings = snapapi_environment(upstream.url, UPSTREAM_TIMEOUT="2", RATELIMIT_ENABLED="false")
    with client_of(settings) as client:
        yield client


def _get(client: FlaskClient, path: str = "/api/screenshot", **query: str) -> Any:
    return client.get(path, query_string={"url": TARGET} | query, buffered=True)


def _assert_error(response: Any, slug: str, *, said: str = "", status: int | None = None) -> dict[str, Any]:
    """The vendor's shape: JSON with ``error`` and ``message``."""
    assert response.status_code == (status or PROBLEMS[slug].status), response.data
    assert response.content_type == "application/json"
    assert response.headers["Cache-Control"] == "no-store"
    document: dict[str, Any] = response.get_json()
    assert set(document) == {"success", "error", "message", "request_id"}
    assert document["success"] is False
    assert document["error"] == slug
    assert said in document["message"]
    assert document["message"]
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert "127.0.0.1" not in response.text
    assert "sk-test-secret" not in response.text
    return document


@pytest.mark.parametrize("path", GETS)
def test_the_defaults_are_the_vendors(client: FlaskClient, upstream: Upstream, path: str) -> None:
    response = _get(client, path)
    assert response.status_code == 200
    assert response.content_type == "image/webp"
    assert response.data == picture("webp")
    sent = upstream.requests[0].json
    assert (sent["width"], sent["height"], sent["format"]) == (1280, 800, "webp")
    assert "blockAds" not in sent
    assert response.headers["Cache-Control"].startswith("public, max-age=3600,")


def test_all_three_answer_the_same_capture(client: FlaskClient, upstream: Upstream) -> None:
    told = [_get(client, path).headers["X-Cache"] for path in (*GETS, *GETS)]
    assert told == ["MISS", "HIT", "HIT", "HIT", "HIT", "HIT"]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("query", "wire"),
    [
        pytest.param({"format": "png"}, {"format": "png"}, id="format"),
        pytest.param({"format": "pdf"}, {"format": "pdf"}, id="pdf"),
        pytest.param({"width": "1000", "height": "500"}, {"width": 1000, "height": 500}, id="size"),
        pytest.param({"full_page": "true"}, {"fullPage": True}, id="full_page"),
        pytest.param({"delay": "250"}, {"delay": 250}, id="delay"),
        pytest.param({"dark_mode": "true"}, {"darkMode": True}, id="dark_mode"),
        pytest.param({"block_ads": "true"}, {"blockAds": True}, id="block_ads"),
        pytest.param({"viewport": "mobile"}, {"width": 375, "height": 812}, id="mobile"),
        pytest.param({"viewport": "tablet"}, {"width": 768, "height": 1024}, id="tablet"),
        pytest.param({"viewport": "desktop"}, {"width": 1280, "height": 800}, id="desktop"),
        pytest.param({"selector": "#main"}, {"selector": "#main"}, id="an option of this service"),
    ],
)
def test_parameters_reach_the_provider(
    client: FlaskClient, upstream: Upstream, query: dict[str, str], wire: dict[str, Any]
) -> None:
    response = _get(client, **query)
    assert response.status_code == 200, response.text
    sent = upstream.requests[0].json
    assert {name: sent.get(name) for name in wire} == wire
    assert client.post("/api/screenshots", json=_typed({"url": TARGET} | query)).get_json()["cached"] is True


def _typed(query: dict[str, str]) -> dict[str, Any]:
    return {
        name: json.loads(text) if text == "true" or text.isdigit() else text for name, text in query.items()
    }


def test_the_post_describes_the_picture_and_says_where_it_is(client: FlaskClient, upstream: Upstream) -> None:
    asked = {
        "url": f"{TARGET}?a=1&b=ü",
        "full_page": True,
        "delay": 5.0,
        "device_scale_factor": 1.5,
        "hide_selectors": ".a, #b",
        "dark_mode": False,
    }
    first = client.post("/api/screenshots", json=asked)
    assert first.status_code == 200
    assert first.headers["Cache-Control"] == "no-store"
    described = first.get_json()
    body = picture("webp")
    assert described == {
        "success": True,
        "url": described["url"],
        "image_url": described["image_url"],
        "content_type": "image/webp",
        "size_bytes": len(body),
        "width": 320,
        "height": 200,
        "cached": False,
        "captured_at": described["captured_at"],
    }
    parts = urlsplit(described["image_url"])
    assert (parts.scheme, parts.netloc) == ("http", "localhost")
    image = client.get(f"{parts.path}?{parts.query}")
    assert (image.status_code, image.data) == (200, body)
    assert client.post("/api/screenshots", json=asked).get_json()["cached"] is True


def test_the_image_url_of_a_fresh_picture_asks_for_no_other(client: FlaskClient) -> None:
    described = client.post("/api/screenshots", json={"url": TARGET, "fresh": True}).get_json()
    assert parse_qs(urlsplit(described["image_url"]).query) == {"url": [TARGET]}


def test_the_image_url_starts_where_the_public_reaches_the_service(upstream: Upstream) -> None:
    settings = snapapi_environment(upstream.url, PUBLIC_BASE_URL="https://pictures.example/t")
    with client_of(settings) as client:
        described = client.post("/api/screenshots", json={"url": TARGET}).get_json()
    assert described["image_url"].startswith("https://pictures.example/t/api/screenshot?url=")


def test_a_list_that_no_image_url_could_spell_is_refused(client: FlaskClient, upstream: Upstream) -> None:
    response = client.post("/api/screenshots", json={"url": TARGET, "hide_selectors": [".a", ".b"]})
    _assert_error(response, "invalid-parameters", said="hide_selectors: ")
    assert upstream.requests == ()


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize(
    ("query", "said"),
    [
        pytest.param({"width": "1"}, "width: ", id="out of range"),
        pytest.param({"colour": "red"}, "colour: ", id="unknown"),
        pytest.param({"viewport": "watch"}, "viewport: ", id="an unknown viewport"),
        pytest.param(
            {"viewport": "mobile", "width": "800"}, "viewport: Cannot be combined with width", id="two sizes"
        ),
        pytest.param(
            {"viewport": "mobile", "device": "iPad"},
            "viewport: Cannot be combined with device",
            id="a device",
        ),
        pytest.param({"url": "nonsense"}, "url: ", id="no target"),
    ],
)
def test_a_wrong_parameter_is_told_the_vendors_way(
    client: FlaskClient, upstream: Upstream, path: str, query: dict[str, str], said: str
) -> None:
    _assert_error(_get(client, path, **query), "invalid-parameters", said=said)
    assert upstream.requests == ()


def test_a_missing_target_and_a_repeated_parameter_are_told_the_vendors_way(client: FlaskClient) -> None:
    _assert_error(client.get("/api/screenshot"), "invalid-parameters", said="url: ")
    repeated = client.get(f"/api/screenshot?url={TARGET}&width=800&width=900")
    _assert_error(repeated, "invalid-parameters", said="width: Must not be repeated.")


@pytest.mark.parametrize("path", GETS)
def test_a_private_target_is_refused_the_vendors_way(
    client: FlaskClient, upstream: Upstream, path: str
) -> None:
    _assert_error(_get(client, path, url="http://10.0.0.1/"), "target-forbidden")
    assert upstream.requests == ()


@pytest.mark.parametrize(
    ("body", "content_type", "slug"),
    [
        pytest.param(b"{", "application/json", "invalid-parameters", id="broken JSON"),
        pytest.param(b"url=x", "application/x-www-form-urlencoded", "invalid-parameters", id="a form"),
        pytest.param(b"{}", "application/json", "invalid-parameters", id="no target"),
        pytest.param(b'{"url": "http://[::1]/"}', "application/json", "target-forbidden", id="private"),
        pytest.param(b" " * (1024 * 1024 + 1), "application/json", "body-too-large", id="too large"),
    ],
)
def test_a_wrong_body_is_told_the_vendors_way(
    client: FlaskClient, body: bytes, content_type: str, slug: str
) -> None:
    _assert_error(client.post("/api/screenshots", data=body, content_type=content_type), slug)


@pytest.mark.parametrize("path", GETS)
@pytest.mark.parametrize(
    ("behaviour", "slug"),
    [
        pytest.param(answers.snapapi_error(401, "INVALID_API_KEY", "bad"), "upstream-auth", id="401"),
        pytest.param(answers.snapapi_error(402, "QUOTA_EXCEEDED", "pay"), "upstream-quota", id="402"),
        pytest.param(answers.html_as_png(), "not-an-image", id="html"),
        pytest.param(answers.silence(), "upstream-timeout", id="silence"),
    ],
)
def test_an_upstreams_failure_is_told_the_vendors_way(
    client: FlaskClient, upstream: Upstream, path: str, behaviour: Answer, slug: str
) -> None:
    upstream.behave(behaviour)
    response = _get(client, path)
    _assert_error(response, slug)
    is_remembered = slug in REMEMBERED
    assert ("Retry-After" in response.headers) == (is_remembered or PROBLEMS[slug].status == 503)


@pytest.mark.parametrize("path", GETS)
def test_what_is_the_pages_fault_is_not_called_the_services(
    client: FlaskClient, upstream: Upstream, path: str
) -> None:
    upstream.behave(answers.oversized())
    _assert_error(_get(client, path), "image-too-large", status=422)


def test_a_bug_is_told_the_vendors_way_and_says_nothing_of_itself(
    client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*_arguments: object) -> None:
        raise RuntimeError("secret detail of the inside")

    client.application.extensions[EXTENSION].thumbnails.fetch = explode
    response = _get(client)
    _assert_error(response, "internal")
    assert "secret detail" not in response.text
    assert "secret detail of the inside" in caplog.text


@pytest.mark.parametrize("path", GETS)
def test_head_answers_as_get_without_a_body(client: FlaskClient, path: str) -> None:
    got = _get(client, path)
    head = client.head(path, query_string={"url": TARGET})
    assert (head.status_code, head.data) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.data))


@pytest.fixture(scope="module")
def vendor() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def renderer(vendor: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = snapapi_environment(vendor.url, RATELIMIT_ENABLED="false", WEB_CONCURRENCY="1")
    with running_service(tmp_path_factory.mktemp("renderer"), settings) as service:
        yield service.url


class TestOneInstanceBehindAnother:
    """A renderer tier behind a caching tier, by configuration alone."""

    @pytest.fixture
    def front(self, renderer: str, vendor: Upstream) -> Iterator[FlaskClient]:
        vendor.behave(play_vendors)
        settings = {"PROVIDERS": "hermesforge", "HERMESFORGE_BASE": renderer, "LOG_LEVEL": "warning"}
        with client_of(settings | {"RATELIMIT_ENABLED": "false"}) as client:
            yield client

    @pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
    def test_a_picture_comes_all_the_way(
        self, front: FlaskClient, vendor: Upstream, image_format: str
    ) -> None:
        page = f"{TARGET}?{image_format}"
        query = {"url": page, "format": image_format, "width": "1024", "full_page": "true", "delay": "7"}
        for path in ("/screenshot", "/screenshot/stream"):
            response = front.get(path, query_string=query, buffered=True)
            assert response.status_code == 200, response.text
            assert response.content_type == f"image/{image_format}"
            assert response.data == picture(image_format)
        assert Image.open(io.BytesIO(response.data)).size == (320, 200)
        assert len(vendor.requests) == 1
        sent = vendor.requests[0].json
        assert (sent["url"], sent["width"], sent["height"]) == (page, 1024, 720)
        assert (sent["fullPage"], sent["delay"]) == (True, 7)

    def test_what_thumb_does_by_default_reaches_the_renderer(
        self, front: FlaskClient, vendor: Upstream
    ) -> None:
        page = f"{TARGET}?thumb"
        assert front.get("/thumb", query_string={"url": page}).status_code == 200
        assert vendor.requests[0].json["blockAds"] is True

    @pytest.mark.parametrize(
        ("page", "behaviour", "told"),
        [
            pytest.param("http://10.1.2.3/", answers.image("png"), "not a public web address", id="private"),
            pytest.param(f"{TARGET}?large", answers.oversized(), "pixels", id="too large"),
        ],
    )
    def test_nobody_switches_the_renderer_off_by_asking_for_bad_pages(
        self, renderer: str, vendor: Upstream, page: str, behaviour: Answer, told: str
    ) -> None:
        settings = {"PROVIDERS": "hermesforge", "HERMESFORGE_BASE": renderer, "RATELIMIT_ENABLED": "false"}
        more = {"ALLOWED_PRIVATE_TARGETS": "10.0.0.0/8", "BREAKER_FAILURES": "1", "LOG_LEVEL": "warning"}
        with client_of(settings | more) as front:
            vendor.behave(behaviour)
            bad = front.get("/screenshot", query_string={"url": page, "delay": "1"})
            assert (bad.status_code, bad.get_json()["type"]) == (422, "/problems/option-unsupported")
            assert told in bad.get_json()["detail"]
            vendor.behave(answers.image("png"))
            assert front.get("/screenshot", query_string={"url": f"{TARGET}?good"}).status_code == 200

    def test_a_broken_renderers_word_arrives(self, front: FlaskClient, vendor: Upstream) -> None:
        page = f"{TARGET}?broken"
        vendor.behave(answers.snapapi_error(402, "QUOTA_EXCEEDED", "pay"))
        response = front.get("/screenshot", query_string={"url": page})
        assert response.status_code in (502, 503)
        assert "SNAPAPI" not in response.text.upper()
        vendor.behave(answers.image("png"))
        assert front.get("/screenshot", query_string={"url": page}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "slug"),
    [
        pytest.param("DELETE", "/api/screenshot", "method-not-allowed", id="no such method"),
        pytest.param("GET", "/api/screenshots", "method-not-allowed", id="a GET of a POST"),
        pytest.param("GET", "/api/nowhere", "not-found", id="no such address"),
    ],
)
def test_what_is_not_there_is_told_the_vendors_way(
    client: FlaskClient, method: str, path: str, slug: str
) -> None:
    response = client.open(path, method=method)
    _assert_error(response, slug)
    assert ("Allow" in response.headers) == (slug == "method-not-allowed")


def test_elsewhere_it_is_told_as_everywhere(client: FlaskClient) -> None:
    assert client.get("/apinowhere").content_type == "application/problem+json"
    assert client.delete("/thumb").content_type == "application/problem+json"


def test_an_encoded_body_is_told_the_vendors_way(client: FlaskClient) -> None:
    response = client.post("/api/screenshots", json={"url": TARGET}, headers={"Content-Encoding": "gzip"})
    assert response.status_code == 415
    assert response.get_json()["error"] == "invalid-parameters"
    assert "compressed" in response.get_json()["message"]
