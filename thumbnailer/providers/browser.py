"""The life of the local browser: started, lent for one capture at a time, renewed, ended.

One browser and the Playwright driver that steers it form a ``RunningBrowser``. ``Browsers`` keeps one
of them alive for the event loop it lives on, and replaces it when it dies, hangs, or has served
long enough.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import structlog
from playwright.async_api import Browser, BrowserContext, Page, Playwright, async_playwright
from playwright.async_api import Error as PlaywrightError

from thumbnailer.egress_proxy import EgressProxy
from thumbnailer.errors import CaptureRefused, UpstreamFailed
from thumbnailer.model import Deadline
from thumbnailer.providers.browser_loop import BrowserLoop
from thumbnailer.providers.launch import SWITCHES, ChromiumSettings, environment_for_pages
from thumbnailer.providers.road_out import introduce, switches_to

LAUNCH_SECONDS = 20.0
OPEN_PAGE_SECONDS = 10.0
PROBE_SECONDS = 3.0
CLOSE_PAGE_SECONDS = 2.0
CLOSE_BROWSER_SECONDS = 5.0
STOP_DRIVER_SECONDS = 2.0

log = structlog.get_logger(__name__)


class BrowserGone(Exception):
    """The browser or its driver died or hangs; a new one may do."""


@dataclass(slots=True, eq=False)
class RunningBrowser:
    """A browser, what it takes to end it, and how much it has done.

    ``begun`` counts the captures it was lent for, ``active`` those under way. A ``retired`` one is lent
    no more; ``ended`` says that its end has begun.
    """

    browser: Browser
    ending: AsyncExitStack
    begun: int = 0
    active: int = 0
    retired: bool = False
    ended: bool = False

    async def end(self, *, dead: bool) -> None:
        """Leave no process; politely unless it is ``dead`` already."""
        if not dead:
            with suppress(PlaywrightError, TimeoutError):
                async with asyncio.timeout(CLOSE_BROWSER_SECONDS):
                    await self.browser.close()
        await self.ending.aclose()

    async def answers(self) -> bool:
        """Whether it still opens pages."""
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(PROBE_SECONDS):
                context = await self.browser.new_context()
                await context.close()
                return True
        return False


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


async def launch_browser(settings: ChromiumSettings, proxy: EgressProxy) -> RunningBrowser:
    """Start driver and browser; whatever was started is ended again when that fails.

    Raises:
        UpstreamFailed: the browser cannot be started; the log says why.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, BrowserLoop)
    async with AsyncExitStack() as ending:
        try:
            playwright = await _start_driver(loop, ending)
            browser = await playwright.chromium.launch(
                executable_path=settings.executable,
                args=[*SWITCHES, *settings.extra_switches, *switches_to(proxy)],
                env=environment_for_pages({**os.environ, "TMPDIR": loop.folder}),
                chromium_sandbox=settings.is_sandboxed,
                # The service decides when its browser ends, not a signal that reaches the driver.
                handle_sigint=False,
                handle_sigterm=False,
                handle_sighup=False,
            )
            ending.callback(_kill, await _handle_of(browser))
        except (PlaywrightError, OSError) as error:
            log.warning("chromium.launch_failed", program=str(settings.executable), reason=str(error)[:2000])
            raise UpstreamFailed("The browser could not be started.", provider="chromium") from error
        log.info("chromium.launched", version=browser.version)
        return RunningBrowser(browser, ending.pop_all())


async def _start_driver(loop: BrowserLoop, ending: AsyncExitStack) -> Playwright:
    others = len(loop.children)
    try:
        playwright = await async_playwright().start()
    except (PlaywrightError, OSError, asyncio.CancelledError):
        loop.kill_children(after=others)
        raise
    except Exception as error:  # Playwright has no type for a driver that ends while it starts
        loop.kill_children(after=others)
        raise BrowserGone from error
    driver = loop.children.pop()
    ending.push_async_callback(_stop_driver, playwright, driver)
    return playwright


async def _stop_driver(playwright: Playwright, driver: asyncio.SubprocessTransport) -> None:
    """Ask the driver to end, then end it: a forked child may hold its standard input open."""
    stopping = asyncio.ensure_future(playwright.stop())
    await asyncio.wait({stopping}, timeout=STOP_DRIVER_SECONDS)
    with suppress(ProcessLookupError):
        driver.kill()
    await asyncio.wait({stopping}, timeout=STOP_DRIVER_SECONDS)
    stopping.cancel()
    driver.close()


async def _handle_of(browser: Browser) -> int:
    """A pidfd of the browser's process: unlike a number it never comes to mean another process."""
    session = await browser.new_browser_cdp_session()
    answer = await session.send("SystemInfo.getProcessInfo")
    await session.detach()
    return os.pidfd_open(next(one["id"] for one in answer["processInfo"] if one["type"] == "browser"))


def _kill(handle: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)
