"""Captures, kept for a while.

An entry under a capture's key is a small binary value::

    magic · length of the JSON · JSON · the body, where that is small

A larger body lies in chunks under keys of its own, ``<nonce>:<number>``, stored as they arrive; where
the entry's key has a group (``group/…``), theirs have the same.
The entry is written last: a stream that dies halfway has no entry, so nobody ever sees its chunks,
and no body, however large, is held in memory.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from thumbnailer.backend import UNREADABLE, ResilientBackend
from thumbnailer.errors import CaptureLost
from thumbnailer.model import END_OF_DATES, Capture, CaptureRecord
from thumbnailer.sites import Kind

MAGIC = b"tnc1"
#: What may ever come out: nobody who can write to the store shall make a web page of an entry.
CONTENT_TYPES = frozenset({"image/png", "image/jpeg", "image/webp", "image/avif", "application/pdf"})
INLINE_BYTES = 256 * 1024
CHUNK_BYTES = 128 * 1024
#: Chunks are written before their entry and must not expire before it.
CHUNK_GRACE_SECONDS = 3600

_LENGTH = struct.Struct(">I")


@dataclass(frozen=True, slots=True)
class _Chunks:
    """Where a large body lies."""

    nonce: str
    count: int

    def addresses(self) -> Iterator[str]:
        return (f"{self.nonce}:{number}" for number in range(self.count))


@dataclass(frozen=True, slots=True)
class _Entry:
    """What stands under a capture's key: ``body``, or ``chunks``; until ``expires_at``, Unix time.

    ``previous`` are the chunks of the capture that this one replaced. Somebody may still be
    reading them, so they go only when this entry is replaced in turn; and they must go then, for
    a page that is photographed every hour would otherwise fill a Redis that evicts nothing.
    """

    record: CaptureRecord
    chunks: _Chunks | None
    previous: _Chunks | None
    body: bytes
    expires_at: float

    def encode(self) -> bytes:
        described = {
            "record": asdict(self.record),
            "chunks": asdict(self.chunks) if self.chunks else None,
            "previous": asdict(self.previous) if self.previous else None,
            "expires_at": self.expires_at,
        }
        header = json.dumps(described, separators=(",", ":")).encode()
        return b"".join((MAGIC, _LENGTH.pack(len(header)), header, self.body))

    @classmethod
    def decode(cls, content: bytes) -> _Entry:
        """Raises one of ``UNREADABLE`` for anything that ``encode`` has not written."""
        start = len(MAGIC) + _LENGTH.size
        if len(content) < start or not content.startswith(MAGIC):
            raise ValueError("no entry of this cache")
        (length,) = _LENGTH.unpack_from(content, len(MAGIC))
        described = json.loads(content[start : start + length])
        return cls(
            record=_decode_record(described["record"]),
            chunks=_decode_chunks(described["chunks"]),
            previous=_decode_chunks(described["previous"]),
            body=content[start + length :],
            expires_at=float(described.get("expires_at", 0)),
        )


def _decode_record(described: dict[str, Any]) -> CaptureRecord:
    record = CaptureRecord(**described)
    texts = (record.content_type, record.sha256, record.provider)
    numbers = (record.captured_at, record.upstream_seconds, record.size_bytes)
    sides = (record.width, record.height)
    is_typed = (
        all(isinstance(one, str) for one in texts)
        and all(
            isinstance(one, int | float) and 0 <= one < END_OF_DATES for one in numbers
        )  # no size is larger
        and all(one is None or isinstance(one, int) for one in sides)
    )
    if not is_typed or record.content_type not in CONTENT_TYPES:
        raise ValueError("no record of this cache")
    return record


def _decode_chunks(described: dict[str, object] | None) -> _Chunks | None:
    if described is None:
        return None
    nonce, count = described["nonce"], described["count"]
    if not isinstance(nonce, str) or not isinstance(count, int) or count < 1:
        raise ValueError("no chunks of this cache")
    return _Chunks(nonce, count)


class Filling:
    """A capture on its way into the cache; ``commit`` makes it visible, ``abort`` undoes it.

    Holds at most one chunk in memory once a body has proved large. When the backend fails it
    gives up in silence: the caller is passing the bytes on to somebody meanwhile, who shall have
    them all the same. One thread at a time, not always the same one.
    """

    def __init__(
        self, backend: ResilientBackend, key: str, *, retention_seconds: int, clock: Callable[[], float]
    ) -> None:
        self._backend = backend
        self._clock = clock
        self._key = key
        self._retention_seconds = retention_seconds
        group, slash, _ = key.rpartition("/")
        self._nonce = f"{group}{slash}{Kind.CHUNK}:{secrets.token_hex(16)}"
        self._count = 0
        self._size_bytes = 0
        self._buffer = bytearray()
        self._open = retention_seconds > 0  # to the backends, zero means for ever

    def add(self, chunk: bytes) -> None:
        """Take the next bytes of the body."""
        self._size_bytes += len(chunk)
        for start in range(0, len(chunk), CHUNK_BYTES):
            if self._open:
                self._buffer += chunk[start : start + CHUNK_BYTES]
                self._flush_full_chunks()

    def commit(self, record: CaptureRecord) -> bool:
        """Make the capture visible; whether the cache has it now, whole."""
        if self._count and self._buffer:
            self._flush(len(self._buffer))
        if not self._open or self._size_bytes != record.size_bytes:
            self.abort()
            return False
        self._open = False
        chunks = _Chunks(self._nonce, self._count) if self._count else None
        replaced = _find(self._backend, self._key)
        expires_at = self._clock() + self._retention_seconds
        entry = _Entry(record, chunks, replaced.chunks if replaced else None, bytes(self._buffer), expires_at)
        self._buffer.clear()
        if not self._backend.set(self._key, entry.encode(), timeout_seconds=self._retention_seconds):
            self._drop_chunks()
            return False
        if replaced and replaced.previous:
            _delete(self._backend, replaced.previous)
        return True

    def abort(self) -> None:
        """Throw away what has been added; nothing happens after a ``commit``."""
        if self._open:
            self._open = False
            self._drop_chunks()

    def _flush_full_chunks(self) -> None:
        while self._open and len(self._buffer) > (CHUNK_BYTES if self._count else INLINE_BYTES):
            self._flush(CHUNK_BYTES)

    def _flush(self, size_bytes: int) -> None:
        content = bytes(memoryview(self._buffer)[:size_bytes])
        del self._buffer[:size_bytes]
        timeout_seconds = self._retention_seconds + CHUNK_GRACE_SECONDS
        self._count += 1
        if not self._backend.set(
            f"{self._nonce}:{self._count - 1}", content, timeout_seconds=timeout_seconds
        ):
            self.abort()

    def _drop_chunks(self) -> None:
        self._buffer.clear()
        _delete(self._backend, _Chunks(self._nonce, self._count))


class CaptureCache:
    """Captures by key, in whatever store Flask-Caching offers; bounded memory at any size.

    No method raises because of the store: what cannot be read is not there, what cannot be
    written is not kept. Safe to use from many threads.
    """

    def __init__(self, backend: ResilientBackend, *, clock: Callable[[], float] = time.time) -> None:
        self._backend = backend
        self._clock = clock

    def load(self, key: str) -> Capture | None:
        """The capture under ``key``, None unless all of it is there.

        A small body is held against its SHA-256 at once. A large one is checked while it is read:
        its ``chunks()`` raises CaptureLost before the last chunk, so that a damaged body never
        ends like a whole one.
        """
        entry = _find(self._backend, key)
        if entry is None:
            return None
        if entry.chunks is None:
            return Capture.of_bytes(entry.record, entry.body) if _is_whole(entry) else None
        if not all(self._backend.has(chunk_key) for chunk_key in entry.chunks.addresses()):
            return None
        chunks = entry.chunks
        return Capture(entry.record, lambda: self._read(key, entry.record, chunks))

    def record_of(self, key: str) -> CaptureRecord | None:
        """What is known of the capture under ``key``, without a look at its body."""
        entry = _find(self._backend, key)
        return entry.record if entry else None

    def store(self, key: str, capture: Capture, *, retention_seconds: int) -> bool:
        """Keep ``capture``, whole; raises what ``capture.chunks()`` raises."""
        filling = self.filling(key, retention_seconds=retention_seconds)
        try:
            for chunk in capture.chunks():
                filling.add(chunk)
        except BaseException:
            filling.abort()
            raise
        return filling.commit(capture.record)

    def filling(self, key: str, *, retention_seconds: int) -> Filling:
        """Begin to keep a capture whose bytes are still arriving."""
        return Filling(self._backend, key, retention_seconds=retention_seconds, clock=self._clock)

    def prolong(self, key: str, *, retention_seconds: int) -> None:
        """Keep what is under ``key`` for so long from now on, where most of its time is over.

        For who holds the flight of the key: another's capture that comes in between would be lost.
        """
        entry = _find(self._backend, key)
        if entry is None or entry.expires_at - self._clock() > retention_seconds / 2:
            return
        for address in entry.chunks.addresses() if entry.chunks else ():
            chunk = self._backend.get(address)
            seconds = retention_seconds + CHUNK_GRACE_SECONDS
            if chunk is None or not self._backend.set(address, chunk, timeout_seconds=seconds):
                return
        living = replace(entry, expires_at=self._clock() + retention_seconds)
        self._backend.set(key, living.encode(), timeout_seconds=retention_seconds)

    def forget(self, key: str) -> None:
        """Drop the capture; who reads a large one just then gets CaptureLost."""
        entry = _find(self._backend, key)
        self._backend.delete(key)
        for chunks in (entry.chunks, entry.previous) if entry else ():
            if chunks:
                _delete(self._backend, chunks)

    def _read(self, key: str, record: CaptureRecord, chunks: _Chunks) -> Iterator[bytes]:
        digest, size_bytes = hashlib.sha256(), 0
        for number, chunk_key in enumerate(chunks.addresses(), start=1):
            chunk = self._backend.get(chunk_key)
            if chunk is not None:
                digest.update(chunk)
                size_bytes += len(chunk)
            is_whole = size_bytes == record.size_bytes and digest.hexdigest() == record.sha256
            if chunk is None or (number == chunks.count and not is_whole):
                self._drop_damaged(key, chunks)
                raise CaptureLost("The stored picture is no longer whole; please ask again.")
            yield chunk

    def _drop_damaged(self, key: str, chunks: _Chunks) -> None:
        """Forget the entry unless a new capture has taken its place meanwhile."""
        entry = _find(self._backend, key)
        if entry and entry.chunks == chunks:
            self.forget(key)


def _find(backend: ResilientBackend, key: str) -> _Entry | None:
    content = backend.get(key)
    if content is None:
        return None
    try:
        return _Entry.decode(content)
    except UNREADABLE:
        return None


def _is_whole(entry: _Entry) -> bool:
    """Size and digest: a machine that crashed can leave a file of the right size full of zeros."""
    record = entry.record
    return len(entry.body) == record.size_bytes and hashlib.sha256(entry.body).hexdigest() == record.sha256


def _delete(backend: ResilientBackend, chunks: _Chunks) -> None:
    for key in chunks.addresses():
        backend.delete(key)
