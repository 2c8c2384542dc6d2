"""Pages that are kept photographed: refreshed, versioned, compared, never lost to a failure."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from PIL import Image, ImageDraw
from sqlalchemy import update
from standardwebhooks.webhooks import Webhook

from blueprints.answers import SAFETY_HEADERS
from blueprints.services import EXTENSION, Services
from tests.support import answers
from tests.support.access import make_key
from tests.support.conditions import assert_conditions_hold
from tests.support.processes import wait_until
from tests.support.receivers import running_receiver, url_of
from tests.support.service import TARGET, client_of, running_app, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.keys import Scope
from thumbnailer.pages import Page, PageOrder, PageState
from thumbnailer.pages.tables import pages

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
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


def look(number: int, *, speck: bool = False) -> bytes:
    """A picture that looks unlike those of other numbers; with a ``speck``, alike to the eye alone."""
    picture = Image.new("RGB", (640, 360), "white")
    draw = ImageDraw.Draw(picture)
    for stripe in range(6):
        left = (stripe * 97 + number * 53) % 600
        draw.rectangle((left, 0, left + 30 + 9 * number, 360 - 40 * stripe), fill=(20 * number, 60, 90))
    if speck:
        picture.putpixel((3, 350), (250, 250, 250))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(answers.content(look(1), "image/png")) as upstream:
        yield upstream


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path, media: Path) -> Iterator[FlaskClient]:
    settings = snapapi_environment(
        upstream.url,
        DATABASE_URL=f"sqlite:///{tmp_path}/pages.sqlite3",
        MEDIA_DIR=str(media),
        RATELIMIT_ENABLED="false",
        WEBHOOK_SECRET=SECRET,
        PAGE_VERSIONS="2",
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
    )
    with client_of(settings) as client:
        yield client


def keep(client: FlaskClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/pages", json={"url": TARGET, **body})
    assert answer.status_code == 202, answer.get_json()
    shown: dict[str, Any] = answer.get_json()
    return shown


def seen(client: FlaskClient, page_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = client.get(f"/pages/{page_id}").get_json()
    return shown


def when(client: FlaskClient, page_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The page once something holds of it."""
    shown: dict[str, Any] = {}

    def has_come() -> bool:
        shown.update(seen(client, page_id))
        return holds(shown)

    wait_until(has_come)
    return shown


def ready(client: FlaskClient, page_id: str, versions: int = 1) -> dict[str, Any]:
    return when(client, page_id, lambda page: page["status"] == "ready" and len(page["versions"]) == versions)


def fall_due(client: FlaskClient, page_id: str) -> None:
    """As if the page's time had come, and its capture in the cache had grown old."""
    services: Services = client.application.extensions[EXTENSION]
    with services.database.transaction() as connection:
        connection.execute(
            update(pages).where(pages.c.id == page_id).values(due_at=0, queued_at=None, refresh_seconds=0)
        )


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


def test_a_page_can_be_kept_another_way(client: FlaskClient, upstream: Upstream) -> None:
    page_id = keep(client, width=800, dark_mode=True)["id"]
    ready(client, page_id)
    upstream.behave(answers.content(look(4), "image/png"))
    amended = client.patch(f"/pages/{page_id}", json={"width": 900, "refresh_seconds": 7200})
    assert amended.status_code == 202
    assert amended.get_json()["options"] == {"width": 900, "dark_mode": True}
    assert amended.get_json()["refresh_seconds"] == 7200
    ready(client, page_id, versions=2)
    assert json.loads(upstream.requests[-1].body)["width"] == 900
    refused = client.patch(f"/pages/{page_id}", json={"width": 1})
    assert refused.status_code == 400
    assert "width" in refused.get_json()["errors"]
    assert client.patch(f"/pages/{page_id}", json={"quality": 50}).status_code == 400


def test_an_option_of_a_page_can_be_taken_away(client: FlaskClient) -> None:
    body = {"selector": "main", "format": "jpeg", "quality": 50, "refresh_seconds": 3600}
    path = f"/pages/{keep(client, **body)['id']}"
    amended = client.patch(path, json={"selector": None, "quality": None, "format": "png", "full_page": True})
    assert amended.status_code == 202
    assert amended.get_json()["options"] == {"format": "png", "full_page": True}
    assert client.patch(path, json={"refresh_seconds": None}).get_json()["refresh_seconds"] == 86_400
    refused = client.patch(path, json={"url": None})
    assert refused.get_json()["errors"] == {"url": ["Field may not be null."]}


def test_a_page_that_is_wanted_another_way_has_not_changed_itself(
    client: FlaskClient, upstream: Upstream
) -> None:
    with running_receiver() as receiver:
        page_id = keep(client, width=800, webhook_url=url_of(receiver))["id"]
        ready(client, page_id)
        upstream.behave(answers.content(look(4), "image/png"))
        assert client.patch(f"/pages/{page_id}", json={"width": 900}).get_json()["status"] == "pending"
        newest, _first = ready(client, page_id, versions=2)["versions"]
    assert newest["distance"] is None
    assert client.get("/webhooks/deliveries").get_json()["deliveries"] == []


def test_a_page_shows_what_is_wanted_of_it_though_the_cache_had_it_before(
    client: FlaskClient, upstream: Upstream
) -> None:
    client.get("/thumb", query_string={"url": TARGET, "width": 900})
    upstream.behave(answers.content(look(2), "image/png"))
    page_id = keep(client, width=800)["id"]
    ready(client, page_id)
    client.patch(f"/pages/{page_id}", json={"width": 900})
    ready(client, page_id, versions=2)
    assert client.get(f"/pages/{page_id}/thumb").data == look(1)
    assert len(upstream.requests) == 1, "the second picture came from the cache"


def test_a_change_during_a_capture_is_followed_by_one_more_and_never_two_at_once(
    client: FlaskClient, upstream: Upstream
) -> None:
    is_under_way, may_end = threading.Event(), threading.Event()

    def held_up() -> Iterator[bytes]:
        is_under_way.set()
        may_end.wait(20)
        yield look(1)

    upstream.behave(
        answers.Answer(headers=(("Content-Type", "image/png"),), chunks=held_up, length=len(look(1))),
        answers.content(look(2), "image/png"),
    )
    page_id = keep(client, width=800)["id"]
    assert is_under_way.wait(20)
    for width in (900, 1000):
        assert client.patch(f"/pages/{page_id}", json={"width": width}).status_code == 202
    assert len(upstream.requests) == 1
    may_end.set()
    shown = ready(client, page_id)
    assert shown["versions"][0]["sha256"] == hashlib.sha256(look(2)).hexdigest()
    assert [json.loads(request.body)["width"] for request in upstream.requests] == [800, 1000]


def test_a_page_that_is_forgotten_while_it_is_changed_is_not_found(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    page_id = keep(client)["id"]
    services: Services = client.application.extensions[EXTENSION]
    amend = services.jobs.pages.amend

    def amend_too_late(page: Page, order: PageOrder) -> Page | None:
        services.jobs.pages.remove(page.id)
        return amend(page, order)

    monkeypatch.setattr(services.jobs.pages, "amend", amend_too_late)
    assert client.patch(f"/pages/{page_id}", json={"width": 900}).status_code == 404


def test_a_page_that_a_newer_version_has_written_fails_and_keeps_its_picture_and_no_other_fails(
    client: FlaskClient,
) -> None:
    strange, other = (
        ready(client, keep(client, url=f"{TARGET}?{name}")["id"]) for name in ("strange", "other")
    )
    services: Services = client.application.extensions[EXTENSION]
    request = '{"capture": {"url": "https://page.example/", "option_to_come": 1}, "rendition": null}'
    with services.database.transaction() as connection:
        connection.execute(update(pages).where(pages.c.id == strange["id"]).values(request=request))
    fall_due(client, strange["id"])
    failed = when(client, strange["id"], lambda shown: shown["status"] == "failed")
    assert (failed["error"], len(failed["versions"])) == ("upstream-failed", 1)
    with client.get(f"/pages/{strange['id']}/thumb", follow_redirects=True) as thumb:
        assert thumb.data == look(1)
    listed = client.get("/pages").get_json()["pages"]
    assert {each["id"]: each["status"] for each in listed} == {strange["id"]: "failed", other["id"]: "ready"}
    assert client.delete(f"/pages/{strange['id']}").status_code == 204


def test_a_forgotten_page_is_gone_with_its_files(client: FlaskClient, media: Path) -> None:
    page_id = keep(client)["id"]
    ready(client, page_id)
    assert client.delete(f"/pages/{page_id}").status_code == 204
    assert client.get(f"/pages/{page_id}").status_code == 404
    assert client.delete(f"/pages/{page_id}").status_code == 404
    wait_until(lambda: list((media / "pages").rglob("*.png")) == [])


def test_nobody_learns_of_anothers_pages_or_changes_them(upstream: Upstream, tmp_path: Path) -> None:
    settings = snapapi_environment(
        upstream.url,
        DATABASE_URL=f"sqlite:///{tmp_path}/closed.sqlite3",
        MEDIA_DIR=str(tmp_path / "media"),
        ALLOW_ANONYMOUS="false",
    )
    with running_app(settings) as operators:
        mine, others = (make_key(operators, name, Scope.RENDER, Scope.PERSIST) for name in ("mine", "others"))
    with client_of(settings) as client:
        page = client.post("/pages", json={"url": TARGET}, headers=mine).get_json()
        path = f"/pages/{page['id']}"
        assert client.get("/pages", headers=others).get_json() == {"pages": []}
        assert client.get(path, headers=others).status_code == 404
        assert client.patch(path, json={"width": 900}, headers=others).status_code == 404
        assert client.delete(path, headers=others).status_code == 404
        assert client.get(path, headers=mine).get_json()["options"] == {}


def test_the_pages_of_a_key_that_counts_no_more_are_photographed_no_more(
    client: FlaskClient, upstream: Upstream
) -> None:
    page = keep(client)
    ready(client, page["id"])
    services: Services = client.application.extensions[EXTENSION]
    with services.database.transaction() as connection:
        theirs = update(pages).where(pages.c.id == page["id"])
        connection.execute(theirs.values(owner="key:gone", due_at=0, queued_at=None, refresh_seconds=0))

    def found() -> Page:
        page_now = services.jobs.pages.find(page["id"])
        assert page_now is not None
        return page_now

    wait_until(lambda: found().state is PageState.FAILED)
    assert (found().error or {})["class"] == "Unauthorized"
    assert client.get(f"/pages/{page['id']}/thumb").data == look(1)
    assert len(upstream.requests) == 1


def test_pages_are_listed_newest_first(client: FlaskClient) -> None:
    ids = [keep(client, width=width)["id"] for width in (800, 801, 802)]
    listed = client.get("/pages").get_json()["pages"]
    assert [page["id"] for page in listed] == ids[::-1]
    made_at = listed[0]["created_at"]
    for before in (made_at, datetime.fromisoformat(made_at).timestamp()):
        rest = client.get("/pages", query_string={"before": before}).get_json()["pages"]
        assert [page["id"] for page in rest] == ids[1::-1]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"ttl": 60}, "ttl"),
        ({"fresh": True}, "fresh"),
        ({"format": "auto"}, "format"),
        ({"format": "pdf"}, "format"),
        ({"refresh_seconds": 59}, "refresh_seconds"),
        ({"refresh_seconds": 31_536_001}, "refresh_seconds"),
        ({"width": 1}, "width"),
        ({"preset": "poster"}, "preset"),
    ],
)
def test_what_cannot_be_kept_is_refused(client: FlaskClient, body: dict[str, Any], field: str) -> None:
    kept = client.patch(f"/pages/{keep(client)['id']}", json=body)
    for refused in (client.post("/pages", json={"url": TARGET, **body}), kept):
        assert refused.status_code == 400
        assert field in refused.get_json()["errors"]


def test_no_more_pages_are_kept_than_allowed(upstream: Upstream, tmp_path: Path) -> None:
    with ExitStack() as held:
        settings = snapapi_environment(
            upstream.url,
            DATABASE_URL=f"sqlite:///{tmp_path}/pages.sqlite3",
            MEDIA_DIR=str(tmp_path / "media"),
            PAGE_LIMIT="1",
        )
        client = held.enter_context(client_of(settings))
        keep(client)
        refused = client.post("/pages", json={"url": TARGET})
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "3600")
        assert refused.get_json()["type"] == "/problems/overloaded"
