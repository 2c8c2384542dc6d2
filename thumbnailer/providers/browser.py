"""The life of the local browser: started, lent for one capture at a time, renewed, ended.

One browser and the Playwright driver that steers it form a ``RunningBrowser``. ``Browsers`` keeps one
of them alive for the event loop it lives on, and replaces it when it dies, hangs, or has served
long enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from thumbnailer.egress_proxy import EgressProxy
from thumbnailer.errors import CaptureRefused, UpstreamFailed
from thumbnailer.model import Deadline
from thumbnailer.providers.launch import ChromiumSettings
from thumbnailer.providers.page_errors import net_error
from thumbnailer.providers.playwright_errors import PlaywrightError
from thumbnailer.providers.road_out import introduce
from thumbnailer.providers.running_browser import BrowserGone, RunningBrowser, launch_browser
from thumbnailer.providers.spare_page import SparePage

if TYPE_CHECKING:
    from playwright.async_api import BrowserContext, Page

LAUNCH_SECONDS = 20.0
OPEN_PAGE_SECONDS = 10.0
CLOSE_PAGE_SECONDS = 2.0

#: What Playwright says of a page that ends before it is used; it has no type for that.
CRASHED = "crashed"

log = structlog.get_logger(__name__)


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
    async def page(
        self, options_for: Callable[[str], Mapping[str, Any]], deadline: Deadline
    ) -> AsyncIterator[Page]:
        """A page in a fresh context; both are gone after the block.

        The context is made with what ``options_for`` says for the browser's version; it may raise.

        Raises:
            BrowserGone: there is no live browser behind it (any more).
            CaptureRefused: the browser does not take the options.
            UpstreamFailed: no browser can be started, or it does not get through to the proxy.
        """
        held, served, options = AsyncExitStack(), None, dict[str, Any]()
        try:
            await held.enter_async_context(self._slots)
            running = await self._lend(deadline, held)
            ended_before = running.memory.ended
            options = dict(options_for(running.browser.version))
            try:
                async with _blamed_on_whom(running):
                    yield await self._open(running, options, deadline, held)
                served = running
            except BrowserGone as gone:
                self._discard(running)
                gone.by_page = running.memory.ended > ended_before
                raise
        finally:
            self._background(self._leave(held, served, options))

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
            async with (
                _blamed_on_whom(running),
                _gone_after(min(OPEN_PAGE_SECONDS, deadline.remaining_seconds() / 2)),
            ):
                spare = await running.spare.take(options, leaving) if running.spare else None
                return spare or await self._open_fresh(running, options, leaving)
        except PlaywrightError as error:
            if CRASHED in error.message:
                raise BrowserGone from error
            if (reason := net_error(error)) is not None:  # of the greeting: nothing else was visited
                log.warning("chromium.no_road_out", reason=reason)
                raise UpstreamFailed("The browser could not load the page.", provider="chromium") from error
            # A live browser turns down nothing else: sizes and colours were checked before.
            raise CaptureRefused("The browser does not know this timezone, locale or user agent.") from error

    async def _open_fresh(
        self, running: RunningBrowser, options: Mapping[str, Any], leaving: AsyncExitStack
    ) -> Page:
        context = await running.browser.new_context(**options)
        leaving.push_async_callback(self._close_context, context, running)
        page = await context.new_page()
        await introduce(page, self.proxy)
        return page

    async def _lend(self, deadline: Deadline, held: AsyncExitStack) -> RunningBrowser:
        running = await self._living(deadline)
        running.lend()
        held.callback(self._give_back, running)
        return running

    def _give_back(self, running: RunningBrowser) -> None:
        running.take_back()
        if running.retired and not running.active:
            self._end(running, dead=False)

    async def _leave(
        self, held: AsyncExitStack, served: RunningBrowser | None, options: Mapping[str, Any]
    ) -> None:
        """Close the page, and then make room for another; whoever has the picture does not wait for that.

        While there is time, the next page is opened in a browser that has ``served`` well.
        """
        await held.aclose()
        is_busy = self._slots.locked()
        if served is not None and served.spare is not None and not (served.retired or is_busy):
            await served.spare.prepare(options)

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
                if self._settings.has_spare_page:
                    self._current.spare = SparePage(partial(self._open_fresh, self._current))
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
            self._background(running.end(dead=dead))

    def _background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._endings.add(task)
        task.add_done_callback(self._endings.discard)

    async def _close_context(self, context: BrowserContext, running: RunningBrowser) -> None:
        try:
            async with asyncio.timeout(CLOSE_PAGE_SECONDS):
                await context.close()
        except (PlaywrightError, TimeoutError):
            self._discard(running)


@asynccontextmanager
async def _blamed_on_whom(running: RunningBrowser) -> AsyncIterator[None]:
    """Turn what Playwright raises into ``BrowserGone``, unless the browser lives and the page is at fault."""
    try:
        yield
    except PlaywrightError as error:
        if not await running.answers():
            raise BrowserGone from error
        raise


@asynccontextmanager
async def _gone_after(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BrowserGone from error
