"""Storage: what is written is found again, whole and labelled, in a folder as in a bucket."""

from __future__ import annotations

import hashlib
import json
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.s3 import S3Server, forget_aws_settings, record_of, running_s3
from thumbnailer.errors import ObjectNotFound, StorageUnavailable
from thumbnailer.local_storage import LocalStorage
from thumbnailer.s3_storage import S3Storage
from thumbnailer.storage import (
    DEFAULT_KEY_TEMPLATE,
    Storage,
    check_key_template,
    object_key,
)

RECORD = record_of(b"\x89PNG a picture")
URL = "https://example.com/"
NOT_KEYS = {
    "nothing": "",
    "absolute": "/etc/passwd",
    "upwards": "../secret.png",
    "upwards in the middle": "thumbs/../../secret.png",
    "upwards at the end": "thumbs/..",
    "the folder itself": ".",
    "a hidden file": "thumbs/.x.part",
    "a label": ".records/thumbs/x.png.json",
    "an empty segment": "thumbs//x.png",
    "a slash at the end": "thumbs/x.png/",
    "NUL": "thumbs/x\0.png",
    "a line break": "thumbs/x.png\n",
    "a backslash": "thumbs\\x.png",
    "percent-encoded dots": "%2e%2e/x.png",
    "a lone surrogate": "thumbs/\ud800.png",
    "an over-long name": "x" * 201,
    "an over-long name in two-byte letters": "ü" * 101,
    "an over-long path": "/".join(["x" * 100] * 11),
}


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_aws_settings(monkeypatch)


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


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key of this test's own."""
    return object_key(DEFAULT_KEY_TEMPLATE, capture_key=request.node.nodeid, record=RECORD, url=URL)


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


class TestLocalFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "media"

    @pytest.fixture
    def storage(self, folder: Path) -> LocalStorage:
        return LocalStorage(folder, "/media")

    def test_a_stored_file_can_be_opened_for_serving(self, storage: LocalStorage, key: str) -> None:
        body = b"\x89PNG to be served"
        written = storage.write(key, body, record_of(body))
        stored = storage.open(key)
        assert (stored.path.read_bytes(), stored.image) == (body, written)
        assert stored.image.url == f"/media/{key}"
        assert stored.image.etag == record_of(body).etag

    def test_the_public_url_may_change_later(self, storage: LocalStorage, folder: Path, key: str) -> None:
        written = storage.write(key, b"x", record_of(b"x"))
        moved = LocalStorage(folder, "https://elsewhere.example").find(key)
        assert moved == replace(written, url=f"https://elsewhere.example/{key}")

    @pytest.mark.parametrize(
        "asked",
        [*NOT_KEYS.values(), "thumbs", "thumbs/there.png/below.png", "thumbs/none.png"],
        ids=[*NOT_KEYS.keys(), "a folder", "below a file", "never written"],
    )
    def test_only_keys_of_stored_images_open(self, storage: LocalStorage, folder: Path, asked: str) -> None:
        storage.write("thumbs/there.png", b"x", record_of(b"x"))
        (folder.parent / "secret.png").write_bytes(b"secret")
        with pytest.raises(ObjectNotFound) as caught:
            storage.open(asked)
        assert str(caught.value) == "No stored image has that key."

    @pytest.mark.parametrize("linked", ["file", "folder", "folder of labels", "circle"])
    def test_symbolic_links_are_neither_followed_nor_written_through(
        self, storage: LocalStorage, folder: Path, linked: str
    ) -> None:
        key = "thumbs/deep/x.png"
        written = storage.write(key, b"x", record_of(b"x"))
        link = {
            "file": folder / key,
            "circle": folder / key,
            "folder": folder / "thumbs",
            "folder of labels": folder / ".records",
        }[linked]
        outside = folder.parent / "outside"
        link.rename(outside)
        link.symlink_to(link if linked == "circle" else outside)
        assert storage.find(key) is None
        with pytest.raises(ObjectNotFound):
            storage.open(key)
        with pytest.raises(StorageUnavailable), capture_logs() as logs:
            storage.write(key, b"y", record_of(b"y"))
        assert logs[0]["error"] == "ELOOP"
        link.unlink()
        outside.rename(link)
        assert storage.find(key) == written

    def test_the_folder_itself_may_be_a_link(self, folder: Path, key: str) -> None:
        (folder.parent / "big-disk").mkdir()
        folder.symlink_to("big-disk")
        storage = LocalStorage(folder, "/media")
        written = storage.write(key, b"x", record_of(b"x"))
        assert storage.find(key) == written

    @pytest.mark.parametrize(
        "damage", ["no image", "half an image", "no label", "half a label", "another label", "no moment"]
    )
    def test_what_a_crash_or_a_damage_leaves_is_no_image_and_the_next_write_heals_it(
        self, storage: LocalStorage, folder: Path, key: str, damage: str
    ) -> None:
        body = b"\x89PNG whole"
        written = storage.write(key, body, record_of(body))
        image, label = folder / key, folder / ".records" / f"{key}.json"
        match damage:
            case "no image":
                image.unlink()
            case "half an image":
                image.write_bytes(body[:4])
            case "no label":
                label.unlink()
            case "half a label":
                label.write_text(label.read_text()[:20])
            case "no moment":
                label.write_text(json.dumps(json.loads(label.read_text()) | {"captured_at": math.nan}))
            case _:
                label.write_text('["not", "ours"]')
        assert storage.find(key) is None
        assert storage.write(key, body, record_of(body)) == written
        assert storage.find(key) == written

    def test_the_name_of_a_new_folder_is_on_the_disk_before_the_image_counts_as_stored(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[Path] = []
        sync = os.fsync

        def noted_sync(descriptor: int) -> None:
            synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
            sync(descriptor)

        monkeypatch.setattr(os, "fsync", noted_sync)
        folder = tmp_path / "media"
        storage = LocalStorage(folder, "/media")
        storage.write("pages/one/x.png", b"x", record_of(b"x"))
        records = folder / ".records"
        named = {
            folder,
            folder / "pages",
            folder / "pages/one",
            records,
            records / "pages",
            records / "pages/one",
        }
        assert named | {tmp_path} <= set(synced)
        synced.clear()
        storage.write("pages/one/y.png", b"x", record_of(b"x"))
        assert {path for path in synced if path.is_dir()} == {folder / "pages/one", records / "pages/one"}

    def test_files_are_readable_for_all_whatever_the_umask(
        self, storage: LocalStorage, folder: Path, key: str
    ) -> None:
        before = os.umask(0o077)
        try:
            storage.write(key, b"x", record_of(b"x"))
        finally:
            os.umask(before)
        assert (folder / key).stat().st_mode & 0o777 == 0o644

    def test_a_full_disk_leaves_nothing_behind(self, folder: Path, key: str) -> None:
        script = textwrap.dedent("""
            import resource, sys
            from pathlib import Path
            from tests.support.s3 import record_of
            from thumbnailer.errors import StorageUnavailable
            from thumbnailer.local_storage import LocalStorage

            folder, key = Path(sys.argv[1]), sys.argv[2]
            storage, body = LocalStorage(folder, "/media"), bytes(20_000)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))  # no file grows beyond this
            try:
                storage.write(key, body, record_of(body))
            except StorageUnavailable as error:
                assert storage.find(key) is None
                print(error, end="")
        """)
        run = subprocess.run(
            [sys.executable, "-c", script, str(folder), key], capture_output=True, text=True, check=True
        )
        assert run.stdout.endswith("The storage for images does not work at present.")
        assert "EFBIG" in run.stdout
        assert [path for path in folder.rglob("*") if path.is_file()] == []

    def test_a_name_that_cannot_be_taken_leaves_the_storage_as_it_was(
        self, storage: LocalStorage, folder: Path, key: str
    ) -> None:
        (folder / key / "in-the-way").mkdir(parents=True)
        with pytest.raises(StorageUnavailable) as caught:
            storage.write(key, b"x", record_of(b"x"))
        assert str(folder) not in str(caught.value)
        assert storage.find(key) is None
        assert list(folder.rglob("*.part")) == []

    def test_a_folder_that_cannot_be_made_is_unavailable_and_not_ready(
        self, storage: LocalStorage, folder: Path, key: str
    ) -> None:
        folder.write_text("a file where the folder should be")
        assert not storage.is_ready()
        with pytest.raises(StorageUnavailable) as caught:
            storage.write(key, b"x", record_of(b"x"))
        assert caught.value.retryable
        assert caught.value.retry_after_seconds

    def test_nothing_needs_to_be_signed(self, storage: LocalStorage, key: str) -> None:
        assert storage.presigned_url(key, 60) is None
