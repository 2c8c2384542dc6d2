"""``POST /screenshots``: a picture is taken behind the answer, by a worker in this process."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from blueprints.answers import SAFETY_HEADERS
from blueprints.services import EXTENSION
from blueprints.waiting import MORE_TIME
from tests.support import answers
from tests.support.answers import Answer, Received
from tests.support.conditions import assert_conditions_hold
from tests.support.jobs import TELLING, ended, environment
from tests.support.processes import wait_until
from tests.support.service import TARGET, client_of
from tests.support.upstream import Upstream

FIELDS = {
    "job_id",
    "status",
    "url",
    "status_url",
    "image_url",
    "batch_id",
    "attempts",
    "created_at",
    "started_at",
    "completed_at",
    "error",
    "error_detail",
    "image",
    "stored",
}


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path) -> Iterator[FlaskClient]:
    with client_of(environment(upstream, tmp_path, **TELLING)) as client:
        yield client


class Gate:
    """An upstream that answers when it is let."""

    def __init__(self, answer: Answer) -> None:
        self.open = threading.Event()
        self._answer = answer

    def __call__(self, _received: Received) -> Answer:
        assert self.open.wait(20)
        return self._answer


@pytest.fixture
def gate(upstream: Upstream) -> Iterator[Gate]:
    gate = Gate(answers.image("png"))
    upstream.behave(gate)
    yield gate
    gate.open.set()


def test_a_job_is_accepted_done_and_its_picture_is_there(client: FlaskClient, upstream: Upstream) -> None:
    accepted = client.post("/screenshots", json={"url": TARGET, "width": 800})
    assert accepted.status_code == 202
    shown = accepted.get_json()
    assert shown.keys() == FIELDS
    assert shown["status"] in ("pending", "processing", "completed")
    assert accepted.headers["Location"] == shown["status_url"] == f"http://localhost/jobs/{shown['job_id']}"
    assert accepted.headers["Cache-Control"] == "no-store"
    done = ended(client, f"/jobs/{shown['job_id']}")
    assert done["status"] == "completed"
    assert done["error"] is None
    assert done["attempts"] == 1
    assert done["created_at"] <= done["started_at"] <= done["completed_at"]
    picture = client.get(done["image_url"])
    assert picture.status_code == 200
    assert picture.content_type == done["image"]["content_type"] == "image/png"
    assert picture.headers["Cache-Control"] == "private, no-cache", "it is for who may see the job"
    assert dict(picture.headers).items() >= SAFETY_HEADERS.items()
    assert hashlib.sha256(picture.data).hexdigest() == done["image"]["sha256"]
    assert len(picture.data) == done["image"]["size_bytes"]
    assert json.loads(upstream.requests[0].body)["width"] == 800


def test_a_job_is_done_although_its_worker_could_not_be_started_at_first(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def start(thread: threading.Thread) -> None:
        if thread.name in ("jobs", "housekeeping"):
            tried.append(thread.name)
            if len(tried) in (1, 3):
                raise RuntimeError("can't start new thread")
        start_for_good(thread)

    start_for_good = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", start)
    accepted = client.post("/screenshots", json={"url": TARGET})
    assert accepted.status_code == 202
    assert ended(client, f"/jobs/{accepted.get_json()['job_id']}")["status"] == "completed"
    wait_until(lambda: tried == ["jobs", "jobs", "housekeeping", "housekeeping"])


def test_the_picture_of_a_job_that_has_not_ended_is_not_ready(client: FlaskClient, gate: Gate) -> None:
    job = client.post("/screenshots", json={"url": TARGET}).get_json()
    early = client.get(f"/jobs/{job['job_id']}/image")
    assert early.status_code == 404
    assert early.get_json()["type"] == "/problems/image-not-ready"
    assert int(early.headers["Retry-After"]) > 0
    pending = client.get(f"/jobs/{job['job_id']}")
    assert pending.get_json()["image_url"] is None
    assert int(pending.headers["Retry-After"]) > 0
    gate.open.set()
    assert ended(client, f"/jobs/{job['job_id']}")["status"] == "completed"


@pytest.mark.parametrize(
    ("body", "headers", "applied"),
    [
        ({"wait": 20}, {}, None),
        ({}, {"Prefer": "wait=20"}, "wait=20"),
        ({}, {"Prefer": "respond-async, wait=900"}, "wait=60"),
        ({"wait": 20}, {"Prefer": "wait=0"}, None),
    ],
    ids=["option", "header", "too long", "the option goes first"],
)
def test_a_caller_can_wait_for_the_end(
    client: FlaskClient, body: dict[str, Any], headers: dict[str, str], applied: str | None
) -> None:
    answer = client.post("/screenshots", json={"url": TARGET, **body}, headers=headers)
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "completed"
    assert answer.headers.get("Preference-Applied") == applied
    assert "Retry-After" not in answer.headers


def test_who_waits_is_given_more_time_to_take_the_answer(client: FlaskClient, gate: Gate) -> None:
    gate.open.set()
    given: list[float] = []
    environ = {MORE_TIME: given.append}
    client.post("/screenshots", json={"url": TARGET, "wait": 20}, environ_overrides=environ)
    client.post("/screenshots", json={"url": TARGET}, environ_overrides=environ)
    assert given == [20]


def test_who_does_not_want_to_wait_does_not(client: FlaskClient, gate: Gate) -> None:
    answer = client.post("/screenshots", json={"url": TARGET}, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202
    gate.open.set()


def test_the_cache_is_used_and_filled(client: FlaskClient, upstream: Upstream) -> None:
    body = {"url": TARGET, "wait": 20}
    first = client.post("/screenshots", json=body).get_json()
    second = client.post("/screenshots", json=body).get_json()
    assert (first["image"]["cache"], second["image"]["cache"]) == ("miss", "hit")
    assert client.get("/screenshot", query_string={"url": TARGET}).headers["X-Cache"] == "HIT"
    assert len(upstream.requests) == 1


def test_a_failure_is_told_by_its_slug(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(answers.json_error(404, {"message": "no such page"}))
    job = client.post("/screenshots", json={"url": TARGET, "wait": 20}).get_json()
    assert job["status"] == "failed"
    assert job["error"] == "target-unreachable"
    assert job["error_detail"]
    assert job["image_url"] is None
    missing = client.get(f"/jobs/{job['job_id']}/image")
    assert (missing.status_code, missing.get_json()["type"]) == (404, "/problems/not-found")
    assert (
        missing.get_json()["detail"] == "This job has no picture: it is failed, and its status_url says why."
    )


def test_a_picture_that_the_cache_has_dropped_is_said_to_be_gone(client: FlaskClient) -> None:
    job = client.post("/screenshots", json={"url": TARGET, "wait": 20}).get_json()
    assert client.get(job["image_url"]).status_code == 200
    client.delete("/cache", query_string={"url": TARGET})
    gone = client.get(job["image_url"])
    assert (gone.status_code, gone.get_json()["type"]) == (404, "/problems/not-found")
    assert gone.get_json()["detail"].startswith("The cache has dropped the picture of this job")


def test_a_providers_failure_is_tried_again_later(upstream: Upstream, tmp_path: Path) -> None:
    upstream.behave(answers.json_error(402, {"error": {"code": "QUOTA_EXCEEDED", "message": "no more"}}))
    with client_of(environment(upstream, tmp_path, JOB_RETRIES="0")) as client:
        job = client.post("/screenshots", json={"url": TARGET, "wait": 20}).get_json()
        assert (job["status"], job["error"], job["attempts"]) == ("failed", "upstream-quota", 1)
    upstream.behave(answers.json_error(402, {"error": {"code": "QUOTA_EXCEEDED", "message": "no more"}}))
    with client_of(environment(upstream, tmp_path / "other", JOB_RETRIES="1")) as client:
        path = f"/jobs/{client.post('/screenshots', json={'url': TARGET}).get_json()['job_id']}"
        wait_until(lambda: _is_put_back(client, path))
        upstream.behave(answers.image("png"))
        done = ended(client, path, seconds=40)
        assert (done["status"], done["attempts"]) == ("completed", 2)


def _is_put_back(client: FlaskClient, path: str) -> bool:
    shown = client.get(path).get_json()
    return bool(shown["attempts"] == 1 and shown["status"] == "pending")


def test_what_has_not_begun_can_be_cancelled(upstream: Upstream, tmp_path: Path, gate: Gate) -> None:
    with client_of(environment(upstream, tmp_path, JOB_CONCURRENCY="1")) as client:
        first = client.post("/screenshots", json={"url": TARGET}).get_json()
        wait_until(lambda: len(upstream.requests) == 1)
        second = client.post("/screenshots", json={"url": TARGET, "width": 900}).get_json()
        assert client.delete(f"/jobs/{second['job_id']}").get_json()["status"] == "cancelled"
        assert client.delete(f"/jobs/{first['job_id']}").get_json()["status"] == "processing"
        gate.open.set()
        assert ended(client, f"/jobs/{first['job_id']}")["status"] == "completed"
        assert client.delete(f"/jobs/{first['job_id']}").get_json()["status"] == "completed"
        assert len(upstream.requests) == 1


def test_a_queue_that_is_full_refuses(upstream: Upstream, tmp_path: Path, gate: Gate) -> None:
    with client_of(environment(upstream, tmp_path, JOB_CONCURRENCY="1", JOB_QUEUE="1")) as client:
        client.post("/screenshots", json={"url": TARGET})
        wait_until(lambda: len(upstream.requests) == 1)
        assert client.post("/screenshots", json={"url": TARGET, "width": 900}).status_code == 202
        refused = client.post("/screenshots", json={"url": TARGET, "width": 901})
        assert refused.status_code == 503
        assert refused.get_json()["type"] == "/problems/overloaded"
        assert int(refused.headers["Retry-After"]) > 0
        batch = {"urls": [TARGET], "async": True}
        assert client.post("/screenshots/batch", json=batch).status_code == 503
        gate.open.set()


def test_a_job_can_store_its_picture(client: FlaskClient) -> None:
    job = client.post("/screenshots", json={"url": TARGET, "persist": True, "wait": 20}).get_json()
    with client.get(job["stored"]["url"]) as stored:
        assert stored.status_code == 200
        assert hashlib.sha256(stored.data).hexdigest() == job["image"]["sha256"]
    assert job["stored"]["key"].startswith("thumbs/")


def test_a_stored_picture_stays_the_jobs_own_when_there_is_a_newer_one(
    client: FlaskClient, upstream: Upstream
) -> None:
    page = f"{TARGET}?newer"
    job = client.post("/screenshots", json={"url": page, "persist": True, "wait": 20}).get_json()
    image_url = f"/jobs/{job['job_id']}/image"
    assert_conditions_hold(client, image_url)
    upstream.behave(answers.image("png", 400, 300))
    # By default /persist leaves out what covers a page, and so takes another picture than a job.
    alike = {"block_ads": False, "block_cookie_banners": False}
    persisted = client.post("/persist", json={"url": page, "force": True, **alike})
    assert persisted.get_json()["sha256"] != job["image"]["sha256"]
    answer = client.get(image_url)
    assert (answer.status_code, answer.headers["Location"]) == (302, job["stored"]["url"])
    assert client.get(job["stored"]["url"], buffered=True).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "slug", "field"),
    [
        ({}, 400, "invalid-parameters", "url"),
        ({"url": "http://10.0.0.1/"}, 403, "target-forbidden", None),
        ({"url": TARGET, "wait": 61}, 400, "invalid-parameters", "wait"),
        ({"url": TARGET, "unknown": 1}, 400, "invalid-parameters", "unknown"),
        ({"url": TARGET, "preset": "poster"}, 400, "invalid-parameters", "preset"),
        ({"url": TARGET, "ttl": 60}, 400, "invalid-parameters", "ttl"),
        ({"url": TARGET, "fail_on_status": "404"}, 422, "option-unsupported", None),
        ({"url": TARGET, "webhook_url": "http://exa mple.com/"}, 400, "invalid-parameters", "webhook_url"),
        ({"url": TARGET, "webhook_url": "ftp://example.com/"}, 403, "target-forbidden", None),
        ({"url": TARGET, "webhook_url": "http://10.0.0.1/"}, 403, "target-forbidden", None),
    ],
)
def test_a_job_that_can_never_be_done_is_not_accepted(
    client: FlaskClient, body: dict[str, Any], status: int, slug: str, field: str | None
) -> None:
    refused = client.post("/screenshots", json=body)
    assert refused.status_code == status
    assert refused.get_json()["type"] == f"/problems/{slug}"
    if field:
        assert field in refused.get_json()["errors"]


@pytest.mark.parametrize(
    ("url", "status", "said"),
    [
        ("http://10.0.0.1/", 403, "The webhook_url is not a public web address."),
        ("ftp://example.com/", 403, "The webhook_url must be an http or https URL."),
        ("https://me:secret@example.com/", 403, "The webhook_url must not carry a user name or password."),
        ("example.com/hook", 400, "The webhook_url must be a whole URL: http:// or https://, then a host."),
        ("http://0x7f.1/", 400, "The webhook_url's host is malformed."),
        ("http://exa mple.com/", 400, "The webhook_url contains a space, control or invisible character."),
    ],
    ids=["private", "scheme", "user", "no URL", "host", "space"],
)
@pytest.mark.parametrize("path", ["/screenshots", "/screenshots/batch", "/pages"])
def test_a_refusal_names_the_webhook_url_where_that_is_at_fault(
    client: FlaskClient, path: str, url: str, status: int, said: str
) -> None:
    what = {"urls": [TARGET], "async": True} if path.endswith("batch") else {"url": TARGET}
    refused = client.post(path, json={**what, "webhook_url": url})
    assert (refused.status_code, refused.get_json()["errors"]) == (status, {"webhook_url": [said]})


def test_a_job_heeds_a_preset(client: FlaskClient) -> None:
    image = client.post("/screenshots", json={"url": TARGET, "preset": "card", "wait": 20}).get_json()[
        "image"
    ]
    assert (image["content_type"], image["width"]) == ("image/webp", 64)


def test_a_job_that_wants_a_new_picture_takes_none_that_is_older_than_a_minute(client: FlaskClient) -> None:
    accepted = client.post("/screenshots", json={"url": TARGET, "fresh": True}).get_json()
    job = client.application.extensions[EXTENSION].jobs.find(accepted["job_id"])
    assert job.order.ttl_seconds == 60


def test_without_a_secret_no_webhook_is_promised(upstream: Upstream, tmp_path: Path) -> None:
    with client_of(environment(upstream, tmp_path)) as client:
        body = {"url": TARGET, "webhook_url": "https://example.com/hook"}
        refused = client.post("/screenshots", json=body)
        assert refused.status_code == 400
        assert "WEBHOOK_SECRET" in refused.get_json()["errors"]["webhook_url"][0]


@pytest.mark.parametrize(
    "path", ["/jobs/job_x", "/jobs/job_x/image", "/batches/bat_x", "/batches/bat_x/download"]
)
def test_what_is_not_there_is_not_found(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert answer.get_json()["type"] == "/problems/not-found"


def test_the_same_order_sent_again_is_one_job(client: FlaskClient, upstream: Upstream) -> None:
    headers = {"Idempotency-Key": "order-1"}
    first = client.post("/screenshots", json={"url": TARGET}, headers=headers)
    second = client.post("/screenshots", json={"url": TARGET}, headers=headers)
    assert first.get_json()["job_id"] == second.get_json()["job_id"]
    for name in ("Location", "Retry-After"):
        assert second.headers[name] == first.headers[name]
    assert ended(client, first.headers["Location"])["status"] == "completed"
    much_later = client.post("/screenshots", json={"url": TARGET}, headers=headers)
    assert (much_later.status_code, much_later.data) == (202, first.data)


def test_what_is_accepted_is_one_job_though_nobody_can_look_how_it_stands(
    client: FlaskClient, tmp_path: Path, upstream: Upstream, gate: Gate
) -> None:
    def order() -> TestResponse:
        body, headers = {"url": TARGET, "wait": 20}, {"Idempotency-Key": "order-1"}
        return client.application.test_client().post("/screenshots", json=body, headers=headers)

    with closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as aside, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(order)
        wait_until(lambda: len(upstream.requests) == 1)
        aside.execute("ALTER TABLE jobs RENAME TO out_of_reach")
        first = waiting.result()
        aside.execute("ALTER TABLE out_of_reach RENAME TO jobs")
    gate.open.set()
    assert (first.status_code, first.get_json()["status"]) == (202, "pending")
    assert order().get_json()["job_id"] == first.get_json()["job_id"]
    assert ended(client, f"/jobs/{first.get_json()['job_id']}")["status"] == "completed"


def test_a_job_may_be_tried_again_only_as_often_as_it_may_be_begun(
    upstream: Upstream, tmp_path: Path
) -> None:
    upstream.behave(answers.json_error(402, {"error": {"code": "QUOTA_EXCEEDED", "message": "no more"}}))
    with client_of(environment(upstream, tmp_path, JOB_RETRIES="2", JOB_ATTEMPTS="1")) as client:
        job = client.post("/screenshots", json={"url": TARGET, "wait": 5}).get_json()
    assert (job["status"], job["error"], job["attempts"]) == ("failed", "upstream-quota", 1)
