"""Storage in a local folder."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from thumbnailer.errors import ObjectNotFound, StorageUnavailable
from thumbnailer.model import CaptureRecord
from thumbnailer.storage import StoredImage, is_object_key, object_url, storage_unavailable

MIN_FREE_BYTES = 32 * 1024 * 1024
NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored image that lies in a local folder."""

    path: Path
    image: StoredImage


class LocalStorage:
    """Keeps images as files below one folder, which need not exist yet.

    ``thumbs/x.png`` is the image itself and ``.records/thumbs/x.png.json`` its label: what is known
    of it. An image without its label, or of another size than the label says, is none. Every image
    is public at ``public_base_url`` + key.

    The folder may itself be reached by a symbolic link, but none below it is followed. A process
    that is killed while it writes may leave a hidden file ``.….part`` behind, which nobody misses.
    """

    def __init__(self, folder: Path, public_base_url: str) -> None:
        self._folder = folder.resolve()
        self._public_base_url = public_base_url

    def find(self, key: str) -> StoredImage | None:
        """See ``Storage.find``."""
        try:
            return self.open(key).image
        except ObjectNotFound:
            return None

    def open(self, key: str) -> StoredFile:
        """The file of a stored image, for whoever serves it.

        Raises:
            ObjectNotFound: no stored image has that key, or it is no key at all.
            StorageUnavailable: the folder cannot be read.
        """
        if not is_object_key(key):
            raise ObjectNotFound("No stored image has that key.")
        path, label = self._folder / key, self._label(key)
        try:
            self._refuse_links(path, label)
            status = path.lstat()
            image = self._image_of_label(key, label.read_bytes())
        except OSError as error:
            if error.errno in NOT_THERE:
                raise ObjectNotFound("No stored image has that key.") from None
            raise _failed("find", key, error) from error
        if not stat.S_ISREG(status.st_mode) or status.st_size != image.size_bytes:
            raise ObjectNotFound("No stored image has that key.")
        return StoredFile(path, image)

    def write(self, key: str, body: bytes, record: CaptureRecord) -> StoredImage:
        """See ``Storage.write``."""
        if not is_object_key(key):
            raise ValueError(f"not an object key: {key!r}")
        url = object_url(self._public_base_url, key)
        image = StoredImage.of_record(record, key=key, url=url, etag=record.etag)
        facts = json.dumps(asdict(image)).encode()
        path, label = self._folder / key, self._label(key)
        try:
            self._refuse_links(path, label)
            # Both lie on the disk in full before either gets its name, and the label gets it first:
            # wherever this stops, there is never half an image nor one without a label.
            with _draft(label, facts) as label_draft, _draft(path, body) as draft:
                _put_in_place(label_draft, label)
                _put_in_place(draft, path)
        except OSError as error:
            raise _failed("write", key, error) from error
        return image

    def remove(self, key: str) -> None:
        """See ``Storage.remove``; the image goes first, so that none is left without its label."""
        if not is_object_key(key):
            return
        path, label = self._folder / key, self._label(key)
        try:
            self._refuse_links(path, label)
            for each in (path, label):
                each.unlink(missing_ok=True)
        except OSError as error:
            if error.errno not in NOT_THERE:
                raise _failed("remove", key, error) from error

    def presigned_url(self, key: str, seconds: int) -> str | None:  # noqa: ARG002  # the protocol's signature
        """None: whatever lies in the folder is public."""
        return None

    def is_ready(self) -> bool:
        """Whether the folder is there or can be made, may be written to, and the disk is not full."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            disk = os.statvfs(self._folder)
        except OSError as error:
            _log.warning("storage_not_ready", error=type(error).__name__)
            return False
        return os.access(self._folder, os.W_OK | os.X_OK) and disk.f_bavail * disk.f_frsize >= MIN_FREE_BYTES

    def _label(self, key: str) -> Path:
        return self._folder / ".records" / f"{key}.json"

    def _image_of_label(self, key: str, label: bytes) -> StoredImage:
        try:
            facts = json.loads(label) | {"key": key, "url": object_url(self._public_base_url, key)}
            return StoredImage(**facts)
        except (ValueError, TypeError):
            _log.warning("storage_label_damaged", object_key=key)
            raise ObjectNotFound("No stored image has that key.") from None

    def _refuse_links(self, *paths: Path) -> None:
        steps = {step for path in paths for step in (path, *path.parents) if self._folder in step.parents}
        if any(step.is_symlink() for step in steps):
            raise OSError(errno.ELOOP, "a symbolic link lies on the way")


@contextlib.contextmanager
def _draft(target: Path, content: bytes) -> Iterator[Path]:
    """A hidden file beside ``target`` that holds ``content`` on the disk; gone at the end."""
    _make_folder(target.parent)
    draft = target.with_name(f".{secrets.token_hex(16)}.part")
    try:
        with draft.open("xb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)  # for a web server that runs as another user
            os.fsync(file.fileno())
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def _put_in_place(draft: Path, target: Path) -> None:
    draft.replace(target)
    _put_on_disk(target.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing."""
    missing = [each for each in (folder, *folder.parents) if not each.is_dir()]
    folder.mkdir(parents=True, exist_ok=True)
    for each in missing:
        _put_on_disk(each.parent)


def _put_on_disk(folder: Path) -> None:
    """A new name survives a power cut only once the folder that it stands in is on the disk."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def _failed(operation: str, key: str, error: OSError) -> StorageUnavailable:
    reason = errno.errorcode.get(error.errno or 0, "unknown")
    _log.error("storage_failed", operation=operation, object_key=key, error=reason)
    return storage_unavailable()
