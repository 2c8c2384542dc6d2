"""Storage keeps pictures for good: the contract of every storage, object keys, and the local folder.

A stored image never changes, because its key is a digest over the target, every option and the
picture's bytes. So it may be served as ``CACHE_CONTROL`` says, and writing it twice is harmless.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Formatter
from typing import Protocol
from urllib.parse import quote, urlsplit

import structlog

from thumbnailer.errors import ObjectNotFound, StorageUnavailable
from thumbnailer.model import CaptureRecord

#: What a stored image is served with (RFC 9111; ``immutable``: RFC 8246).
CACHE_CONTROL = "public, max-age=31536000, immutable"
DEFAULT_KEY_TEMPLATE = "thumbs/{digest}.{ext}"
KEY_PLACEHOLDERS = frozenset({"digest", "ext", "host"})
RETRY_AFTER_SECONDS = 30.0

DIGEST_VERSION = "o1"
MAX_KEY_BYTES = 1024  # the longest key that S3 takes
MAX_SEGMENT_BYTES = 200  # file systems end at 255; the label's ending has to fit as well
MAX_HOST_CHARACTERS = 100
MIN_FREE_BYTES = 32 * 1024 * 1024
NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG})
SAFE_SEGMENT = re.compile(r"[\w=-][\w.=-]*")

EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/avif": "avif",
    "application/pdf": "pdf",
}

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """What is known of an object in storage, without its bytes.

    ``url`` is where the public finds it (a private bucket needs ``presigned_url``); ``etag`` is the
    entity tag that ``url`` answers with, without quotes; the rest is as in ``CaptureRecord``.
    """

    key: str
    url: str
    etag: str
    sha256: str
    content_type: str
    size_bytes: int
    width: int | None
    height: int | None
    captured_at: float

    @classmethod
    def of_record(cls, record: CaptureRecord, *, key: str, url: str, etag: str) -> StoredImage:
        """The stored image that a capture becomes."""
        return cls(
            key=key,
            url=url,
            etag=etag,
            sha256=record.sha256,
            content_type=record.content_type,
            size_bytes=record.size_bytes,
            width=record.width,
            height=record.height,
            captured_at=record.captured_at,
        )


class Storage(Protocol):
    """Keeps pictures under keys; safe to call from many threads and after a fork."""

    def find(self, key: str) -> StoredImage | None:
        """The image stored under ``key``, None where there is none.

        An object that this service did not write, or not to its end, counts as none.

        Raises:
            StorageUnavailable: nobody can say whether there is one.
        """

    def write(self, key: str, body: bytes, record: CaptureRecord) -> StoredImage:
        """Store ``body`` under ``key``: afterwards the whole of it is there, or nothing is.

        Raises:
            StorageUnavailable: it could not be stored; trying again is harmless.
            ValueError: ``key`` is none that ``object_key`` makes.
        """

    def presigned_url(self, key: str, seconds: int) -> str | None:
        """A URL that opens a private object for ``seconds``; None where every object is public.

        Raises:
            StorageUnavailable: there is nothing to sign with.
            ValueError: ``seconds`` is not what the storage can sign for.
        """

    def is_ready(self) -> bool:
        """Whether writing has a chance now; cheap, takes a few seconds at most, never raises."""


def storage_unavailable() -> StorageUnavailable:
    """The error that every storage raises when it cannot do its work; the details are in the log."""
    message = "The storage for images does not work at present."
    return StorageUnavailable(message, retry_after_seconds=RETRY_AFTER_SECONDS)


def object_key(template: str, *, capture_key: str, record: CaptureRecord, url: str | None = None) -> str:
    """The key under which a picture is stored.

    ``{digest}`` is the hexadecimal SHA-256 over ``capture_key`` (target and options) and the
    picture's own digest; ``{ext}`` the usual file ending of its type; ``{host}`` the host of the
    target ``url``, reduced to ``a-z0-9.-`` and 100 characters, ``unknown`` where there is none.
    There is deliberately no date among them: the same picture has one key whenever it was taken.
    ``template`` has passed ``check_key_template``.
    """
    identity = f"{DIGEST_VERSION}\n{capture_key}\n{record.sha256}"
    return template.format(
        digest=hashlib.sha256(identity.encode()).hexdigest(),
        ext=EXTENSIONS.get(record.content_type, "bin"),
        host=_host_segment(url),
    )


def _host_segment(url: str | None) -> str:
    host = (urlsplit(url).hostname if url else None) or ""
    return re.sub(r"[^a-z0-9.-]+", "-", host)[:MAX_HOST_CHARACTERS].strip(".-") or "unknown"


def check_key_template(template: str) -> None:
    """Check an operator's template for object keys.

    Raises ValueError, whose message says what is wrong with it.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError("has a brace that belongs to no placeholder") from error
    names = {name for _, name, _, _ in parts if name is not None}
    if unknown := names - KEY_PLACEHOLDERS:
        allowed = ", ".join(f"{{{name}}}" for name in sorted(KEY_PLACEHOLDERS))
        raise ValueError(f"has the unknown placeholder {{{min(unknown)}}}; there are {allowed}")
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ValueError("has a placeholder with a format or conversion")
    if "digest" not in names:
        raise ValueError("lacks {digest}, without which different pictures would share a key")
    longest = {"digest": "0" * 64, "ext": "webp", "host": "h" * MAX_HOST_CHARACTERS}
    if ".." in template or not is_object_key(template.format(**longest)):
        raise ValueError(
            "has to be segments of letters, digits and . _ = -, none empty, starting with a dot or longer "
            f'than {MAX_SEGMENT_BYTES} bytes, {MAX_KEY_BYTES} bytes in all, no ".." nor slash at either end'
        )


def is_object_key(key: str) -> bool:
    """Whether ``key`` can name an object here: a relative path without any trick in it.

    Segments that start with a dot are kept free for what a storage keeps beside its images.
    """
    return len(key.encode(errors="replace")) <= MAX_KEY_BYTES and all(
        SAFE_SEGMENT.fullmatch(segment) and len(segment.encode()) <= MAX_SEGMENT_BYTES
        for segment in key.split("/")
    )


def object_url(public_base_url: str, key: str) -> str:
    """The URL of an object below ``public_base_url``, percent-encoded as in RFC 3986."""
    return f"{public_base_url.rstrip('/')}/{quote(key, safe='/')}"


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
    target.parent.mkdir(parents=True, exist_ok=True)
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
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # a new name survives a power cut only once its folder is on the disk
    finally:
        os.close(folder)


def _failed(operation: str, key: str, error: OSError) -> StorageUnavailable:
    reason = errno.errorcode.get(error.errno or 0, "unknown")
    _log.error("storage_failed", operation=operation, object_key=key, error=reason)
    return storage_unavailable()
