"""The files in which processes keep what they count, where several are told as one."""

from __future__ import annotations

import contextlib
import logging
import mmap
import os
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

#: What a file begins with; that is doubled as often as it does not suffice.
FIRST_BYTES = 1 << 16
#: An entry is the length of its key, the key, what aligns it, a value and its time.
MOST_BYTES_BESIDE_KEY = 4 + 8 + 16
#: How much of a file is in use, and what aligns that.
HEAD_BYTES = 8

logger = logging.getLogger(__name__)


class CounterFile(MmapedDict):
    """prometheus_client's file, whose room on the disk is taken before it is used.

    To a file that is mapped into memory one writes without a call that could fail: where the disk is full the
    system ends the process instead (SIGBUS), and each that takes its place. Here a process that finds no room
    counts in memory from then on, and nobody is told what it counts there.
    """

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        try:
            _make(Path(filename))
            super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]
            self._is_on_disk = True
        except OSError as error:
            _complain(error)
            self._count_in_memory()

    def _init_value(self, key: str) -> None:
        """Begin to count under ``key``."""
        while self._used + len(key.encode()) + MOST_BYTES_BESIDE_KEY > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        self._m.close()
        self._forget_file()

    def _grow(self) -> None:
        larger = 2 * self._capacity
        if self._is_on_disk:
            try:
                _append_zeros(self._f.fileno(), larger - self._capacity)
                self._m = mmap.mmap(self._f.fileno(), larger)
            except OSError as error:
                _complain(error)
                self._forget_file()
        if not self._is_on_disk:
            counted = self._m[: self._used]
            self._m = mmap.mmap(-1, larger)
            self._m[: len(counted)] = counted
        self._capacity = larger

    def _forget_file(self) -> None:
        if self._is_on_disk:
            self._is_on_disk = False
            self._f.close()

    def _count_in_memory(self) -> None:
        self._is_on_disk = False
        self._positions: dict[str, int] = {}
        self._used = HEAD_BYTES
        self._capacity = FIRST_BYTES
        self._m = mmap.mmap(-1, FIRST_BYTES)


def _make(path: Path) -> None:
    """Make a file of zeros, unless it is there. Whoever sees it sees the whole."""
    if path.exists():
        return
    draft = path.with_suffix(".draft")
    try:
        with draft.open("wb") as file:
            _append_zeros(file.fileno(), FIRST_BYTES)
        draft.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _append_zeros(descriptor: int, count: int) -> None:
    rest = memoryview(bytes(count))
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _complain(error: OSError) -> None:
    logger.error("There is no room for what this process counts, so that nobody is told: %s", error)
