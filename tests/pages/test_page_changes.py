"""Pages that are changed, forgotten, listed or refused."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import update

from blueprints import cursors
from blueprints.services import EXTENSION, Services
from tests.support import answers
from tests.support.access import make_key
from tests.support.kept_pages import fall_due, keep, look, ready, when
from tests.support.processes import wait_until
from tests.support.receivers import running_receiver, url_of
from tests.support.service import TARGET, client_of, running_app, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.keys import Scope
from thumbnailer.pages import Page, PageOrder, PageState
from thumbnailer.pages.tables import pages


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
    deleted = client.delete(f"/pages/{page_id}")
    assert (deleted.status_code, deleted.data, "Content-Type" in deleted.headers) == (204, b"", False)
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
        assert client.get("/pages", headers=others).get_json()["pages"] == []
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


@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "as they come"])
def test_a_long_list_of_pages_goes_on_where_its_answer_says(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, one_by_one: bool
) -> None:
    """Also where what was seen last is deleted meanwhile."""
    monkeypatch.setattr(cursors, "MAX_LISTED", 1 if one_by_one else 2)
    ids = [keep(client, width=width)["id"] for width in (800, 801, 802)]
    seen, cursor = list[str](), None
    while cursor or not seen:
        answer = client.get("/pages", query_string={"cursor": cursor} if cursor else {}).get_json()
        seen += [page["id"] for page in answer["pages"]]
        client.delete(f"/pages/{seen[-1]}")
        cursor = answer["next_cursor"]
    assert seen == ids[::-1]


@pytest.mark.parametrize("cursor", ["", "2026-11-21T07:44:47Z", "1.5", "1.5_", "1e3_pag_a", "1.5_pag_a\n"])
def test_a_list_goes_on_nowhere_else(client: FlaskClient, cursor: str) -> None:
    for path in ("/pages", "/webhooks/deliveries"):
        refused = client.get(path, query_string={"cursor": cursor})
        assert (refused.status_code, [*refused.get_json()["errors"]]) == (400, ["cursor"])


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
        ({"colour": None}, "colour"),
        ({"ttl": None}, "ttl"),
        ({"fail_on_status": "404"}, None),
    ],
)
def test_what_cannot_be_kept_is_refused(client: FlaskClient, body: dict[str, Any], field: str | None) -> None:
    kept = client.patch(f"/pages/{keep(client)['id']}", json=body)
    for refused in (client.post("/pages", json={"url": TARGET, **body}), kept):
        assert refused.status_code == (400 if field else 422)
        assert field is None or field in refused.get_json()["errors"]


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
