"""Storage keeps pictures for good: the contract of every storage, and object keys.

A stored image never changes, because its key is a digest over the target, every option and the
picture's bytes. So it may be served as ``CACHE_CONTROL`` says, and writing it twice is harmless.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from string import Formatter
from typing import Protocol
from urllib.parse import quote, urlsplit

from thumbnailer.errors import StorageUnavailable
from thumbnailer.model import END_OF_DATES, CaptureRecord

#: What a stored image is served with (RFC 9111; ``immutable``: RFC 8246).
CACHE_CONTROL = "public, max-age=31536000, immutable"
DEFAULT_KEY_TEMPLATE = "thumbs/{digest}.{ext}"
KEY_PLACEHOLDERS = frozenset({"digest", "ext", "host"})

DIGEST_VERSION = "o1"
MAX_KEY_BYTES = 1024  # the longest key that S3 takes
MAX_SEGMENT_BYTES = 200  # file systems end at 255; the label's ending has to fit as well
MAX_HOST_CHARACTERS = 100
SAFE_SEGMENT = re.compile(r"[\w=-][\w.=-]*")

_FILE_ENDINGS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/avif": "avif",
    "application/pdf": "pdf",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredImage:
    """What is known of an object in storage, without its bytes.

    ``url`` is where the public finds it (a private bucket needs ``presigned_url``); ``etag`` is the
    entity tag that ``url`` answers with, without quotes; the rest is as in ``CaptureRecord``.

    Raises ValueError or TypeError where ``captured_at`` is no moment: others may have written what is read.
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

    def __post_init__(self) -> None:
        if not 0 <= self.captured_at < END_OF_DATES:
            raise ValueError("captured_at is no moment that can be written as a date")

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

    def remove(self, key: str) -> None:
        """Take the image under ``key`` away; there need not be one.

        Raises:
            StorageUnavailable: it may still be there.
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
    return StorageUnavailable("The storage for images does not work at present.")


def object_key(template: str, *, capture_key: str, record: CaptureRecord, url: str) -> str:
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
        ext=file_ending(record.content_type),
        host=_host_segment(url),
    )


def file_ending(content_type: str) -> str:
    """The usual ending of a file of that type, without its dot."""
    return _FILE_ENDINGS.get(content_type, "bin")


def _host_segment(url: str) -> str:
    host = urlsplit(url).hostname or ""
    return re.sub(r"[^a-z0-9.-]+", "-", host)[:MAX_HOST_CHARACTERS].strip(".-") or "unknown"


def check_key_template(template: str) -> str:
    """An operator's template for object keys, if it is one.

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
    return template


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
