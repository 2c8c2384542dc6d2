"""Many pages at once: while the caller waits, and behind the answer."""

from __future__ import annotations

import base64
import io
import json
import secrets
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image
from standardwebhooks.webhooks import Webhook

from blueprints import batches
from blueprints.pictures import Door, deliver
from tests.support import answers
from tests.support.answers import Answer, Received
from tests.support.jobs import ended, environment
from tests.support.processes import wait_until
from tests.support.receivers import running_receiver, url_of
from tests.support.service import client_of, running_app, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.counters import DatabaseStorage
from wiring.client_watch import ClientBounds, ClientWatch, PromptBodies

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
PRIVATE = "http://10.0.0.1/"
SAID_OF_NO_URL = "The target must be a whole URL: http:// or https://, then a host."
DEAD = "http://93.184.216.34/dead"


def page(number: int) -> str:
    return f"http://93.184.216.34/{number}"


def _answer(received: Received) -> Answer:
    """Another width for every page; one of them is not there."""
    url = json.loads(received.body)["url"]
    if url == DEAD:
        return answers.json_error(404, {"message": "no such page"})
    return answers.image("png", width=100 + int(url.rsplit("/", 1)[1]))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(_answer) as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path) -> Iterator[FlaskClient]:
    settings = snapapi_environment(
        upstream.url,
        DATABASE_URL=f"sqlite:///{tmp_path}/jobs.sqlite3",
        RATELIMIT_ENABLED="false",
        WEBHOOK_SECRET=SECRET,
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
    )
    with client_of(settings) as client:
        yield client


def width_of(data: str) -> int:
    content = base64.b64decode(data)
    return int.from_bytes(content[16:20], "big")


def post(client: FlaskClient, **body: Any) -> Any:
    return client.post("/screenshots/batch", json=body)


def test_the_answer_has_every_page_in_the_order_asked(client: FlaskClient, upstream: Upstream) -> None:
    urls = [page(3), PRIVATE, page(1), DEAD, page(3), "http://[broken", page(2)]
    answer = post(client, urls=urls)
    assert answer.status_code == 200
    results = answer.get_json()["results"]
    assert [each["url"] for each in results] == urls
    statuses = [each["status"] for each in results]
    assert statuses == ["ok", "error", "ok", "error", "ok", "error", "ok"]
    assert [width_of(each["data"]) for each in results if each["status"] == "ok"] == [103, 101, 103, 102]
    assert {each["contentType"] for each in results if each["status"] == "ok"} == {"image/png"}
    errors = [each["error"] for each in results if each["status"] == "error"]
    assert errors == ["target-forbidden", "target-unreachable", "invalid-parameters"]
    assert len([each for each in upstream.requests if page(3) in each.body.decode()]) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"urls": []}, "urls"),
        ({"urls": [page(1)] * 11}, "urls"),
        ({"urls": [page(1)] * 101, "async": True}, "urls"),
        ({"urls": [page(1)], "persist": True}, "persist"),
        ({"urls": [page(1)], "webhook_url": "https://example.com/"}, "webhook_url"),
        ({"urls": [page(1)], "url": page(1)}, "url"),
        ({"urls": "http://example.com/"}, "urls"),
        ({"urls": [page(1)], "async": "yes"}, "async"),
    ],
)
def test_what_is_no_batch_is_refused(client: FlaskClient, body: dict[str, Any], field: str) -> None:
    refused = post(client, **body)
    assert refused.status_code == 400
    assert field in refused.get_json()["errors"]


def test_a_batch_goes_on_behind_the_answer(client: FlaskClient, upstream: Upstream) -> None:
    urls = [page(5), DEAD, page(4), page(5)]
    with running_receiver() as receiver:
        accepted = post(client, urls=urls, webhook_url=url_of(receiver), **{"async": True})
        assert accepted.status_code == 202
        batch = accepted.get_json()
        assert accepted.headers["Location"] == batch["status_url"]
        done = ended(client, f"/batches/{batch['batch_id']}")
        wait_until(lambda: bool(receiver.seen))
        (seen,) = receiver.seen
        told = Webhook(SECRET).verify(seen.body, dict(seen.headers))
    assert len(client.get("/webhooks/deliveries").get_json()["deliveries"]) == 1
    assert [job["url"] for job in done["jobs"]] == urls
    assert [job["status"] for job in done["jobs"]] == ["completed", "failed", "completed", "completed"]
    assert done["total"] == done["ended"] == 4
    assert done["counts"]["completed"] == 3
    assert told["type"] == "batch.completed"
    assert told["data"]["batch_id"] == batch["batch_id"]
    assert told["data"]["counts"] == done["counts"]
    assert len([each for each in upstream.requests if page(5) in each.body.decode()]) == 1
    for job in done["jobs"]:
        assert client.get(f"/jobs/{job['job_id']}").get_json() == job


def test_the_pictures_of_a_batch_come_in_one_archive(client: FlaskClient) -> None:
    batch = post(client, urls=[page(2), DEAD, page(1)], **{"async": True}).get_json()
    ended(client, f"/batches/{batch['batch_id']}")
    answer = client.get(f"/batches/{batch['batch_id']}/download")
    assert answer.content_type == "application/zip"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{batch["batch_id"]}.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.data)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["001-93.184.216.34.png", "003-93.184.216.34.png"]
        assert int.from_bytes(archive.read("001-93.184.216.34.png")[16:20], "big") == 102


def test_an_archive_is_sent_picture_by_picture_and_never_held_as_a_whole(
    client: FlaskClient, upstream: Upstream
) -> None:
    noise = Image.frombytes("RGB", (1000, 700), secrets.token_bytes(1000 * 700 * 3))
    content = io.BytesIO()
    noise.save(content, "PNG", compress_level=1)
    upstream.behave(answers.content(content.getvalue(), "image/png"))
    batch = post(client, urls=[page(number) for number in range(12)], **{"async": True}).get_json()
    assert ended(client, f"/batches/{batch['batch_id']}")["counts"]["completed"] == 12
    tracemalloc.start()
    try:
        answer = client.get(f"/batches/{batch['batch_id']}/download")
        size_bytes = sum(len(piece) for piece in answer.iter_encoded())
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size_bytes > 12 * len(content.getvalue()) > 20_000_000
    assert most < 2 * len(content.getvalue())


def test_one_bad_page_spoils_no_other(client: FlaskClient) -> None:
    bad = ["http://[broken", "", "nonsense", "http://example.com/\n", "http://example.com/" + "x" * 2048]
    urls = [page(1), PRIVATE, *bad]
    errors = [None, "target-forbidden", *["invalid-parameters"] * len(bad)]
    batch = post(client, urls=urls, **{"async": True}).get_json()
    done = ended(client, f"/batches/{batch['batch_id']}")
    assert [job["error"] for job in done["jobs"]] == errors
    results = post(client, urls=urls).get_json()["results"]
    assert [result.get("error") for result in results] == errors
    said = [job["error_detail"] for job in done["jobs"][2:]]
    assert said == [result["detail"] for result in results[2:]]
    assert said[1:3] == ["url: Length must be between 1 and 2048.", "url: " + SAID_OF_NO_URL]


def test_a_bug_that_one_page_meets_spoils_no_other_and_is_told_to_nobody(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(given: dict[str, Any], door: Door) -> Any:
        if given["url"] == page(2):
            raise ZeroDivisionError("a secret")
        return deliver(given, door)

    monkeypatch.setattr(batches, "deliver", broken)
    fine, failed = post(client, urls=[page(1), page(2)]).get_json()["results"]
    assert (fine["status"], failed["error"]) == ("ok", "internal")
    assert "secret" not in failed["detail"]


def test_a_batch_holds_one_thread_and_stands_in_one_place(upstream: Upstream) -> None:
    bounds = {"WEB_THREADS": "6", "WEB_WAITING": "1", "CAPTURE_QUEUE": "0", "RATELIMIT_ENABLED": "false"}
    with client_of(snapapi_environment(upstream.url, **bounds)) as client:
        for urls in ([page(number) for number in range(1, 7)], [page(number) for number in range(7, 9)]):
            results = post(client, urls=urls).get_json()["results"]
            assert [each["status"] for each in results] == ["ok"] * len(urls)


@pytest.mark.parametrize(("pages", "turns"), [(4, 1), (5, 2), (10, 3)])
def test_the_client_of_a_batch_is_given_the_time_of_all_its_turns(
    upstream: Upstream, pages: int, turns: int
) -> None:
    upstream.behave(answers.image("png"))
    sent: list[bytes] = []
    now = 0.0

    class Wire:
        def send(self, data: bytes, _flags: int = 0, /) -> int:
            raise AssertionError(data)

        def shutdown(self, _how: int, /) -> None:
            sent.append(b"cut")

    bounds = ClientBounds(request_seconds=5, answer_seconds=30 + 60, max_body_bytes=1000)
    watch = ClientWatch(bounds, farewell=lambda: b"", clock=lambda: now)
    settings = snapapi_environment(upstream.url, RATELIMIT_ENABLED="false", UPSTREAM_TIMEOUT="30")
    with running_app(settings) as app, watch.attending(Wire()):
        app.wsgi_app = PromptBodies(app.wsgi_app, watch)  # type: ignore[method-assign]  # as the worker does
        urls = [f"{page(1)}?{number}" for number in range(pages)]
        assert post(app.test_client(), urls=urls).status_code == 200
        now = 30.0 * turns + 60
        watch.cut_overdue()
        assert sent == []
        now += 1
        watch.cut_overdue()
        assert sent == [b"cut"]


def test_a_batch_of_bad_pages_ends_at_once(client: FlaskClient, upstream: Upstream) -> None:
    with running_receiver() as receiver:
        body = {"urls": [PRIVATE], "async": True, "webhook_url": url_of(receiver)}
        batch = post(client, **body).get_json()
        assert batch["status"] == "completed"
        wait_until(lambda: bool(receiver.seen))
    assert upstream.requests == ()


def test_an_option_that_nobody_can_honour_refuses_the_whole_batch(client: FlaskClient) -> None:
    for is_async in (True, False):
        refused = post(client, urls=[PRIVATE, page(1)], quality=50, **{"async": is_async})
        assert refused.status_code == 400
        assert "quality" in refused.get_json()["errors"]


def test_a_batch_is_charged_as_a_whole_by_one_look_at_the_counter(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    count = DatabaseStorage.incr

    def seen(self: DatabaseStorage, key: str, expiry: int, amount: int = 1) -> int:
        counted.append(amount)
        return count(self, key, expiry, amount)

    monkeypatch.setattr(DatabaseStorage, "incr", seen)
    limits = {"RATELIMIT_ENABLED": "true", "LIMIT_JOBS": "5 per hour"}
    urls = [page(number) for number in range(6)]
    with client_of({**environment(upstream, tmp_path), **limits}) as client:
        too_many = post(client, urls=urls, **{"async": True})
        assert (too_many.status_code, counted) == (400, []), "it could never be accepted"
        assert too_many.get_json()["errors"] == {
            "urls": ["More than 5 at once are beyond your limit of jobs."]
        }
        accepted = post(client, urls=urls[:3], **{"async": True})
        assert (accepted.status_code, counted) == (202, [3])
        assert accepted.headers["RateLimit"].startswith('"jobs";r=2;')
        refused = post(client, urls=urls[:3], **{"async": True})
        assert (refused.status_code, refused.get_json()["type"]) == (429, "/problems/rate-limited")
