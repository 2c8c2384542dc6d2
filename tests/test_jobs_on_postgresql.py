"""Jobs, batches, messages and pages in PostgreSQL, as elsewhere in SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from standardwebhooks.webhooks import Webhook

from tests.support import answers
from tests.support.jobs import ended
from tests.support.processes import wait_until
from tests.support.receivers import running_receiver, url_of
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream
from tests.test_pages import SECRET, fall_due, keep, look, ready


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(answers.content(look(1), "image/png")) as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream, postgres_url: str, tmp_path: Path) -> Iterator[FlaskClient]:
    settings = snapapi_environment(
        upstream.url,
        DATABASE_URL=postgres_url,
        MEDIA_DIR=str(tmp_path / "media"),
        RATELIMIT_ENABLED="false",
        WEBHOOK_SECRET=SECRET,
        PAGE_VERSIONS="2",
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
    )
    with client_of(settings) as client:
        yield client


def test_jobs_and_batches_end_and_are_told_of(client: FlaskClient, upstream: Upstream) -> None:
    with running_receiver() as receiver:
        body = {"url": TARGET, "webhook_url": url_of(receiver)}
        job = client.post("/screenshots", json=body).get_json()
        assert ended(client, f"/jobs/{job['job_id']}")["status"] == "completed"
        assert client.get(f"/jobs/{job['job_id']}/image").data == look(1)
        urls = [f"{TARGET}/{number}" for number in (1, 2, 1)]
        batch = {"urls": urls, "async": True, "webhook_url": url_of(receiver)}
        accepted = client.post("/screenshots/batch", json=batch).get_json()
        done = ended(client, f"/batches/{accepted['batch_id']}")
        wait_until(lambda: len(receiver.seen) == 2)
        told = [Webhook(SECRET).verify(seen.body, dict(seen.headers)) for seen in receiver.seen]
    assert [each["url"] for each in done["jobs"]] == urls
    assert done["counts"]["completed"] == 3
    assert sorted(each["type"] for each in told) == ["batch.completed", "screenshot.completed"]
    assert len(upstream.requests) == 3, "the one that stands there twice was taken once"


def test_pages_are_refreshed_and_keep_their_last_versions(client: FlaskClient, upstream: Upstream) -> None:
    page = keep(client, refresh_seconds=3600)
    ready(client, page["id"])
    for number in (2, 3):
        upstream.behave(answers.content(look(number), "image/png"))
        fall_due(client, page["id"])
        wait_until(partial(_shows, client, page["id"], look(number)))
    assert len(ready(client, page["id"], versions=2)["versions"]) == 2
    assert client.delete(f"/pages/{page['id']}").status_code == 204
    assert client.get(f"/pages/{page['id']}").status_code == 404


def _shows(client: FlaskClient, page_id: str, wanted: bytes) -> bool:
    return bool(client.get(f"/pages/{page_id}/thumb").data == wanted)
