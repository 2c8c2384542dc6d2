"""The storage in a local folder."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.s3 import record_of
from tests.support.storages import NOT_KEYS
from thumbnailer.errors import ObjectNotFound, StorageUnavailable
from thumbnailer.local_storage import LocalStorage


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
        storage.remove(key)
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
        assert [path.suffix for path in synced].count(".part") == 2, "and so are the image and its label"
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

    def test_no_image_lies_without_its_label_whatever_fails_in_between(
        self, storage: LocalStorage, folder: Path, key: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rename, unlink, steps = Path.replace, Path.unlink, [False, True]

        def rename_once(draft: Path, target: Path) -> Path:
            if steps.pop(0):
                raise OSError(errno.EIO, "broken")
            return rename(draft, target)

        def unlink_images(path: Path, missing_ok: bool = False) -> None:
            if path.suffix == ".json":
                raise OSError(errno.EIO, "broken")
            unlink(path, missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", rename_once)
            with pytest.raises(StorageUnavailable):
                storage.write(key, b"x", record_of(b"x"))
        assert not (folder / key).exists()
        storage.write(key, b"x", record_of(b"x"))
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", unlink_images)
            with pytest.raises(StorageUnavailable):
                storage.remove(key)
        assert not (folder / key).exists()

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
