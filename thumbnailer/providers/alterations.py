"""What callers do to a page by options of their own: cookies, headers, style, script.

Nothing of what these options hold is in an error or a log line.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from thumbnailer.errors import CaptureRefused
from thumbnailer.model import CaptureRequest
from thumbnailer.providers.page_scripts import ADD_STYLE
from thumbnailer.providers.page_world import PageWorld
from thumbnailer.providers.playwright_errors import PlaywrightError, PlaywrightTimeout
from thumbnailer.target import DEFAULT_PORTS

if TYPE_CHECKING:
    from playwright.async_api import Page

#: How Playwright begins to tell that the page was left while a program ran in it.
LEFT = "Page.evaluate: Execution context was destroyed"


async def introduce_caller(page: Page, request: CaptureRequest) -> None:
    """Give the browser the cookies, for the target's host alone. Raises ``CaptureRefused``."""
    if not request.cookies:
        return
    is_secure = request.url.startswith("https:")
    try:
        await page.context.add_cookies(
            [
                {
                    "name": each.name,
                    "value": each.value,
                    "domain": each.host,
                    "path": "/",
                    "secure": is_secure,
                }
                for each in request.cookies
            ]
        )
    except PlaywrightError as error:
        raise _refusal(page, error, "The browser does not take these cookies.") from None


async def style(page: Page, world: PageWorld, css: str) -> None:
    """Add a style sheet. Raises ``CaptureRefused``."""
    try:
        await world.run(ADD_STYLE, css)
    except PlaywrightError as error:
        raise _refusal(page, error, "The page does not take the style sheet of the option css.") from None


async def run(page: Page, js: str, seconds: float) -> None:
    """Run a program in the page, and wait for it, and for where it leads the page.

    Raises:
        CaptureRefused: it failed, or took longer.
    """
    try:
        async with asyncio.timeout(seconds):
            await page.evaluate(js)
    except TimeoutError:
        raise CaptureRefused("The program of the option js did not end in time.") from None
    except PlaywrightError as error:
        if not error.message.startswith(LEFT):
            raise _refusal(page, error, "The program of the option js failed.") from None
    with suppress(PlaywrightTimeout):
        await page.wait_for_load_state("load", timeout=seconds * 1000)


async def send_headers(page: Page, request: CaptureRequest) -> None:
    """Let the page's requests to the target's own origin (RFC 6454) have the headers, and no others.

    They may let somebody in. Playwright would repeat them after a redirect, wherever that leads; over the
    DevTools protocol every hop is a request of its own.
    """
    if not request.headers:
        return
    origin, names = _origin(request.url), {name for name, _ in request.headers}
    session = await page.context.new_cdp_session(page)

    async def go_on(event: dict[str, Any]) -> None:
        paused, more = event["request"], {}
        if _origin(paused["url"]) == origin:
            kept = {name: text for name, text in paused["headers"].items() if name.lower() not in names}
            headers = [*kept.items(), *request.headers]
            more = {"headers": [{"name": name, "value": text} for name, text in headers]}
        with suppress(PlaywrightError):  # the page has gone
            await session.send("Fetch.continueRequest", {"requestId": event["requestId"], **more})

    session.on("Fetch.requestPaused", go_on)
    await session.send("Fetch.enable", {"patterns": [{"urlPattern": "*", "requestStage": "Request"}]})


def _refusal(page: Page, error: PlaywrightError, message: str) -> Exception:
    """What to raise: the error itself where page or browser have died, for that is not the caller's doing."""
    browser = page.context.browser
    is_dead = page.is_closed() or browser is None or not browser.is_connected()
    return error if is_dead else CaptureRefused(message)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or DEFAULT_PORTS.get(parts.scheme)
