"""The OpenAPI document tells of each answer what it really is: its headers, and what may come at all."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.access import make_key, sqlite_url
from tests.support.answers import image, snapapi_error
from tests.support.openapi import operations, schemas_in
from tests.support.processes import wait_until
from tests.support.service import TARGET, client_of, running_app, snapapi_environment
from tests.support.upstream import Upstream
from tests.support.vectors import KEYS

#: What every answer may have: the document tells of them at its beginning, or they mean nothing to callers.
EVERYWHERE = {
    *("Content-Type", "Content-Length", "Date", "Cache-Control", "X-Request-ID", "Server-Timing", "Vary"),
    *("X-Content-Type-Options", "Content-Security-Policy", "Cross-Origin-Resource-Policy", "Referrer-Policy"),
}
#: What is for proxies alone.
FOR_PROXIES = {"X-Accel-Buffering", "X-Accel-Expires"}

PROBLEM = "application/problem+json"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def service(upstream: Upstream, tmp_path: Path) -> Iterator[FlaskClient]:
    """A service that signs, stores, keeps pages and sends webhooks; its limits count."""
    settings = snapapi_environment(
        upstream.url,
        MEDIA_DIR=str(tmp_path / "media"),
        DATABASE_URL=f"sqlite:///{tmp_path}/jobs.sqlite3",
        WEBHOOK_SECRET=f"whsec_{base64.b64encode(bytes(32)).decode()}",
        LIMIT_PURGE="2 per minute",
        CACHE_TAGS="Cache-Tag,Surrogate-Key",
    )
    with client_of(settings) as client:
        yield client


def _documented(document: dict[str, Any], method: str, path: str, answer: TestResponse) -> set[str]:
    """The headers that the document tells of such an answer, in lower case."""
    for pattern, methods in document["paths"].items():
        parts = re.sub(r"\{\w+\}", "[^/]+", pattern.replace("{key}", ".+"))
        if re.fullmatch(parts, path.partition("?")[0]):
            told = methods[method.lower()]["responses"][str(answer.status_code)]
            return {name.lower() for name in told.get("headers", {})}
    raise AssertionError(path)


class Auditor:
    """Holds every answer against the document."""

    def __init__(self, client: FlaskClient) -> None:
        self.client = client
        self.document: dict[str, Any] = client.get("/openapi.json").get_json()
        self.seen: set[tuple[str, int]] = set()
        self.untold: set[str] = set()

    def ask(self, method: str, path: str, **more: Any) -> TestResponse:
        answer = self.client.open(path, method=method, buffered=True, **more)
        told = _documented(self.document, method, path, answer)
        found = {name.lower() for name in set(answer.headers.keys()) - EVERYWHERE - FOR_PROXIES}
        # What was charged says so, whatever came of it.
        found -= {"ratelimit-policy", "ratelimit"} if answer.status_code >= 400 else set()
        self.untold |= {f"{method} {path} {answer.status_code}: {name}" for name in found - told}
        self.seen.add((method, answer.status_code))
        return answer


def _ask_for_pictures(auditor: Auditor) -> None:
    for path in ("/thumb", "/screenshot", "/screenshot/stream", "/api/screenshot", "/v1/screenshot"):
        address = f"{path}?url={TARGET}?{path}"
        auditor.ask("GET", address)
        tag = auditor.ask("GET", address).headers["ETag"]
        auditor.ask("GET", address, headers={"If-None-Match": tag})
        auditor.ask("GET", address, headers={"Range": "bytes=0-9"})
        auditor.ask("GET", address, headers={"Range": "bytes=9999999-"})
        auditor.ask("GET", address, headers={"If-Match": '"another"'})
        auditor.ask("GET", f"{address}&colour=red")
    auditor.ask("GET", f"/thumb?url={TARGET}&format=auto&thumb_width=64")
    auditor.ask("GET", f"/thumb?url={TARGET}/later&wait=0")
    auditor.ask("GET", "/thumb?url=http://10.0.0.1/", headers={"Sec-Fetch-Dest": "image"})
    for path in ("/screenshot", "/api/screenshots", "/v1/screenshot"):
        auditor.ask("POST", path, json={"url": f"{TARGET}?post{path}"})


def _ask_for_what_is_kept(auditor: Auditor) -> None:
    key = {"Idempotency-Key": "order-1"}
    for body in ({"url": TARGET}, {"url": TARGET}, {"url": TARGET, "width": 800}):
        auditor.ask("POST", "/persist", json=body, headers=key)
    stored = auditor.ask("POST", "/persist", json={"url": TARGET}).get_json()["key"]
    auditor.ask("GET", f"/media/{stored}")
    for body in ({"url": TARGET, "webhook_url": TARGET}, {"url": TARGET, "webhook_url": TARGET}):
        job = auditor.ask("POST", "/screenshots", json=body, headers={**key, "Prefer": "wait=0"}).get_json()
    auditor.ask("POST", "/screenshots", json={"url": TARGET}, headers={"Prefer": "wait=20"})
    auditor.ask("GET", f"/jobs/{job['job_id']}/image")
    wait_until(lambda: auditor.ask("GET", f"/jobs/{job['job_id']}").get_json()["image_url"] is not None)
    auditor.ask("GET", f"/jobs/{job['job_id']}/image")
    auditor.ask("DELETE", f"/jobs/{job['job_id']}")
    auditor.ask("POST", "/screenshots/batch", json={"urls": [TARGET]})
    batch = auditor.ask("POST", "/screenshots/batch", json={"urls": [TARGET], "async": True}, headers=key)
    address = f"/batches/{batch.get_json()['batch_id']}"
    wait_until(lambda: auditor.ask("GET", address).get_json()["completed_at"] is not None)
    auditor.ask("GET", f"{address}/download")
    message = auditor.ask("GET", "/webhooks/deliveries").get_json()["deliveries"][0]["id"]
    for _ in range(2):
        auditor.ask("POST", f"/webhooks/deliveries/{message}/redeliver", headers=key)


def _ask_for_pages(auditor: Auditor, upstream: Upstream) -> None:
    upstream.behave(snapapi_error(422, "TARGET_UNREACHABLE", "gone"))
    for _ in range(2):
        page = auditor.ask("POST", "/pages", json={"url": f"{TARGET}/kept"}, headers={"Idempotency-Key": "p"})
    address = f"/pages/{page.get_json()['id']}"
    auditor.ask("GET", f"{address}/thumb")
    auditor.ask("GET", f"{address}/thumb", headers={"Sec-Fetch-Dest": "image"})
    wait_until(lambda: auditor.ask("GET", address).get_json()["status"] == "failed")
    upstream.behave(image())
    auditor.ask("PATCH", address, json={"refresh_seconds": 3600})
    auditor.ask("GET", f"/thumb?url={TARGET}/kept")
    auditor.ask("GET", "/pages")
    auditor.ask("DELETE", address)


def test_every_header_of_an_answer_is_documented(service: FlaskClient, upstream: Upstream) -> None:
    auditor = Auditor(service)
    _ask_for_pictures(auditor)
    _ask_for_what_is_kept(auditor)
    _ask_for_pages(auditor, upstream)
    for _ in range(3):
        auditor.ask("DELETE", f"/cache?url={TARGET}")
    for path in ("/", "/docs", "/ready", "/health", "/metrics", "/usage", "/v1/usage"):
        auditor.ask("GET", path)
    assert auditor.untold == set()
    expected = {200, 202, 206, 304, 400, 403, 404, 412, 416, 429}
    assert expected <= {status for method, status in auditor.seen}


def test_whoever_reads_the_document_meets_what_is_usual_first(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status, answer in operation["responses"].items():
            content_types = list(answer.get("content", {}))
            if {"image/png", "image/webp"} <= set(content_types):
                first = PROBLEM if PROBLEM in content_types else "image/png"
                expected = {first, "application/json"} if status == "202" else {first}
                assert content_types[0] in expected, f"{method} {path} {status}"


def test_everything_is_said_in_words(document: dict[str, Any]) -> None:
    components = document["components"]["schemas"]
    for name, schema in components.items():
        for member, told in schema.get("properties", {}).items():
            assert told.get("description"), f"{name}.{member}"
    for path, method, operation in operations(document):
        for status, answer in operation["responses"].items():
            assert answer["description"].endswith("."), f"{method} {path} {status}"


def test_no_schema_is_there_that_nothing_is_made_of(document: dict[str, Any]) -> None:
    used = {
        one["$ref"].rpartition("/")[2] for one in schemas_in(document) if isinstance(one.get("$ref"), str)
    }
    assert document["components"]["schemas"].keys() - used == set()


@pytest.mark.parametrize(
    ("path", "method", "never"),
    [
        pytest.param("/metrics", "get", {"404", "429"}, id="who is neither counted nor missing"),
        pytest.param("/v1/usage", "get", {"402", "422", "502", "504"}, id="who captures nothing"),
    ],
)
def test_what_cannot_come_is_not_documented(
    document: dict[str, Any], path: str, method: str, never: set[str]
) -> None:
    assert never & document["paths"][path][method]["responses"].keys() == set()


def test_snapsharps_answers_are_of_the_formats_that_it_knows(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/screenshot"]["get"]
    (formats,) = (one["schema"]["enum"] for one in operation["parameters"] if one["name"] == "format")
    for status in ("200", "206"):
        answered = {each.rpartition("/")[2] for each in operation["responses"][status]["content"]}
        assert answered == set(formats)


def test_a_picture_that_is_too_large_is_the_pages_fault_to_hermesforges_clients(
    document: dict[str, Any],
) -> None:
    answers = document["paths"]["/api/screenshot"]["get"]["responses"]
    assert "image-too-large" in answers["422"]["description"]
    assert "image-too-large" not in answers["502"]["description"]


def test_a_job_knows_nobodys_accept_and_says_so(service: FlaskClient, document: dict[str, Any]) -> None:
    told = document["components"]["schemas"]["JobBody"]["properties"]["format"]["description"]
    assert "auto: JPEG" in told
    body = {"url": TARGET, "format": "auto", "wait": 20}
    job = service.post("/screenshots", json=body, headers={"Accept": "image/avif"}).get_json()
    assert job["image"]["content_type"] == "image/jpeg"


def test_the_example_of_a_signature_that_does_not_fit_is_found_out(
    upstream: Upstream, document: dict[str, Any], tmp_path: Path
) -> None:
    settings = snapapi_environment(
        upstream.url, DATABASE_URL=sqlite_url(tmp_path), SIGNING_KEYS=f"k1:{KEYS['k1']}"
    )
    body = document["paths"]["/sign/debug"]["post"]["requestBody"]["content"]["application/json"]["example"]
    with running_app(settings) as app:
        answer = app.test_client().post("/sign/debug", json=body, headers=make_key(app, "site"))
    assert answer.get_json()["findings"] == [
        {"code": "parameter-added", "detail": "Not signed, but in the URL: delay."}
    ]
