"""The background thread that steers the browser of one process."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from thumbnailer.bounded_calls import start
from thumbnailer.egress_proxy import running_proxy
from thumbnailer.errors import TargetTooSlow, UpstreamFailed
from thumbnailer.guard import Guard
from thumbnailer.model import Deadline
from thumbnailer.providers.browser import Browsers
from thumbnailer.providers.browser_loop import BrowserLoop
from thumbnailer.providers.launch import ChromiumSettings

#: How much longer than the deadline a caller waits for the loop to say that it has passed.
TIDYING_SECONDS = 0.7
JOIN_SECONDS = 20.0

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Life:
    loop: asyncio.AbstractEventLoop
    browsers: Browsers
    stop: asyncio.Event


class BrowserThread:
    """Runs coroutines with the process's ``Browsers``; safe to call from many threads.

    The browser's road out, a proxy that asks ``guard``, lives on the same event loop. Nothing starts
    before the first call, and what was started ends with the interpreter at the latest.
    After ``close`` another call starts anew. An instance belongs to the process that made it.
    """

    def __init__(self, settings: ChromiumSettings, guard: Guard) -> None:
        self._settings = settings
        self._guard = guard
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._life: _Life | None = None

    def call(self, work: Callable[[Browsers], Coroutine[Any, Any, T]], deadline: Deadline) -> T:
        """Run ``work`` to its end and bring its result; it has to heed ``deadline`` itself.

        Raises:
            TargetTooSlow: there is no result though the deadline has passed.
            UpstreamFailed: the thread was closed meanwhile.
            Overloaded: it cannot be started now.
            Exception: whatever ``work`` raises.
        """
        life = self._started()
        working = work(life.browsers)
        try:
            future = asyncio.run_coroutine_threadsafe(working, life.loop)
        except RuntimeError as error:  # the loop was closed since
            working.close()
            raise UpstreamFailed("The browser was shut down.", provider="chromium") from error
        try:
            return future.result(deadline.remaining_seconds() + TIDYING_SECONDS)
        except CancelledError as error:
            raise UpstreamFailed("The browser was shut down.", provider="chromium") from error
        except TimeoutError as error:
            future.cancel()
            raise TargetTooSlow("The page was not photographed in time.", provider="chromium") from error

    def close(self) -> None:
        """End browser, driver and thread; seconds at most. Does nothing in a forked child."""
        if os.getpid() != self._process:
            return
        atexit.unregister(self.close)
        with self._lock:
            thread, life = self._thread, self._life
            self._thread = self._life = None
        if thread is not None and life is not None and thread.is_alive():
            life.loop.call_soon_threadsafe(life.stop.set)
            thread.join(JOIN_SECONDS)

    def _started(self) -> _Life:
        with self._lock:
            if self._life is None or self._thread is None or not self._thread.is_alive():
                started: Future[_Life] = Future()
                self._thread = threading.Thread(
                    target=self._run, args=(started,), name="chromium", daemon=True
                )
                start(self._thread)
                atexit.register(self.close)
                self._life = started.result()
            return self._life

    def _run(self, started: Future[_Life]) -> None:
        try:
            with asyncio.Runner(loop_factory=BrowserLoop) as runner:
                runner.run(self._live(started))
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
                return
            raise

    async def _live(self, started: Future[_Life]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_log_stray_error)
        if not self._settings.is_sandboxed:
            log.warning("chromium.sandbox_off", setting="CHROMIUM_SANDBOX")
        async with running_proxy(self._guard) as proxy:
            life = _Life(loop, Browsers(self._settings, proxy), asyncio.Event())
            started.set_result(life)
            await life.stop.wait()
            await life.browsers.close()


def _log_stray_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A driver that dies leaves futures behind that nobody waits for: no news to an operator."""
    log.debug("chromium.stray_error", message=context.get("message"), error=repr(context.get("exception")))
