"""The life of the local browser: started, lent for one capture at a time, renewed, ended.

One browser and the Playwright driver that steers it form a ``RunningBrowser``. ``Browsers`` keeps one
of them alive for the event loop it lives on, and replaces it when it dies, hangs, or has served
long enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from playwright.async_api import BrowserContext, Page
from playwright.async_api import Error as PlaywrightError

from thumbnailer.egress_proxy import EgressProxy
from thumbnailer.errors import CaptureRefused, UpstreamFailed
from thumbnailer.model import Deadline
from thumbnailer.providers.launch import ChromiumSettings
from thumbnailer.providers.road_out import introduce
from thumbnailer.providers.running_browser import BrowserGone, RunningBrowser, launch_browser

LAUNCH_SECONDS = 20.0
OPEN_PAGE_SECONDS = 10.0
CLOSE_PAGE_SECONDS = 2.0


class Browsers:
    """Lends pages of the one browser that is alive; used on one event loop only.

    At most ``settings.concurrency`` pages at a time; the others wait in line. All that the browser
    sends goes to ``proxy``, which lives on the same loop and has a longer life.
    """

    def __init__(self, settings: ChromiumSettings, proxy: EgressProxy) -> None:
        self.proxy = proxy
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._launching = asyncio.Lock()
        self._current: RunningBrowser | None = None
        self._endings: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def page(self, options: Mapping[str, Any], deadline: Deadline) -> AsyncIterator[Page]:
        """A page in a fresh context made with ``options``; both are gone after the block.

        Raises:
            BrowserGone: there is no live browser behind it (any more).
            CaptureRefused: the browser does not take the options.
            UpstreamFailed: no browser can be started.
        """
        async with self._slots, self._lent(deadline) as running, AsyncExitStack() as leaving:
            page = await self._open(running, options, deadline, leaving)
            try:
                yield page
            except PlaywrightError as error:
                await _require_life(running, error)
                raise

    async def close(self) -> None:
        """End the browser for good; whoever has a page of it loses it."""
        self._closed = True
        if (running := self._current) is not None:
            self._retire(running)
            self._end(running, dead=False)
        async with self._launching:
            pass  # a launch under way sees that it is late, and ends what it started
        while self._endings:
            await asyncio.wait(self._endings)

    async def _open(
        self, running: RunningBrowser, options: Mapping[str, Any], deadline: Deadline, leaving: AsyncExitStack
    ) -> Page:
        try:
            async with _gone_after(min(OPEN_PAGE_SECONDS, deadline.remaining_seconds() / 2)):
                context = await running.browser.new_context(**options)
                leaving.push_async_callback(self._close_context, context, running)
                page = await context.new_page()
                await introduce(page, self.proxy)
                return page
        except PlaywrightError as error:
            await _require_life(running, error)
            # A live browser turns down nothing else: sizes and colours were checked before.
            raise CaptureRefused("The browser does not know this timezone, locale or user agent.") from error

    @asynccontextmanager
    async def _lent(self, deadline: Deadline) -> AsyncIterator[RunningBrowser]:
        running = await self._living(deadline)
        running.active += 1
        try:
            yield running
        except BrowserGone:
            self._discard(running)
            raise
        finally:
            running.active -= 1
            if running.retired and not running.active:
                self._end(running, dead=False)

    async def _living(self, deadline: Deadline) -> RunningBrowser:
        async with self._launching:
            self._require_open()
            if self._current is not None and not self._current.browser.is_connected():
                self._discard(self._current)
            elif self._current is not None and self._current.begun >= self._settings.recycle_after:
                self._retire(self._current)
            if self._current is None:
                async with _gone_after(min(LAUNCH_SECONDS, deadline.remaining_seconds() / 2)):
                    self._current = await launch_browser(self._settings, self.proxy)
                if self._closed:
                    self._discard(self._current)
                    self._require_open()
            running = self._current
            # Counted under the lock: of those who waited here, none gets one place too many.
            running.begun += 1
            return running

    def _require_open(self) -> None:
        if self._closed:
            raise UpstreamFailed("The browser is being shut down.", provider="chromium")

    def _retire(self, running: RunningBrowser) -> None:
        """Lend it no more; end it when the last capture has left it."""
        running.retired = True
        if self._current is running:
            self._current = None
        if not running.active:
            self._end(running, dead=False)

    def _discard(self, running: RunningBrowser) -> None:
        """Lend it no more and end it at once, captures or not."""
        running.retired = True
        if self._current is running:
            self._current = None
        self._end(running, dead=True)

    def _end(self, running: RunningBrowser, *, dead: bool) -> None:
        if not running.ended:
            running.ended = True
            task = asyncio.ensure_future(running.end(dead=dead))
            self._endings.add(task)
            task.add_done_callback(self._endings.discard)

    async def _close_context(self, context: BrowserContext, running: RunningBrowser) -> None:
        try:
            async with asyncio.timeout(CLOSE_PAGE_SECONDS):
                await context.close()
        except (PlaywrightError, TimeoutError):
            self._discard(running)


async def _require_life(running: RunningBrowser, error: PlaywrightError) -> None:
    """Raise ``BrowserGone`` unless the browser lives, so that the page is at fault."""
    if not await running.answers():
        raise BrowserGone from error


@asynccontextmanager
async def _gone_after(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BrowserGone from error
