"""What holds for every storage, and what the keys of objects are made of."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.support.s3 import S3Server, record_of, running_s3
from tests.support.storages import NOT_KEYS, RECORD, URL
from thumbnailer.local_storage import LocalStorage
from thumbnailer.s3_storage import S3Storage
from thumbnailer.storage import (
    DEFAULT_KEY_TEMPLATE,
    Storage,
    check_key_template,
    object_key,
)


@pytest.fixture(scope="module")
def s3_over_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="module")
def s3_over_https(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3-tls"), tls=True) as server:
        yield server


@dataclass(frozen=True)
class Room:
    """A storage, the public URL that it was given, and a way to read the bytes past it."""

    storage: Storage
    public_base_url: str
    read: Callable[[str], bytes]


PUBLIC_BASE_URL = "https://cdn.example/media/"


@pytest.fixture(params=["local folder", "S3 over http", "S3 over https"])
def room(request: pytest.FixtureRequest, tmp_path: Path) -> Room:
    if request.param == "local folder":
        folder = tmp_path / "media"
        return Room(
            LocalStorage(folder, PUBLIC_BASE_URL), PUBLIC_BASE_URL, lambda key: (folder / key).read_bytes()
        )
    server: S3Server = request.getfixturevalue(request.param.lower().replace(" ", "_"))
    settings = replace(server.settings(), public_base_url=PUBLIC_BASE_URL)

    def read(key: str) -> bytes:
        body: bytes = server.client().get_object(Bucket=server.bucket, Key=key)["Body"].read()
        return body

    return Room(S3Storage(settings), PUBLIC_BASE_URL, read)


class TestEveryStorage:
    def test_what_was_never_written_is_not_found(self, room: Room, key: str) -> None:
        assert room.storage.find(key) is None

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            pytest.param(b"\x89PNG\r\n\x1a\n small", "image/png", id="a small PNG"),
            pytest.param(os.urandom(3_000_000), "image/webp", id="3 MB of WebP"),
            pytest.param(b"%PDF-1.7 no pixels", "application/pdf", id="a PDF, which has no size in pixels"),
        ],
    )
    def test_what_was_written_is_found_again_whole_and_with_all_that_is_known_of_it(
        self, room: Room, key: str, body: bytes, content_type: str
    ) -> None:
        record = record_of(body, content_type=content_type)
        written = room.storage.write(key, body, record)
        assert room.read(key) == body
        assert room.storage.find(key) == written
        for name in ("sha256", "content_type", "size_bytes", "width", "height", "captured_at"):
            assert getattr(written, name) == getattr(record, name)
        assert (written.key, written.url) == (key, PUBLIC_BASE_URL + key)
        assert written.etag
        assert '"' not in written.etag

    def test_what_was_removed_is_gone_and_may_be_written_again(self, room: Room, key: str) -> None:
        body = b"\x89PNG not for ever"
        room.storage.write(key, body, record_of(body))
        for _ in range(2):
            room.storage.remove(key)
            assert room.storage.find(key) is None
        with pytest.raises(Exception, match=r"No such file|NoSuchKey"):
            room.read(key)
        assert room.storage.find(room.storage.write(key, body, record_of(body)).key)

    @pytest.mark.parametrize("name", NOT_KEYS)
    def test_what_is_no_key_removes_nothing(self, room: Room, name: str, tmp_path: Path) -> None:
        media = tmp_path / "media"
        beside = [tmp_path / "secret.png", media / "thumbs/.x.part", media / ".records/thumbs/x.png.json"]
        for each in beside:
            each.parent.mkdir(parents=True, exist_ok=True)
            each.touch()
        room.storage.remove(NOT_KEYS[name])
        assert [each for each in beside if not each.exists()] == []

    def test_writing_the_same_picture_twice_is_harmless(self, room: Room, key: str) -> None:
        body = b"\x89PNG once and again"
        room.storage.write(key, body, record_of(body))
        room.storage.write(key, body, record_of(body))
        assert room.read(key) == body
        assert room.storage.find(key) is not None

    @pytest.mark.parametrize(
        ("start", "in_url"),
        [
            pytest.param("übersicht/größe/", "%C3%BCbersicht/gr%C3%B6%C3%9Fe/", id="umlauts"),
            pytest.param("site=a.example/x_y-z/", "site%3Da.example/x_y-z/", id="punctuation"),
            pytest.param("画像/", "%E7%94%BB%E5%83%8F/", id="CJK"),
        ],
    )
    def test_keys_of_any_letters_work_and_are_percent_encoded_in_the_url(
        self, room: Room, key: str, start: str, in_url: str
    ) -> None:
        body = start.encode()
        written = room.storage.write(start + key, body, record_of(body))
        assert written.url == room.public_base_url + in_url + key
        assert room.read(start + key) == body
        assert room.storage.find(start + key) == written

    @pytest.mark.parametrize("not_a_key", NOT_KEYS.values(), ids=NOT_KEYS.keys())
    def test_what_is_no_key_is_never_found_nor_written(self, room: Room, not_a_key: str) -> None:
        assert room.storage.find(not_a_key) is None
        with pytest.raises(ValueError, match="not an object key"):
            room.storage.write(not_a_key, b"x", record_of(b"x"))

    def test_twenty_threads_get_each_its_own_picture(self, room: Room, key: str) -> None:
        def write_and_find(number: int) -> None:
            own_key, body = f"{number}/{key}", os.urandom(50_000)
            written = room.storage.write(own_key, body, record_of(body))
            assert room.storage.find(own_key) == written
            assert written.sha256 == hashlib.sha256(body).hexdigest()
            assert room.read(own_key) == body

        with ThreadPoolExecutor(20) as threads:
            assert list(threads.map(write_and_find, range(20))) == [None] * 20

    def test_ten_threads_may_write_the_same_key(self, room: Room, key: str) -> None:
        body = os.urandom(100_000)
        with ThreadPoolExecutor(10) as threads:
            written = set(threads.map(lambda _: room.storage.write(key, body, record_of(body)), range(10)))
        assert written == {room.storage.find(key)}
        assert room.read(key) == body

    def test_it_is_ready(self, room: Room) -> None:
        assert room.storage.is_ready()


class TestObjectKey:
    def test_the_default_key_is_a_digest_of_the_request_and_the_picture(self) -> None:
        digest = hashlib.sha256(f"o1\nabc\n{RECORD.sha256}".encode()).hexdigest()
        assert (
            object_key(DEFAULT_KEY_TEMPLATE, capture_key="abc", record=RECORD, url=URL)
            == f"thumbs/{digest}.png"
        )

    def test_another_request_or_another_picture_has_another_key(self) -> None:
        keys = {
            object_key(DEFAULT_KEY_TEMPLATE, capture_key=capture_key, record=record_of(content), url=URL)
            for capture_key in ("a", "b")
            for content in (b"1", b"2")
        }
        assert len(keys) == 4

    def test_the_moment_of_the_capture_does_not_change_the_key(self) -> None:
        later = replace(RECORD, captured_at=1.0, upstream_seconds=9.0)
        assert object_key(DEFAULT_KEY_TEMPLATE, capture_key="a", record=later, url=URL) == object_key(
            DEFAULT_KEY_TEMPLATE, capture_key="a", record=RECORD, url=URL
        )

    @pytest.mark.parametrize(
        ("content_type", "ending"),
        [
            ("image/png", ".png"),
            ("image/jpeg", ".jpg"),
            ("image/webp", ".webp"),
            ("image/avif", ".avif"),
            ("application/pdf", ".pdf"),
            ("application/x-new", ".bin"),
        ],
    )
    def test_the_ending_is_that_of_the_content_type(self, content_type: str, ending: str) -> None:
        record = record_of(b"a picture", content_type=content_type)
        assert object_key(DEFAULT_KEY_TEMPLATE, capture_key="a", record=record, url=URL).endswith(ending)

    @pytest.mark.parametrize(
        ("url", "host"),
        [
            pytest.param("https://www.Example.com:8443/a?b", "www.example.com", id="in lower case, no port"),
            pytest.param("https://xn--bcher-kva.example/", "xn--bcher-kva.example", id="punycode"),
            pytest.param("http://[2606:4700::1111]/", "2606-4700-1111", id="IPv6"),
            pytest.param("http://a..b_c/", "a..b-c", id="odd characters"),
            pytest.param("http://.../", "unknown", id="nothing but dots"),
            pytest.param(f"http://{'x' * 300}/", "x" * 100, id="over-long"),
            pytest.param("mailto:nobody", "unknown", id="no host"),
        ],
    )
    def test_the_host_of_the_target_can_stand_in_the_key(self, url: str, host: str) -> None:
        made = object_key("{host}/{digest}", capture_key="a", record=RECORD, url=url)
        assert made.rpartition("/")[0] == host

    @pytest.mark.parametrize(
        "template",
        [
            DEFAULT_KEY_TEMPLATE,
            "{digest}",
            "{host}/{digest}.{ext}",
            "größe/v1_{host}-{digest}/{digest}.{ext}",
        ],
    )
    def test_a_sound_template_is_accepted(self, template: str) -> None:
        check_key_template(template)

    @pytest.mark.parametrize(
        ("template", "fault"),
        [
            pytest.param("thumbs/picture.png", "lacks {digest}", id="no digest"),
            pytest.param("", "lacks {digest}", id="empty"),
            pytest.param("{digest}.{extension}", "unknown placeholder {extension}", id="unknown name"),
            pytest.param("{}{digest}", "unknown placeholder {}", id="no name"),
            pytest.param("{digest.__class__}", "unknown placeholder", id="an attribute"),
            pytest.param("{digest!r}", "format or conversion", id="a conversion"),
            pytest.param("{digest:>100}", "format or conversion", id="a format"),
            pytest.param("{digest", "brace", id="an open brace"),
            pytest.param("{{x}}{digest}", "letters, digits", id="literal braces"),
            pytest.param("../{digest}", '".."', id="upwards"),
            pytest.param("a..b/{digest}", '".."', id="two dots"),
            pytest.param("/{digest}", "nor slash at either end", id="absolute"),
            pytest.param("{digest}/", "nor slash at either end", id="a folder"),
            pytest.param("a//{digest}", "none empty", id="an empty segment"),
            pytest.param("a/.{digest}", "starting with a dot", id="hidden"),
            pytest.param("a b/{digest}", "letters, digits", id="a space"),
            pytest.param("a?{digest}", "letters, digits", id="a question mark"),
            pytest.param("{digest}" * 4, "200 bytes", id="an over-long segment"),
            pytest.param("/".join(["{digest}"] * 17), "1024 bytes", id="over-long"),
        ],
    )
    def test_a_faulty_template_is_refused_with_a_reason(self, template: str, fault: str) -> None:
        with pytest.raises(ValueError, match=fault.replace("{", r"\{").replace("..", r"\.\.")):
            check_key_template(template)
