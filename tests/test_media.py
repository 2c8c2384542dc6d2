"""``GET /media/<key>``: stored images are served for ever, and nothing beside them.

Parts and conditions are held by ``tests/test_conditions.py``, for this route as for the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.pictures import picture
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.local_storage import LocalStorage, StoredFile

BODY = picture()
SIZE = len(BODY)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def client(folder: Path) -> Iterator[FlaskClient]:
    with (
        Upstream() as upstream,
        client_of(snapapi_environment(upstream.url, MEDIA_DIR=str(folder))) as client,
    ):
        yield client


@pytest.fixture
def stored(client: FlaskClient) -> dict[str, Any]:
    answer: dict[str, Any] = client.post("/persist", json={"url": TARGET}).get_json()
    return answer


def _fetch(client: FlaskClient, key: str, method: str = "GET", **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.open(f"/media/{key}", method=method, headers=named, buffered=True)


def test_a_stored_image_is_served_for_ever(client: FlaskClient, stored: dict[str, Any]) -> None:
    response = _fetch(client, stored["key"])
    assert (response.status_code, response.data) == (200, BODY)
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Content-Length"] == str(SIZE)
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["ETag"] == f'"{stored["etag"]}"'
    assert "Last-Modified" in response.headers
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'"
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert response.headers["Content-Disposition"].startswith("inline")
    assert response.headers["X-Request-ID"]


def test_it_is_the_answer_of_persist_that_says_which_image_it_is(
    client: FlaskClient, stored: dict[str, Any]
) -> None:
    response = _fetch(client, stored["key"])
    assert response.last_modified is not None
    assert response.last_modified.isoformat()[:19] == stored["captured_at"][:19]


def test_head_answers_as_get_without_a_body(client: FlaskClient, stored: dict[str, Any]) -> None:
    head, whole = _fetch(client, stored["key"], "HEAD"), _fetch(client, stored["key"])
    assert (head.status_code, head.data) == (200, b"")
    for name in ("Content-Type", "Content-Length", "ETag", "Last-Modified", "Cache-Control"):
        assert head.headers[name] == whole.headers[name]


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "thumbs/../../secret.txt",
        "%2e%2e/secret.txt",
        "..%2fsecret.txt",
        "..%5csecret.txt",
        "..\\secret.txt",
        "%252e%252e%252fsecret.txt",
        "thumbs%2f..%2f..%2fsecret.txt",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "secret.txt%00.png",
        "link.png",
        "folder/secret.txt",
        "plain.png",
        ".records/plain.png.json",
        "thumbs",
        "thumbs/",
        "x" * 5000,
        "%ff%fe",
        "nul",
    ],
)
def test_nothing_but_stored_images_can_be_fetched(
    client: FlaskClient, stored: dict[str, Any], folder: Path, path: str
) -> None:
    secret = folder.parent / "secret.txt"
    secret.write_text("secret")
    (folder / "link.png").symlink_to(secret)
    (folder / "folder").symlink_to(folder.parent)
    (folder / "plain.png").write_bytes(b"nobody stored this")
    response = client.get(f"/media/{path}", follow_redirects=True, buffered=True)
    assert response.status_code == 404
    assert response.get_json()["type"] == "/problems/not-found"
    assert "secret" not in response.text
    assert str(folder) not in response.text


def test_the_label_of_an_image_is_nobodys_business(client: FlaskClient, stored: dict[str, Any]) -> None:
    assert _fetch(client, f".records/{stored['key']}.json").status_code == 404


def test_an_image_that_was_cut_off_on_the_disk_is_not_served(
    client: FlaskClient, stored: dict[str, Any], folder: Path
) -> None:
    (folder / stored["key"]).write_bytes(BODY[:100])
    assert _fetch(client, stored["key"]).status_code == 404
    again = client.post("/persist", json={"url": TARGET})
    assert (again.status_code, again.get_json()["key"]) == (201, stored["key"])
    assert _fetch(client, stored["key"]).data == BODY


def test_an_image_that_is_deleted_while_it_is_asked_for_is_not_there(
    client: FlaskClient, stored: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_for_good = LocalStorage.open

    def open_and_delete(storage: LocalStorage, key: str) -> StoredFile:
        found = open_for_good(storage, key)
        storage.remove(key)
        return found

    monkeypatch.setattr(LocalStorage, "open", open_and_delete)
    response = _fetch(client, stored["key"])
    assert response.status_code == 404
    assert response.get_json()["type"] == "/problems/not-found"


def test_an_image_whose_label_is_damaged_is_not_served(
    client: FlaskClient, stored: dict[str, Any], folder: Path
) -> None:
    label = folder / ".records" / f"{stored['key']}.json"
    for damage in ("", "{", "[]", "null", json.dumps({"sha256": "x"})):
        label.write_text(damage)
        assert _fetch(client, stored["key"]).status_code == 404, damage


def test_other_methods_are_refused(client: FlaskClient, stored: dict[str, Any]) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        response = _fetch(client, stored["key"], method)
        assert response.status_code == 405
        assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD"}
