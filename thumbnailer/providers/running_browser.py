"""One browser with the driver that steers it: started, asked whether it lives, ended."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from thumbnailer.egress_proxy import EgressProxy
from thumbnailer.errors import UpstreamFailed
from thumbnailer.providers.browser_loop import BrowserLoop
from thumbnailer.providers.launch import SWITCHES, ChromiumSettings, environment_for_pages
from thumbnailer.providers.memory_watch import MemoryWatch
from thumbnailer.providers.ordinary_user import LAUNCHER, ordinary_user
from thumbnailer.providers.playwright_errors import PlaywrightError
from thumbnailer.providers.road_out import switches_to
from thumbnailer.providers.spare_page import SparePage
from thumbnailer.scratch import scratch_folder

if TYPE_CHECKING:
    from playwright.async_api import Browser, Playwright

PROBE_SECONDS = 3.0
CLOSE_BROWSER_SECONDS = 5.0
STOP_DRIVER_SECONDS = 2.0

#: What Chromium says where the machine forbids its sandbox.
NO_SANDBOX = "No usable sandbox"

log = structlog.get_logger(__name__)


class BrowserGone(Exception):
    """The browser or its driver died or hangs; a new one may do.

    ``by_page`` says that something of it was ended meanwhile because it used too much memory.
    """

    by_page = False


@dataclass(slots=True, eq=False)
class RunningBrowser:
    """A browser, what it takes to end it, and how much it has done.

    ``spare`` is a page of it that is open already. ``begun`` counts the captures it was lent for,
    ``active`` those under way. A ``retired`` one is lent no more; ``ended`` says that its end has begun.
    """

    browser: Browser
    memory: MemoryWatch
    ending: AsyncExitStack
    spare: SparePage | None = None
    begun: int = 0
    active: int = 0
    retired: bool = False
    ended: bool = False

    def lend(self) -> None:
        """A capture begins."""
        self.active += 1
        self.memory.wake()

    def take_back(self) -> None:
        """A capture is over, and its pages are closed."""
        self.active -= 1
        if not self.active:
            self.memory.rest()

    async def end(self, *, dead: bool) -> None:
        """Leave no process; politely unless it is ``dead`` already."""
        if self.spare is not None:
            self.spare.give_up()
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


async def launch_browser(settings: ChromiumSettings, proxy: EgressProxy) -> RunningBrowser:
    """Start driver and browser; whatever was started is ended again when that fails.

    Both write into a folder of their own, which goes with them: who is killed leaves there what it wrote.

    Raises:
        UpstreamFailed: the browser cannot be started; the log says why.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, BrowserLoop)
    async with AsyncExitStack() as ending:
        try:
            loop.folder = str(ending.enter_context(scratch_folder("thumbnailer-browser-")))
            playwright, driver = await _start_driver(loop, ending)
            browser = await _start_browser(playwright, settings, proxy, loop.folder)
            process = await _process_of(browser)
            # A pidfd: unlike a number it never comes to mean another process.
            ending.callback(_kill, os.pidfd_open(process))
            memory = MemoryWatch(process, lambda: _living(driver), settings.memory)
            watching = asyncio.ensure_future(memory.run())
            ending.callback(watching.cancel)
        except (PlaywrightError, OSError) as error:
            _log_failure(settings, str(error))
            raise UpstreamFailed("The browser could not be started.", provider="chromium") from error
        log.info("chromium.launched", version=browser.version)
        return RunningBrowser(browser, memory, ending.pop_all())


async def _start_browser(
    playwright: Playwright, settings: ChromiumSettings, proxy: EgressProxy, folder: str
) -> Browser:
    assert settings.executable is not None  # the provider asked before
    program, environment = settings.executable, environment_for_pages({**os.environ, "TMPDIR": folder})
    if (user := ordinary_user(folder)) is not None:
        program, environment = LAUNCHER, user.environment(program, environment)
    return await playwright.chromium.launch(
        executable_path=program,
        args=[*SWITCHES, *switches_to(proxy)],
        env=environment,
        chromium_sandbox=settings.is_sandboxed,
        # The service decides when its browser ends, not a signal that reaches the driver.
        handle_sigint=False,
        handle_sigterm=False,
        handle_sighup=False,
    )


def _log_failure(settings: ChromiumSettings, reason: str) -> None:
    program = str(settings.executable)
    if NO_SANDBOX in reason:
        advice = "this machine forbids user namespaces; see docs/configuration.md#the-sandbox"
        log.error("chromium.sandbox_impossible", program=program, advice=advice)
    # The command line is the longest part, and says the least.
    told = "\n".join(line for line in reason.splitlines() if not line.startswith("<launching>"))
    log.warning("chromium.launch_failed", program=program, reason=told[:2000])


async def _start_driver(
    loop: BrowserLoop, ending: AsyncExitStack
) -> tuple[Playwright, asyncio.SubprocessTransport]:
    from playwright.async_api import async_playwright

    others = len(loop.children)
    try:
        playwright = await async_playwright().start()
    except (PlaywrightError, OSError, asyncio.CancelledError):
        loop.kill_children(after=others)
        raise
    except Exception as error:  # Playwright has no type for a driver that ends while it starts
        loop.kill_children(after=others)
        log.warning("chromium.driver_failed", advice="flask doctor says why; see docs/deployment.md#chromium")
        raise BrowserGone from error
    driver = loop.children.pop()
    ending.push_async_callback(_stop_driver, playwright, driver)
    return playwright, driver


def _living(process: asyncio.SubprocessTransport) -> int | None:
    """The id of a process; None once it has ended, for another may have the number then."""
    return process.get_pid() if process.get_returncode() is None else None


async def _stop_driver(playwright: Playwright, driver: asyncio.SubprocessTransport) -> None:
    """Ask the driver to end, then end it: a forked child may hold its standard input open."""
    stopping = asyncio.ensure_future(playwright.stop())
    await asyncio.wait({stopping}, timeout=STOP_DRIVER_SECONDS)
    with suppress(ProcessLookupError):
        driver.kill()
    await asyncio.wait({stopping}, timeout=STOP_DRIVER_SECONDS)
    stopping.cancel()
    driver.close()


async def _process_of(browser: Browser) -> int:
    """The id of the browser's main process."""
    session = await browser.new_browser_cdp_session()
    answer = await session.send("SystemInfo.getProcessInfo")
    await session.detach()
    return next(int(one["id"]) for one in answer["processInfo"] if one["type"] == "browser")


def _kill(handle: int) -> None:
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    os.close(handle)
