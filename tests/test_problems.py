"""Everything that goes wrong becomes a problem document that says what, and nothing more."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from blueprints.error_problems import SLUG_OF_ERROR
from blueprints.problems import PROBLEMS
from tests.support import answers
from tests.support.answers import Answer
from tests.support.service import REMEMBERED, TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer import errors


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    settings = snapapi_environment(
        upstream.url, UPSTREAM_TIMEOUT="4", MAX_IMAGE_BYTES="100000", RATELIMIT_ENABLED="false"
    )
    with client_of(settings) as client:
        yield client


def _assert_problem(response: Any, slug: str) -> dict[str, Any]:
    assert response.status_code == PROBLEMS[slug].status, response.data
    assert response.content_type == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    document: dict[str, Any] = response.get_json()
    assert document["type"] == f"/problems/{slug}"
    assert document["status"] == response.status_code
    assert document["title"] == PROBLEMS[slug].title
    assert document["request_id"] == response.headers["X-Request-ID"]
    assert "127.0.0.1" not in response.text
    assert "sk-test-secret" not in response.text
    assert "Traceback" not in response.text
    return document


@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param("", "url", id="no target"),
        pytest.param("url=", "url", id="an empty target"),
        pytest.param("url=example.com", "url", id="a target without a scheme"),
        pytest.param(f"url={TARGET}{'x' * 2048}", "url", id="a target too long"),
        pytest.param(f"url={TARGET}&colour=red", "colour", id="an unknown parameter"),
        pytest.param(f"url={TARGET}&width=800&width=900", "width", id="a repeated parameter"),
        pytest.param(f"url={TARGET}&width=wide", "width", id="text for a number"),
        pytest.param(f"url={TARGET}&width=800.5", "width", id="a broken number of pixels"),
        pytest.param(f"url={TARGET}&width=319", "width", id="too narrow"),
        pytest.param(f"url={TARGET}&width=3841", "width", id="too wide"),
        pytest.param(f"url={TARGET}&height=239", "height", id="too low"),
        pytest.param(f"url={TARGET}&height=2161", "height", id="too high"),
        pytest.param(f"url={TARGET}&device_scale_factor=4", "device_scale_factor", id="scale"),
        pytest.param(f"url={TARGET}&device_scale_factor=nan", "device_scale_factor", id="no number"),
        pytest.param(f"url={TARGET}&retina=true&device_scale_factor=3", "retina", id="two scales"),
        pytest.param(f"url={TARGET}&device=Nokia", "device", id="an unknown device"),
        pytest.param(f"url={TARGET}&format=gif", "format", id="an unknown format"),
        pytest.param(f"url={TARGET}&format=pdf", "format", id="a format that no img can show"),
        pytest.param(f"url={TARGET}&format=jpeg&quality=0", "quality", id="quality out of range"),
        pytest.param(f"url={TARGET}&quality=50", "quality", id="quality of a png"),
        pytest.param(f"url={TARGET}&full_page=yes", "full_page", id="no flag"),
        pytest.param(f"url={TARGET}&selector=a&clip=0,0,9,9", "clip", id="two cut-outs"),
        pytest.param(f"url={TARGET}&selector=a&full_page=true", "full_page", id="part and whole"),
        pytest.param(f"url={TARGET}&clip=1,2,3", "clip", id="half a rectangle"),
        pytest.param(f"url={TARGET}&clip=0,0,99999,9", "clip", id="a rectangle beyond the page"),
        pytest.param(f"url={TARGET}&delay=10001", "delay", id="too long a delay"),
        pytest.param(f"url={TARGET}&wait_until=never", "wait_until", id="an unknown moment"),
        pytest.param(f"url={TARGET}&locale=german", "locale", id="no language tag"),
        pytest.param(f"url={TARGET}&timezone=Mars/Olympus", "timezone", id="no time zone"),
        pytest.param(f"url={TARGET}&geolocation=91,0", "geolocation", id="beyond the pole"),
        pytest.param(f"url={TARGET}&geolocation=here", "geolocation", id="no place"),
        pytest.param(f"url={TARGET}&fail_on_status=500-400", "fail_on_status", id="a backward range"),
        pytest.param(f"url={TARGET}&fail_on_status=abc", "fail_on_status", id="no statuses"),
        pytest.param(f"url={TARGET}&user_agent=a%0d%0ab", "user_agent", id="a header within a header"),
        pytest.param(f"url={TARGET}&ttl=59", "ttl", id="too short a life"),
        pytest.param(f"url={TARGET}&ttl=2592001", "ttl", id="too long a life"),
    ],
)
def test_a_wrong_parameter_is_named(client: FlaskClient, upstream: Upstream, query: str, field: str) -> None:
    document = _assert_problem(client.get(f"/thumb?{query}"), "invalid-parameters")
    assert list(document["errors"]) == [field]
    assert document["errors"][field][0]
    assert not document["retryable"]
    assert upstream.requests == ()


def test_all_wrong_parameters_are_named_at_once(client: FlaskClient) -> None:
    response = client.get(f"/thumb?url={TARGET}&width=1&height=1&colour=red")
    assert set(_assert_problem(response, "invalid-parameters")["errors"]) == {"width", "height", "colour"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"url": TARGET, "width": "800"}, id="a number in quotes"),
        pytest.param({"url": TARGET, "width": 800.5}, id="a broken number"),
        pytest.param({"url": TARGET, "width": True}, id="a flag for a number"),
        pytest.param({"url": TARGET, "full_page": "true"}, id="a flag in quotes"),
        pytest.param({"url": TARGET, "full_page": 1}, id="a number for a flag"),
        pytest.param({"url": TARGET, "clip": {"x": 1}}, id="an object for a rectangle"),
        pytest.param({"url": TARGET, "hide_selectors": []}, id="no selectors"),
        pytest.param({"url": TARGET, "hide_selectors": [1]}, id="a number for a selector"),
        pytest.param({"url": None}, id="null for a target"),
        pytest.param({"url": [TARGET]}, id="a list for a target"),
    ],
)
def test_json_is_typed_strictly(client: FlaskClient, upstream: Upstream, body: dict[str, Any]) -> None:
    _assert_problem(client.post("/screenshot", json=body), "invalid-parameters")
    assert upstream.requests == ()


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        pytest.param(b"{", "application/json", id="broken"),
        pytest.param(b"[]", "application/json", id="a list"),
        pytest.param(b'"text"', "application/json", id="a text"),
        pytest.param(b"", "application/json", id="nothing"),
        pytest.param(b"[" * 100_000, "application/json", id="nested without end"),
        pytest.param(b"\xff\xfe", "application/json", id="no text at all"),
        pytest.param(f"url={TARGET}".encode(), "application/x-www-form-urlencoded", id="a form"),
        pytest.param(
            f'{{"url": "{TARGET}", "url": "{TARGET}"}}'.encode(), "application/json", id="a name twice"
        ),
    ],
)
def test_a_body_that_is_no_json_object_is_refused(
    client: FlaskClient, upstream: Upstream, body: bytes, content_type: str
) -> None:
    _assert_problem(client.post("/screenshot", data=body, content_type=content_type), "invalid-parameters")
    assert upstream.requests == ()


@pytest.mark.parametrize("path", ["/screenshot", "/persist", "/screenshots", "/screenshots/batch", "/pages"])
def test_a_parameter_beside_a_body_is_named(client: FlaskClient, upstream: Upstream, path: str) -> None:
    document = _assert_problem(
        client.post(f"{path}?full_page=true", json={"url": TARGET}), "invalid-parameters"
    )
    assert document["errors"] == {"full_page": ["Belongs into the JSON body."]}
    assert upstream.requests == ()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/screenshot", dict.fromkeys(map(str, range(257)), 0), id="unknown names"),
        pytest.param("/persist", {"headers": dict.fromkeys(map(str, range(257)), "")}, id="within another"),
        pytest.param("/screenshots/batch", {"urls": [""] * 101, "async": True}, id="targets"),
        pytest.param("/cache/purge", {"targets": [""] * 101}, id="targets to purge"),
        pytest.param("/cache/purge", {"hosts": [""] * 101}, id="hosts to purge"),
    ],
)
def test_a_crowd_in_a_body_is_refused_as_a_whole_and_not_one_by_one(
    client: FlaskClient, path: str, body: dict[str, Any]
) -> None:
    """A megabyte of them would take minutes, and an answer of many megabytes."""
    document = _assert_problem(client.post(path, json=body), "invalid-parameters")
    assert [len(texts) for texts in document.get("errors", {"": [""]}).values()] == [1]


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://localhost/",
        "file:///etc/passwd",
        "http://93.184.216.34:8080/",
        "http://user:password@93.184.216.34/",
    ],
)
def test_a_private_target_is_forbidden_before_anybody_is_called(
    client: FlaskClient, upstream: Upstream, target: str
) -> None:
    response = client.get("/thumb", query_string={"url": target})
    assert response.status_code == 403
    assert response.get_json()["type"] == "/problems/target-forbidden"
    assert upstream.requests == ()


@pytest.mark.parametrize(
    ("method", "path", "slug"),
    [
        pytest.param("GET", "/nowhere", "not-found", id="no such page"),
        pytest.param("GET", "/media/nothing.png", "not-found", id="no such image"),
        pytest.param("GET", "/problems/nothing", "not-found", id="no such problem"),
        pytest.param("DELETE", "/thumb", "method-not-allowed", id="no such method"),
        pytest.param("GET", "/persist", "method-not-allowed", id="persist is a POST"),
    ],
)
def test_flasks_own_errors_are_problem_documents_too(
    client: FlaskClient, method: str, path: str, slug: str
) -> None:
    response = client.open(path, method=method)
    _assert_problem(response, slug)
    assert ("Allow" in response.headers) == (slug == "method-not-allowed")


def test_a_body_that_hides_its_length_is_refused(client: FlaskClient, upstream: Upstream) -> None:
    response = client.post(
        "/screenshot",
        input_stream=io.BytesIO(b'{"url": "' + TARGET.encode() + b'"}'),
        headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"},
    )
    assert response.status_code == 411
    assert response.content_type == "application/problem+json"
    assert upstream.requests == ()


def test_a_body_that_is_too_large_is_refused(client: FlaskClient) -> None:
    response = client.post("/persist", data=b" " * (1024 * 1024 + 1), content_type="application/json")
    _assert_problem(response, "body-too-large")


@pytest.mark.parametrize(
    ("behaviour", "slug"),
    [
        pytest.param(
            answers.snapapi_error(400, "INVALID_URL", "no such page"), "option-unsupported", id="400"
        ),
        pytest.param(answers.snapapi_error(401, "INVALID_API_KEY", "bad key"), "upstream-auth", id="401"),
        pytest.param(answers.snapapi_error(402, "QUOTA_EXCEEDED", "pay"), "upstream-quota", id="402"),
        pytest.param(answers.json_error(404, {"error": "gone"}), "target-unreachable", id="404"),
        pytest.param(
            answers.json_error(429, {"error": "slow down"}, ("Retry-After", "70")), "upstream-busy", id="429"
        ),
        pytest.param(answers.json_error(500, {"error": "broken"}), "upstream-failed", id="500"),
        pytest.param(answers.json_error(504, {"error": "slow"}), "upstream-timeout", id="504"),
        pytest.param(answers.reset(), "upstream-failed", id="reset"),
        pytest.param(answers.silence(), "upstream-timeout", id="silence"),
        pytest.param(answers.drip(0.2), "upstream-timeout", id="drip"),
        pytest.param(answers.html_as_png(), "not-an-image", id="html"),
        pytest.param(answers.empty(), "not-an-image", id="empty"),
        pytest.param(answers.cut_off(framing="close"), "not-an-image", id="cut off in silence"),
        pytest.param(answers.cut_off(), "upstream-failed", id="cut off"),
        pytest.param(answers.endless(), "image-too-large", id="endless"),
        pytest.param(answers.redirect("http://127.0.0.1/"), "upstream-failed", id="redirect inwards"),
    ],
)
def test_an_upstreams_failure_has_its_slug_and_is_never_kept(
    client: FlaskClient, upstream: Upstream, behaviour: Answer, slug: str
) -> None:
    upstream.behave(behaviour)
    response = client.get("/thumb", query_string={"url": TARGET})
    _assert_problem(response, slug)
    is_remembered = slug in REMEMBERED
    assert ("Retry-After" in response.headers) == (is_remembered or PROBLEMS[slug].status == 503)
    upstream.behave(answers.image("png"))
    again = client.get("/thumb", query_string={"url": TARGET})
    if is_remembered:
        _assert_problem(again, slug)
        assert upstream.requests == ()
    else:
        assert again.headers["X-Cache"] == "MISS"


def test_what_no_provider_can_do_is_named(upstream: Upstream) -> None:
    with client_of({"PROVIDERS": "hermesforge", "HERMESFORGE_API_BASE": upstream.url}) as client:
        response = client.get("/thumb", query_string={"url": TARGET, "selector": "#main"})
    document = _assert_problem(response, "option-unsupported")
    assert list(document["errors"]) == ["selector"]
    assert "hermesforge" in document["detail"]
    assert upstream.requests == ()


def test_a_default_that_a_provider_lacks_is_left_out(upstream: Upstream) -> None:
    with client_of({"PROVIDERS": "hermesforge", "HERMESFORGE_API_BASE": upstream.url}) as client:
        assert client.get("/thumb", query_string={"url": TARGET}).status_code == 200
    assert upstream.requests[0].query["block_ads"] == "true"
    assert "block_cookie_banners" not in upstream.requests[0].query


def test_a_bug_says_nothing_of_itself(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    def explode(*_arguments: object) -> None:
        raise RuntimeError("secret detail of the inside")

    client.application.extensions["thumbnailer"].thumbnails.fetch = explode
    response = client.get("/thumb", query_string={"url": TARGET})
    _assert_problem(response, "internal")
    assert "secret detail" not in response.text
    assert "secret detail of the inside" in caplog.text


@pytest.mark.parametrize(
    ("given", "is_taken_over"),
    [
        pytest.param("order-4711-abc", True, id="a sane id"),
        pytest.param("short", False, id="too short"),
        pytest.param("x" * 129, False, id="too long"),
        pytest.param("forged id {} <script>", False, id="odd characters"),
    ],
)
def test_a_sane_request_id_is_taken_over(client: FlaskClient, given: str, is_taken_over: bool) -> None:
    answered = client.get("/health", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert (answered == given) == is_taken_over
    assert re.fullmatch(r"[A-Za-z0-9._:/+=-]{8,128}", answered)


@pytest.mark.parametrize("slug", sorted(PROBLEMS))
def test_every_problem_has_its_page(client: FlaskClient, slug: str) -> None:
    response = client.get(f"/problems/{slug}")
    assert response.status_code == 200
    assert response.content_type.startswith("text/html")
    assert PROBLEMS[slug].title in response.text


def test_every_failure_of_the_tree_has_a_slug() -> None:
    def leaves(kind: type[errors.ThumbnailerError]) -> Iterator[type[errors.ThumbnailerError]]:
        children = kind.__subclasses__()
        if not children:
            yield kind
        for child in children:
            yield from leaves(child)

    known = tuple(kind for kind, _ in SLUG_OF_ERROR)
    for leaf in leaves(errors.ThumbnailerError):
        assert issubclass(leaf, known), f"{leaf.__name__} would be told as an internal error"
