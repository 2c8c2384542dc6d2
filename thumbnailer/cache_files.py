"""One file of ``file_cache``.

It holds::

    magic · expiry as Unix time, eight bytes, zero for never · length of the key, two bytes · the key
    · the serialised value
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

MAGIC = b"tnf2"

_HEADER = struct.Struct(">4sdH")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file as a sweep sees it; ``used_at`` is Unix time in seconds."""

    path: Path
    size_bytes: int
    used_at: float
    has_expired: bool

    def remove(self) -> None:
        """Delete it, unless it is gone already or cannot be deleted."""
        with contextlib.suppress(OSError):
            self.path.unlink()


def header_of(name: bytes, expires_at: float) -> bytes:
    """What stands before the value of the key ``name``; ``expires_at``: Unix time in seconds, 0 for never."""
    return _HEADER.pack(MAGIC, expires_at, len(name)) + name


def is_alive(file: FileIO, name: bytes, now: float) -> bool:
    """Whether ``file`` is in use for the key ``name``; afterwards it stands at the value."""
    header = file.read(_HEADER.size + len(name))
    return not _has_expired(header, now) and header[_HEADER.size :] == name


def key_in(path: Path) -> bytes:
    """The key of one file; empty where it is no entry, or gone."""
    with contextlib.suppress(OSError), path.open("rb", buffering=0) as file:
        header = file.read(_HEADER.size)
        if len(header) == _HEADER.size and header.startswith(MAGIC):
            return file.read(_HEADER.unpack(header)[2])
    return b""


def entries_in(folder: Path, now: float) -> Iterator[Entry]:
    """All files of ``folder`` that can be read."""
    for path in listing(folder):
        with contextlib.suppress(OSError), path.open("rb", buffering=0) as opened:
            status = os.fstat(opened.fileno())
            has_expired = _has_expired(opened.read(_HEADER.size), now)
            yield Entry(path, status.st_size, status.st_mtime, has_expired)


def listing(folder: Path) -> list[Path]:
    """What lies in ``folder``, nothing if there is no such folder."""
    try:
        return list(folder.iterdir())
    except FileNotFoundError:
        return []


def _has_expired(header: bytes, now: float) -> bool:
    """Also true for anything that is no entry, so that a sweep removes it."""
    if len(header) < _HEADER.size:
        return True
    magic, expires_at, _ = _HEADER.unpack_from(header)
    return magic != MAGIC or bool(expires_at and expires_at <= now)
