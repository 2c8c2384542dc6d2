"""The local Chromium as a provider.

A thread of its own steers one browser per process; nothing starts before the first capture, and a
forked process starts a browser of its own. ``browser`` keeps it alive, ``page`` visits targets,
``picture`` photographs them.

=======================================  ====================================================
what happens                             becomes
=======================================  ====================================================
browser or driver dies or hangs          one more attempt with a new one, then UpstreamFailed
a picture cannot be taken                one more attempt, then PageCrashed
the page crashes, takes too much memory  PageCrashed
the page shows nothing in time           TargetTooSlow at the deadline
a part of the page never loads           the picture without it, after at most 15 seconds
``networkidle`` never comes              the picture all the same, after at most ten seconds
``wait_for`` never appears               CaptureRefused, shortly before the deadline
no such host, refused, bad certificate   TargetUnreachable
the page's answer breaks off twice       TargetUnreachable
the page leads to a forbidden address    TargetForbidden
a picture, frame or script of it does    the page's own affair, as if nobody were there
a check for robots instead of the page   PageChallenged
a status that counts as failure          TargetStatus
=======================================  ====================================================
"""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import structlog

from thumbnailer.devices import device_named
from thumbnailer.errors import (
    CaptureRefused,
    PageCrashed,
    TargetForbidden,
    TargetTooSlow,
    UpstreamFailed,
)
from thumbnailer.guard import Guard
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers import WholeBody
from thumbnailer.providers.browser import Browsers
from thumbnailer.providers.browser_thread import BrowserThread
from thumbnailer.providers.equipment import Equipment
from thumbnailer.providers.launch import ChromiumSettings, find_chromium, is_executable
from thumbnailer.providers.page import Visit
from thumbnailer.providers.page_errors import PROVIDER
from thumbnailer.providers.playwright_errors import PlaywrightError
from thumbnailer.providers.running_browser import BrowserGone
from thumbnailer.providers.user_agents import user_agent_of

__all__ = ["ChromiumProvider", "ChromiumSettings", "find_chromium"]

ATTEMPTS = 2

#: A page may take the process with it that draws all pages; it is back in less than this.
RECOVERY_SECONDS = 0.3

#: How the last attempt may have ended.
DIED = (UpstreamFailed, "The browser died twice.")
DIED_BY_PAGE = (PageCrashed, "The page takes too much memory.")
NOT_PHOTOGRAPHED = (PageCrashed, "The browser failed to photograph the page.")

log = structlog.get_logger(__name__)


class ChromiumProvider:
    """Takes captures with the Chromium of this machine; safe to call from many threads.

    The browser reaches what ``guard`` allows, and nothing else.

    Raises:
        OSError: the filter list cannot be read.
    """

    def __init__(self, settings: ChromiumSettings, guard: Guard) -> None:
        import playwright.async_api  # noqa: F401 - so that no capture waits for it

        self._settings = settings
        self._guard = guard
        self._equipment = Equipment.of(settings)
        # By process: a forked child finds nothing under its own id, and leaves its parent's alone.
        self._threads: dict[int, BrowserThread] = {}

    @property
    def name(self) -> str:
        return PROVIDER

    def unsupported_option(self, request: CaptureRequest) -> str | None:  # noqa: ARG002  # part of the protocol
        """None: Chromium can do all that a caller may ask for."""
        return None

    def is_ready(self) -> bool:
        """Whether there is a browser to start; starts nothing."""
        return self._settings.executable is not None and is_executable(self._settings.executable)

    def capture(self, request: CaptureRequest, deadline: Deadline) -> WholeBody:
        """Photograph ``request.url``; a browser that died costs one more attempt and no error.

        Raises:
            CaptureRefused: an option does not fit the page, or the target is a download.
            TargetForbidden, TargetUnreachable, TargetStatus: the page is at fault.
            PageChallenged: the page is a check for robots.
            ImageTooLarge: the picture would have more pixels than allowed, or the PDF more bytes.
            PageCrashed, TargetTooSlow: the page's scripts are at fault.
            UpstreamFailed: the browser is at fault.
        """
        if urlsplit(request.url).scheme not in ("http", "https"):
            raise TargetForbidden("Only http and https pages are visited.")
        if not self.is_ready():
            raise UpstreamFailed("There is no browser on this machine.", provider=PROVIDER)
        return WholeBody(self._thread().call(partial(self._capture, request, deadline), deadline))

    def close(self) -> None:
        """End this process's browser and driver; the next capture starts new ones."""
        thread = self._threads.get(os.getpid())
        if thread is not None:
            thread.close()

    def _thread(self) -> BrowserThread:
        # setdefault is atomic, so this needs no lock that a fork could leave locked for ever.
        return self._threads.setdefault(os.getpid(), BrowserThread(self._settings, self._guard))

    async def _capture(self, request: CaptureRequest, deadline: Deadline, browsers: Browsers) -> bytes:
        failure: tuple[type[UpstreamFailed], str] = DIED
        try:
            async with asyncio.timeout(deadline.remaining_seconds()):
                for attempt in range(ATTEMPTS):
                    try:
                        async with browsers.page(partial(context_options, request), deadline) as page:
                            return await Visit(
                                page, request, self._equipment, browsers.proxy, deadline
                            ).picture()
                    except BrowserGone as error:
                        log.warning("chromium.browser_gone", attempt=attempt + 1, by_page=error.by_page)
                        failure = DIED_BY_PAGE if error.by_page else DIED
                    except PlaywrightError as error:
                        log.warning("chromium.page_failed", attempt=attempt + 1, reason=str(error)[:500])
                        failure = NOT_PHOTOGRAPHED
                        await asyncio.sleep(RECOVERY_SECONDS)
        except TimeoutError as error:
            raise TargetTooSlow("The page was not photographed in time.", provider=PROVIDER) from error
        kind, message = failure
        raise kind(message, provider=PROVIDER)


def context_options(request: CaptureRequest, version: str) -> dict[str, Any]:
    """What a fresh context of a browser of this ``version`` is made with, in Playwright's words.

    Raises:
        CaptureRefused: there is no such device.
    """
    device = device_named(request.device)
    if request.device is not None and device is None:
        raise CaptureRefused("There is no device of this name.")
    size = {"width": request.width, "height": request.height}
    place = request.geolocation
    return {
        "viewport": size,
        "screen": size,
        "device_scale_factor": request.device_scale_factor,
        "is_mobile": device is not None and device.is_mobile,
        "has_touch": device is not None and device.has_touch,
        "user_agent": user_agent_of(request, version),
        "locale": request.locale,
        "timezone_id": request.timezone,
        "geolocation": {"latitude": place.latitude, "longitude": place.longitude} if place else None,
        "permissions": ["geolocation"] if place else None,
        "color_scheme": "dark" if request.dark_mode else "light",
        "reduced_motion": "reduce" if request.reduced_motion else "no-preference",
        "accept_downloads": False,
        "service_workers": "block",
    }
