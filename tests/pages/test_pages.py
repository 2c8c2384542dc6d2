"""Pages that are kept photographed: pictures, versions, what is announced."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image
from standardwebhooks.webhooks import Webhook

from blueprints.answers import SAFETY_HEADERS
from blueprints.jobs import POLL_AFTER_SECONDS
from tests.support import answers
from tests.support.conditions import assert_conditions_hold
from tests.support.kept_pages import SECRET, fall_due, keep, look, ready, seen, when
from tests.support.processes import wait_until
from tests.support.receivers import running_receiver, url_of
from tests.support.upstream import Upstream

FIELDS = {
    "id",
    "status",
    "url",
    "options",
    "refresh_seconds",
    "webhook_url",
    "thumb_url",
    "created_at",
    "refreshed_at",
    "next_refresh_at",
    "failures",
    "error",
    "error_detail",
    "versions",
}


def test_a_page_is_photographed_at_once(client: FlaskClient, upstream: Upstream) -> None:
    page = keep(client, width=800, refresh_seconds=3600)
    assert page.keys() == FIELDS
    assert (page["status"], page["versions"], page["thumb_url"]) == ("pending", [], None)
    done = ready(client, page["id"])
    assert done["options"] == {"width": 800}
    assert done["refreshed_at"] < done["next_refresh_at"]
    (version,) = done["versions"]
    assert version["distance"] is None
    thumb = client.get(done["thumb_url"])
    assert thumb.status_code == 200
    assert thumb.content_type == version["content_type"] == "image/png"
    assert dict(thumb.headers).items() >= SAFETY_HEADERS.items()
    scope, _, seconds = thumb.headers["Cache-Control"].partition(", max-age=")
    assert scope == "public"
    assert 0 < int(seconds) <= 3600, "until the next picture is due"
    assert hashlib.sha256(thumb.data).hexdigest() == version["sha256"]
    assert_conditions_hold(client, done["thumb_url"])
    with client.get(version["url"]) as stored:
        assert hashlib.sha256(stored.data).hexdigest() == version["sha256"]
    assert json.loads(upstream.requests[0].body)["width"] == 800


def test_before_its_first_picture_a_page_has_none(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(answers.json_error(404, {"message": "no such page"}))
    page = keep(client, thumb_width=240)
    failed = when(client, page["id"], lambda page: page["status"] == "failed")
    assert failed["error"] == "target-unreachable"
    missing = client.get(f"/pages/{page['id']}/thumb")
    assert missing.status_code == 404
    assert missing.get_json()["type"] == "/problems/image-not-ready"
    assert missing.get_json()["detail"].endswith(
        f"the last attempt failed, and /pages/{page['id']} says why."
    )
    assert int(missing.headers["Retry-After"]) > POLL_AFTER_SECONDS, "until the next attempt"
    shown = client.get(f"/pages/{page['id']}/thumb", headers={"Sec-Fetch-Dest": "image"})
    assert (shown.status_code, shown.headers["X-Problem"]) == (404, "image-not-ready")
    assert Image.open(io.BytesIO(shown.data)).size == (240, 135)
    assert shown.headers["Cache-Control"] == missing.headers["Cache-Control"] == "no-store"
    assert shown.headers["Vary"] == missing.headers["Vary"]


def test_old_versions_go_and_their_files_with_them(
    client: FlaskClient, upstream: Upstream, media: Path
) -> None:
    page_id = keep(client)["id"]
    ready(client, page_id)
    for number in (2, 3):
        upstream.behave(answers.content(look(number), "image/png"))
        fall_due(client, page_id)
        expected = hashlib.sha256(look(number)).hexdigest()
        when(client, page_id, lambda page, sha=expected: page["versions"][0]["sha256"] == sha)  # type: ignore[misc]
    shown = seen(client, page_id)
    assert [version["sha256"] for version in shown["versions"]] == [
        hashlib.sha256(look(number)).hexdigest() for number in (3, 2)
    ]
    wait_until(lambda: len(list((media / "pages" / page_id).glob("*.png"))) == 2)


def test_the_same_picture_is_no_new_version(client: FlaskClient, upstream: Upstream) -> None:
    page_id = keep(client)["id"]
    first = ready(client, page_id)
    fall_due(client, page_id)
    again = when(client, page_id, lambda page: page["refreshed_at"] > first["refreshed_at"])
    assert len(again["versions"]) == 1
    assert again["versions"][0]["captured_at"] > first["versions"][0]["captured_at"]
    assert len(upstream.requests) == 2


def test_a_failed_refresh_loses_nothing_and_the_next_comes_later(
    client: FlaskClient, upstream: Upstream
) -> None:
    page = keep(client, refresh_seconds=3600)
    before = ready(client, page["id"])
    upstream.behave(answers.json_error(404, {"message": "gone"}))
    fall_due(client, page["id"])
    failed = when(client, page["id"], lambda page: page["status"] == "failed")
    assert failed["versions"] == before["versions"]
    assert failed["failures"] == 1
    assert client.get(failed["thumb_url"]).data == look(1)


@pytest.mark.parametrize(
    ("after", "is_told"), [(look(2), True), (look(1), False)], ids=["different", "alike"]
)
def test_a_page_that_looks_different_is_announced(
    client: FlaskClient, upstream: Upstream, after: bytes, is_told: bool
) -> None:
    with running_receiver() as receiver:
        page_id = keep(client, webhook_url=url_of(receiver))["id"]
        first = ready(client, page_id)
        upstream.behave(answers.content(after, "image/png"))
        fall_due(client, page_id)
        shown = when(client, page_id, lambda page: page["refreshed_at"] > first["refreshed_at"])
        if not is_told:
            assert client.get("/webhooks/deliveries").get_json()["deliveries"] == []
            return
        wait_until(lambda: bool(receiver.seen))
        (message,) = receiver.seen
    told = Webhook(SECRET).verify(message.body, dict(message.headers))
    assert told["type"] == "page.changed"
    assert told["data"]["id"] == page_id
    assert told["data"]["versions"][0]["distance"] == shown["versions"][0]["distance"] >= 12


def test_a_page_that_looks_nearly_the_same_is_a_new_version_and_no_news(
    client: FlaskClient, upstream: Upstream
) -> None:
    with running_receiver() as receiver:
        page = keep(client, webhook_url=url_of(receiver))
        ready(client, page["id"])
        upstream.behave(answers.content(look(1, speck=True), "image/png"))
        fall_due(client, page["id"])
        newest, first = ready(client, page["id"], versions=2)["versions"]
        assert newest["sha256"] != first["sha256"]
        assert newest["distance"] <= 2
        upstream.behave(answers.content(look(4), "image/png"))
        fall_due(client, page["id"])
        wait_until(lambda: bool(receiver.seen), what="the news of what looks different")
        (told,) = receiver.seen
    assert json.loads(told.body)["type"] == "page.changed"
    assert json.loads(told.body)["data"]["versions"][0]["distance"] > 12
