"""``POST /persist``: a picture is stored for good, once, in the local folder or in a bucket."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask.testing import FlaskClient

from blueprints.services import EXTENSION
from tests.support import answers
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.s3 import (
    Fault,
    S3Server,
    SmallS3,
    forget_aws_settings,
    refusing_s3,
    running_s3,
    small_s3,
)
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.s3_storage import S3Storage

IMMUTABLE = "public, max-age=31536000, immutable"
FIELDS = {
    "url",
    "cached",
    "key",
    "etag",
    "sha256",
    "content_type",
    "size_bytes",
    "width",
    "height",
    "captured_at",
}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_aws_settings(monkeypatch)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def client(upstream: Upstream, media: Path) -> Iterator[FlaskClient]:
    settings = snapapi_environment(upstream.url, MEDIA_DIR=str(media), RATELIMIT_ENABLED="false")
    with client_of(settings) as client:
        yield client


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        server.require_signatures(required=False)  # this server cannot check presigned URLs
        yield server


def _s3_environment(upstream: Upstream, **s3: str) -> dict[str, str]:
    settings = {"S3_BUCKET": "thumbs", "S3_REGION": "eu-central-1", "S3_ADDRESSING_STYLE": "path"}
    settings |= {"S3_ACCESS_KEY_ID": "AKIDOFTHETESTS", "S3_SECRET_ACCESS_KEY": "secret-of-the-tests"}
    return snapapi_environment(upstream.url, RATELIMIT_ENABLED="false", **(settings | s3))


def _bucket_of(s3: S3Server) -> dict[str, str]:
    return {
        "S3_BUCKET": s3.bucket,
        "S3_ENDPOINT_URL": s3.endpoint_url,
        "S3_ACCESS_KEY_ID": s3.access_key_id,
        "S3_SECRET_ACCESS_KEY": s3.secret_access_key,
    }


@pytest.fixture
def bucket_client(upstream: Upstream, s3: S3Server) -> Iterator[FlaskClient]:
    with client_of(_s3_environment(upstream, **_bucket_of(s3))) as client:
        yield client


@pytest.fixture
def wire() -> Iterator[SmallS3]:
    with small_s3() as small:
        yield small


@pytest.fixture
def wire_client(upstream: Upstream, wire: SmallS3) -> Iterator[FlaskClient]:
    with client_of(_s3_environment(upstream, S3_ENDPOINT_URL=wire.endpoint_url)) as client:
        yield client


def _files(folder: Path) -> dict[str, int]:
    """Every file with the time of its last change in nanoseconds."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def _assert_describes(answer: dict[str, Any], body: bytes, content_type: str = "image/png") -> None:
    assert set(answer) == FIELDS
    assert answer["sha256"] == hashlib.sha256(body).hexdigest()
    assert answer["size_bytes"] == len(body)
    assert answer["content_type"] == content_type
    assert (answer["width"], answer["height"]) == (320, 200)
    age = datetime.now(UTC) - datetime.fromisoformat(answer["captured_at"])
    assert 0 <= age.total_seconds() < 60


class TestLocalFolder:
    def test_a_picture_is_stored_and_can_be_fetched_where_the_answer_says(self, client: FlaskClient) -> None:
        response = client.post("/persist", json={"url": TARGET})
        assert response.status_code == 201
        answer = response.get_json()
        _assert_describes(answer, picture())
        assert answer["cached"] is False
        assert answer["key"].startswith("thumbs/")
        assert answer["key"].endswith(".png")
        assert response.headers["Location"] == answer["url"] == f"http://localhost/media/{answer['key']}"
        assert response.headers["Cache-Control"] == "no-store"
        fetched = client.get(urlsplit(answer["url"]).path, buffered=True)
        assert fetched.data == picture()
        assert fetched.headers["ETag"] == f'"{answer["etag"]}"'

    def test_the_same_again_is_known_and_nothing_is_written(
        self, client: FlaskClient, upstream: Upstream, media: Path
    ) -> None:
        first = client.post("/persist", json={"url": TARGET})
        files = _files(media)
        second = client.post("/persist", json={"url": TARGET})
        assert (first.status_code, second.status_code) == (201, 200)
        assert second.get_json() == first.get_json() | {"cached": True}
        assert _files(media) == files
        assert len(upstream.requests) == 1

    def test_a_new_capture_that_shows_the_same_is_still_the_same(
        self, client: FlaskClient, upstream: Upstream, media: Path
    ) -> None:
        first = client.post("/persist", json={"url": TARGET})
        files = _files(media)
        forced = client.post("/persist", json={"url": TARGET, "force": True})
        assert forced.status_code == 200
        assert forced.get_json() == first.get_json() | {"cached": True}
        assert _files(media) == files
        assert len(upstream.requests) == 2

    def test_a_picture_that_has_changed_gets_a_url_of_its_own(
        self, client: FlaskClient, upstream: Upstream
    ) -> None:
        first = client.post("/persist", json={"url": TARGET}).get_json()
        upstream.behave(answers.image("png", 640, 400))
        forced = client.post("/persist", json={"url": TARGET, "force": True})
        assert forced.status_code == 201
        assert forced.get_json()["key"] != first["key"]
        assert client.get(f"/media/{first['key']}", buffered=True).data == picture()
        assert client.get(f"/media/{forced.get_json()['key']}", buffered=True).data == picture(
            "png", 640, 400
        )

    @pytest.mark.parametrize(
        "other",
        [
            pytest.param({"url": f"{TARGET}?2"}, id="another target"),
            pytest.param({"url": TARGET, "dark_mode": True}, id="another option"),
            pytest.param({"url": TARGET, "width": 1024}, id="another viewport"),
        ],
    )
    def test_what_was_asked_for_is_part_of_the_key(self, client: FlaskClient, other: dict[str, Any]) -> None:
        first = client.post("/persist", json={"url": TARGET}).get_json()
        second = client.post("/persist", json=other)
        assert second.status_code == 201
        assert second.get_json()["sha256"] == first["sha256"]
        assert second.get_json()["key"] != first["key"]

    def test_what_thumb_has_captured_is_stored_without_another_capture(
        self, client: FlaskClient, upstream: Upstream
    ) -> None:
        client.get("/thumb", query_string={"url": TARGET, "format": "jpeg"})
        response = client.post("/persist", json={"url": TARGET, "format": "jpeg"})
        assert response.status_code == 201
        _assert_describes(response.get_json(), picture("jpeg"), "image/jpeg")
        assert response.get_json()["key"].endswith(".jpg")
        assert len(upstream.requests) == 1

    def test_options_reach_the_provider_and_ads_are_blocked_by_default(
        self, client: FlaskClient, upstream: Upstream
    ) -> None:
        client.post("/persist", json={"url": TARGET, "full_page": True, "delay": 20})
        sent = upstream.requests[0].json
        assert (sent["fullPage"], sent["delay"], sent["blockAds"]) == (True, 20, True)

    def test_a_pdf_is_stored_too(self, client: FlaskClient) -> None:
        answer = client.post("/persist", json={"url": TARGET, "format": "pdf"}).get_json()
        assert answer["key"].endswith(".pdf")
        assert (answer["content_type"], answer["width"], answer["height"]) == ("application/pdf", None, None)
        fetched = client.get(urlsplit(answer["url"]).path, buffered=True)
        assert fetched.content_type == "application/pdf"

    def test_the_url_starts_where_the_public_reaches_the_service(
        self, upstream: Upstream, media: Path
    ) -> None:
        settings = snapapi_environment(
            upstream.url, MEDIA_DIR=str(media), PUBLIC_BASE_URL="https://pictures.example/t"
        )
        with client_of(settings) as client:
            answer = client.post("/persist", json={"url": TARGET}).get_json()
        assert answer["url"] == f"https://pictures.example/t/media/{answer['key']}"

    def test_the_operator_names_the_objects(self, upstream: Upstream, media: Path) -> None:
        settings = snapapi_environment(
            upstream.url, MEDIA_DIR=str(media), STORAGE_KEY_TEMPLATE="p/{host}/{digest}.{ext}"
        )
        with client_of(settings) as client:
            answer = client.post("/persist", json={"url": TARGET}).get_json()
        assert answer["key"].startswith("p/93.184.216.34/")

    def test_public_images_are_not_presigned_and_nobody_is_told_they_were(
        self, client: FlaskClient, upstream: Upstream, media: Path
    ) -> None:
        response = client.post("/persist", json={"url": TARGET, "presign": 60})
        assert response.status_code == 422
        assert response.get_json()["type"] == "/problems/option-unsupported"
        assert list(response.get_json()["errors"]) == ["presign"]
        assert upstream.requests == ()
        assert _files(media) == {}

    def test_a_folder_that_cannot_be_written_keeps_the_capture_for_the_next_try(
        self, client: FlaskClient, upstream: Upstream, media: Path
    ) -> None:
        media.write_text("a file where the folder should be")
        refused = client.post("/persist", json={"url": TARGET})
        _assert_unavailable(refused)
        assert str(media) not in refused.text
        media.unlink()
        assert client.post("/persist", json={"url": TARGET}).status_code == 201
        assert len(upstream.requests) == 1

    def test_nothing_but_a_real_picture_is_stored(
        self, client: FlaskClient, upstream: Upstream, media: Path
    ) -> None:
        upstream.behave(answers.html_as_png())
        response = client.post("/persist", json={"url": TARGET})
        assert response.get_json()["type"] == "/problems/not-an-image"
        assert _files(media) == {}


def _assert_unavailable(response: Any) -> None:
    assert response.status_code == 503, response.text
    assert response.get_json()["type"] == "/problems/storage-unavailable"
    assert response.get_json()["retryable"] is True
    assert int(response.headers["Retry-After"]) >= 1
    assert "127.0.0.1" not in response.text


class TestBucket:
    def test_a_picture_is_stored_and_can_be_fetched_where_the_answer_says(
        self, upstream: Upstream, s3: S3Server
    ) -> None:
        with client_of(_s3_environment(upstream, S3_ACL="public-read", **_bucket_of(s3))) as client:
            response = client.post("/persist", json={"url": f"{TARGET}?public"})
        assert response.status_code == 201
        answer = response.get_json()
        _assert_describes(answer, picture())
        fetched = requests.get(answer["url"], timeout=10)
        assert fetched.content == picture()
        assert fetched.headers["Content-Type"] == "image/png"
        assert fetched.headers["Cache-Control"] == IMMUTABLE
        assert fetched.headers["ETag"] == f'"{answer["etag"]}"'

    def test_the_same_again_is_known_and_the_object_stays_as_it_is(
        self, bucket_client: FlaskClient, s3: S3Server, upstream: Upstream
    ) -> None:
        body = {"url": f"{TARGET}?again"}
        first = bucket_client.post("/persist", json=body)
        s3_client = s3.client()
        stored = s3_client.head_object(Bucket=s3.bucket, Key=first.get_json()["key"])["LastModified"]
        second = bucket_client.post("/persist", json=body)
        forced = bucket_client.post("/persist", json=body | {"force": True})
        assert [one.status_code for one in (first, second, forced)] == [201, 200, 200]
        assert second.get_json() == forced.get_json() == first.get_json() | {"cached": True}
        assert s3_client.head_object(Bucket=s3.bucket, Key=first.get_json()["key"])["LastModified"] == stored
        s3_client.close()
        assert len(upstream.requests) == 2

    def test_only_the_first_time_goes_over_the_wire_as_a_write(
        self, wire_client: FlaskClient, wire: SmallS3
    ) -> None:
        for _ in range(3):
            wire_client.post("/persist", json={"url": TARGET})
        assert [request.method for request in wire.requests] == ["HEAD", "PUT", "HEAD", "HEAD"]

    def test_a_private_bucket_is_opened_by_a_presigned_url(self, bucket_client: FlaskClient) -> None:
        response = bucket_client.post("/persist", json={"url": f"{TARGET}?private", "presign": 120})
        assert response.status_code == 201
        answer = response.get_json()
        assert "X-Amz-Expires=120" in answer["url"]
        assert "X-Amz-Signature=" in answer["url"]
        assert requests.get(answer["url"], timeout=10).content == picture()
        plain = bucket_client.post("/persist", json={"url": f"{TARGET}?private"}).get_json()
        assert plain["url"] == answer["url"].partition("?")[0]
        assert requests.get(plain["url"], timeout=10).status_code == 403

    @pytest.mark.parametrize("kind", ["job", "page"])
    def test_what_is_stored_behind_the_answer_is_opened_by_a_presigned_url_too(
        self, bucket_client: FlaskClient, kind: str
    ) -> None:
        page = f"{TARGET}?{kind}"
        if kind == "job":
            job = bucket_client.post(
                "/screenshots", json={"url": page, "persist": True, "wait": 20}
            ).get_json()
            where, stored_url = job["image_url"], job["stored"]["url"]
        else:
            kept = bucket_client.post("/pages", json={"url": page}).get_json()
            wait_until(lambda: bool(bucket_client.get(f"/pages/{kept['id']}").get_json()["versions"]))
            shown = bucket_client.get(f"/pages/{kept['id']}").get_json()
            where, stored_url = shown["thumb_url"], shown["versions"][0]["url"]
        assert bucket_client.delete("/cache", query_string={"url": page}).status_code == 200
        answer = bucket_client.get(where)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (302, "no-store")
        assert "X-Amz-Expires=300" in answer.headers["Location"]
        assert requests.get(answer.headers["Location"], timeout=10).content == picture()
        assert answer.headers["Location"].partition("?")[0] == stored_url
        assert requests.get(stored_url, timeout=10).status_code == 403

    @pytest.mark.parametrize("seconds", [0, -1, 604_801, "60", True, 1.5])
    def test_a_presigned_url_lives_between_a_second_and_seven_days(
        self, wire_client: FlaskClient, upstream: Upstream, seconds: Any
    ) -> None:
        response = wire_client.post("/persist", json={"url": TARGET, "presign": seconds})
        assert response.status_code == 400
        assert list(response.get_json()["errors"]) == ["presign"]
        assert upstream.requests == ()

    def test_the_url_starts_where_the_public_reaches_the_bucket(
        self, upstream: Upstream, wire: SmallS3
    ) -> None:
        settings = _s3_environment(
            upstream, S3_ENDPOINT_URL=wire.endpoint_url, S3_PUBLIC_BASE_URL="https://cdn.example/p/"
        )
        with client_of(settings) as client:
            answer = client.post("/persist", json={"url": TARGET}).get_json()
        assert answer["url"] == f"https://cdn.example/p/{answer['key']}"

    def test_a_bucket_has_no_media_route(self, wire_client: FlaskClient) -> None:
        key = wire_client.post("/persist", json={"url": TARGET}).get_json()["key"]
        assert wire_client.get(f"/media/{key}").status_code == 404
        assert "/media/{key}" not in wire_client.get("/openapi.json").get_json()["paths"]

    @pytest.mark.parametrize(
        "broken",
        [
            pytest.param(refusing_s3, id="refuses connections"),
            pytest.param(lambda: small_s3(Fault.SILENT), id="accepts and never answers"),
            pytest.param(lambda: small_s3(Fault.SLOW_DOWN), id="asks for a pause"),
            pytest.param(lambda: small_s3(Fault.ACCESS_DENIED), id="refuses our key"),
            pytest.param(lambda: small_s3(Fault.NO_SUCH_BUCKET), id="knows no such bucket"),
            pytest.param(lambda: small_s3(Fault.HTML), id="is no S3 at all"),
        ],
    )
    def test_a_storage_that_is_down_keeps_the_capture_for_the_next_try(
        self,
        wire_client: FlaskClient,
        upstream: Upstream,
        broken: Callable[[], AbstractContextManager[SmallS3]],
    ) -> None:
        app = wire_client.application
        working = app.extensions[EXTENSION]
        with broken() as down:
            app.extensions[EXTENSION] = replace(working, storage=S3Storage(down.settings()))
            _assert_unavailable(wire_client.post("/persist", json={"url": TARGET}))
            assert down.objects == {}
        app.extensions[EXTENSION] = working
        assert wire_client.post("/persist", json={"url": TARGET}).status_code == 201
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("name", ["force", "presign"])
def test_what_persist_alone_can_do_is_no_option_elsewhere(client: FlaskClient, name: str) -> None:
    response = client.post("/screenshot", json={"url": TARGET, name: True})
    assert list(response.get_json()["errors"]) == [name]


def test_a_capture_older_than_its_time_is_taken_anew_before_it_is_stored(
    client: FlaskClient, upstream: Upstream
) -> None:
    body = {"url": TARGET, "ttl": 60}
    assert client.post("/persist", json=body).status_code == 201
    thumbnails = client.application.extensions[EXTENSION].thumbnails
    thumbnails.pipeline._clock = lambda: time.time() + 61
    upstream.behave(answers.image("png", 640, 400))
    again = client.post("/persist", json=body)
    assert (again.status_code, again.get_json()["width"]) == (201, 640)


def test_who_is_limited_hears_that_and_not_that_the_picture_is_old(
    upstream: Upstream, tmp_path: Path
) -> None:
    environment = snapapi_environment(upstream.url, LIMIT_PERSIST="1 per hour", MEDIA_DIR=str(tmp_path))
    with client_of(environment) as client:
        assert client.post("/persist", json={"url": TARGET}).status_code == 201
        limited = client.post("/persist", json={"url": TARGET, "force": True})
    assert limited.get_json()["type"] == "/problems/rate-limited"
    assert "Retry-After" in limited.headers
