"""Bytes that arrive faster than they are taken, on disk, or in memory where there is no room for them."""

from __future__ import annotations

import contextlib
import os
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from thumbnailer.cooldown import CoolDown

#: Tells the operator once a minute.
_full_disk = CoolDown("The temporary folder", seconds=60)


class Spool:
    """Bytes in a file of the temporary folder that has no name, and behind them those that it did not take.

    A disk that is full, or gone, costs memory and no picture: as much as the picture has bytes, which is what
    every answer takes that is not streamed. One thread writes, any may read what has been written.
    """

    def __init__(self) -> None:
        self._file_bytes = 0
        self._rest = bytearray()
        self._file: int | None = None
        with _full_disk_is_told():
            self._file = _open_unnamed()
        self._close = weakref.finalize(self, os.close, self._file) if self._file is not None else None

    def write(self, content: bytes) -> None:
        view = memoryview(content)
        with _full_disk_is_told():
            while view and self._file is not None and not self._rest:
                written = os.write(self._file, view)
                self._file_bytes += written
                view = view[written:]
        self._rest += view

    def read(self, start: int, most_bytes: int) -> bytes:
        """What lies behind ``start``, at most so much, and perhaps less than is there."""
        if self._file is not None and start < self._file_bytes:
            return os.pread(self._file, min(most_bytes, self._file_bytes - start), start)
        first = start - self._file_bytes
        return bytes(self._rest[first : first + most_bytes])

    def content(self) -> bytes:
        """All of it."""
        return self.read(0, self._file_bytes) + self._rest if self._file_bytes else bytes(self._rest)

    def close(self) -> None:
        """Give the room back; what nobody closes goes with its last reference."""
        if self._close is not None:
            self._close()


@contextlib.contextmanager
def _full_disk_is_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        _full_disk.complain(error)


def _open_unnamed() -> int:
    descriptor, path = tempfile.mkstemp(prefix="thumbnailer-")
    Path(path).unlink()
    return descriptor
