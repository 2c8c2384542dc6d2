"""Ends what takes too much memory in the browser, before the machine has to.

V8's limit bounds what scripts hold in its heap. Typed arrays, documents, pictures and histories lie beside
that: a page of three lines takes gigabytes a second. Limits of the system (setrlimit(2)) do not fit a
program that reserves terabytes of addresses and uses few of them. So the memory that is really in use is
looked at, several times a second while pages are open.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

from thumbnailer.process_memory import process_tree, used_bytes

LOOK_SECONDS = 0.1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MemoryBounds:
    """Bytes that one process of a page may use, and all processes of one browser together."""

    page_bytes: int = 1 << 30
    browser_bytes: int = 4 << 30


class MemoryWatch:
    """Watches over the browser whose main process is ``browser``, and over its driver; both are process ids.

    A page whose process is ended has crashed; a browser whose main process or driver is ended is replaced.
    The driver keeps what pages say: messages of their consoles, and the URLs that they ask for. ``driver``
    tells of it while it lives.
    """

    def __init__(self, browser: int, driver: Callable[[], int | None], bounds: MemoryBounds) -> None:
        self._browser = browser
        self._driver = driver
        self._bounds = bounds
        self._is_awake = asyncio.Event()
        #: How many processes were ended, so that they have not died by themselves.
        self.ended = 0

    @property
    def is_awake(self) -> bool:
        return self._is_awake.is_set()

    def wake(self) -> None:
        """Pages are open."""
        self._is_awake.set()

    def rest(self) -> None:
        """No page is open, so nothing takes more, and ten looks a second would cost as many milliseconds."""
        self._is_awake.clear()

    async def run(self) -> None:
        """Look again and again while it is awake, until it is cancelled."""
        while True:
            await self._is_awake.wait()
            self.look()
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> None:
        """End each process that uses too much, and the largest if all together do."""
        driver = self._driver()
        watched = (*process_tree(self._browser), *([driver] if driver is not None else []))
        used = {process: used_bytes(process) for process in watched}
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
