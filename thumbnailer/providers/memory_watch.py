"""Ends what takes too much memory in the browser, before the machine has to.

V8's limit bounds what scripts hold in its heap. Typed arrays, documents, pictures and histories lie beside
that: a page of three lines takes gigabytes a second. Limits of the system (setrlimit(2)) do not fit a
program that reserves terabytes of addresses and uses few of them. So the memory that is really in use is
looked at, several times a second while pages are open.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

LOOK_SECONDS = 0.1

#: Memory that is no copy of a file: proc_pid_status(5), in KiB.
_IN_USE = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MemoryBounds:
    """Bytes that one process of a page may use, and all processes of one browser together."""

    page_bytes: int = 1 << 30
    browser_bytes: int = 4 << 30


class MemoryWatch:
    """Watches over the browser whose main process is ``browser``, a process id.

    A page whose process is ended has crashed; a browser whose main process is ended is replaced.
    """

    def __init__(self, browser: int, bounds: MemoryBounds) -> None:
        self._browser = browser
        self._bounds = bounds
        #: How many processes were ended, so that they have not died by themselves.
        self.ended = 0

    async def run(self) -> None:
        """Look again and again, until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.look()

    def look(self) -> None:
        """End each process that uses too much, and the largest if all together do."""
        used = {process: _used_bytes(process) for process in _tree(self._browser)}
        for process, size in used.items():
            if size > self._bounds.page_bytes and process != self._browser:
                self._end(process, size)
                used[process] = 0
        total = sum(used.values())
        if total > self._bounds.browser_bytes:
            self._end(max(used, key=lambda process: used[process]), total)

    def _end(self, process: int, used_bytes: int) -> None:
        self.ended += 1
        is_main = process == self._browser
        log.warning("chromium.memory_exceeded", used_mebibytes=used_bytes >> 20, is_main_process=is_main)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _tree(root: int) -> Iterator[int]:
    """A process and all that it has started, directly or not: proc_tid_children(5)."""
    yield root
    with suppress(OSError):
        for thread in Path(f"/proc/{root}/task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text(encoding="ascii").split():
                    yield from _tree(int(child))


def _used_bytes(process: int) -> int:
    """What a process uses; zero where it has ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return sum(int(size) << 10 for size in _IN_USE.findall(status))
