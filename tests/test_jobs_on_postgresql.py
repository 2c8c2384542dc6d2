"""Jobs, batches, messages and pages in PostgreSQL, as elsewhere in SQLite."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from flask.testing import FlaskClient
from standardwebhooks.webhooks import Webhook

from tests.support import answers
from tests.support.answers import Answer, Received
from tests.support.jobs import ended
from tests.support.kept_pages import SECRET, fall_due, keep, look, ready
from tests.support.postgres import postgres_folder, running_postgres
from tests.support.processes import free_port, wait_until
from tests.support.receivers import running_receiver, url_of
from tests.support.service import TARGET, Service, client_of, running_service, snapapi_environment
from tests.support.upstream import Upstream

JOBS_AT_ONCE = 2


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


@pytest.mark.parametrize(
    "path",
    [
        *("/jobs/a%00", "/jobs/a%00/image", "/batches/a%00", "/batches/a%00/download", "/pages/a%00"),
        *("/pages/a%00/thumb", "/webhooks/deliveries/a%00", "/media/a%00"),
    ],
)
def test_what_postgresql_cannot_be_asked_for_is_not_found(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


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


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGQUIT], ids=["told", "at once"])
def test_a_database_that_restarts_amid_a_batch_loses_nothing_and_nothing_is_done_twice(
    stop: signal.Signals, tmp_path: Path
) -> None:
    may_go_on, port = threading.Event(), free_port()

    def held(_received: Received) -> Answer:
        may_go_on.wait(60)
        return answers.content(look(1), "image/png")

    with (
        Upstream(held) as upstream,
        running_receiver() as receiver,
        postgres_folder() as folder,
        ExitStack() as database,
        ExitStack() as stack,
    ):
        database.enter_context(running_postgres(port=port, folder=folder, stop=stop))
        service = stack.enter_context(running_service(tmp_path, _settings(upstream, port)))
        order = {"urls": [f"{TARGET}/{number}" for number in range(8)], "async": True, "persist": True}
        accepted = _post(f"{service.url}/screenshots/batch", order | {"webhook_url": url_of(receiver)})
        page = _post(f"{service.url}/pages", {"url": f"{TARGET}/page"})
        wait_until(lambda: len(upstream.requests) == JOBS_AT_ONCE)
        database.close()
        may_go_on.set()  # the jobs in hand end now, and those in the queue begin
        wait_until(lambda: _log_has(service, "task_put_off", 8), what="work that is put off")
        assert _get(f"{service.url}/ready")["parts"]["database"] == "down"
        assert requests.post(f"{service.url}/pages", json={"url": TARGET}, timeout=20).status_code == 503
        database.enter_context(running_postgres(port=port, folder=folder, stop=stop))
        wait_until(lambda: _get(f"{service.url}/ready")["parts"]["database"] == "ok", what="the database")
        batch_url, page_url = f"/batches/{accepted['batch_id']}", f"/pages/{page['id']}"
        for url, state in ((batch_url, "completed"), (page_url, "ready")):
            wait_until(partial(_stands, service.url + url, state), seconds=60, what=f"{state} at {url}")
        wait_until(lambda: len(receiver.seen) == 1, what="the message")
        assert _get(f"{service.url}{batch_url}")["counts"]["completed"] == 8
        (account,) = _get(f"{service.url}/usage")["accounts"]
    assert (len(upstream.requests), account["total"]["captures"]) == (9, 9)
    assert "Traceback" not in service.log.read_text()


def _settings(upstream: Upstream, port: int) -> dict[str, str]:
    return snapapi_environment(
        upstream.url,
        DATABASE_URL=f"postgresql://thumbnailer@127.0.0.1:{port}/postgres",
        WEBHOOK_SECRET=SECRET,
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
        WEB_CONCURRENCY="1",
        JOB_CONCURRENCY=str(JOBS_AT_ONCE),
        JOB_LEASE="3",
        RATELIMIT_ENABLED="false",
    )


def _post(url: str, body: dict[str, Any]) -> Any:
    answer = requests.post(url, json=body, timeout=20)
    assert answer.status_code == 202, answer.text
    return answer.json()


def _get(url: str) -> Any:
    return requests.get(url, timeout=20).json()


def _stands(url: str, state: str) -> bool:
    return bool(_get(url)["status"] == state)


def _log_has(service: Service, event: str, times: int) -> bool:
    return service.log.read_text().count(event) >= times
