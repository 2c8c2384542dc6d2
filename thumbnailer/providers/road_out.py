"""The browser's one road out: the switches that close all others, and how a context comes to know it.

The proxy serves only who knows its password. Playwright would give the password away on request, but
stops each request of a page for it, and one that it loses track of hangs for ever. So each fresh
context greets the proxy once, before it visits anything: Chromium then remembers the password for all
that the context ever sends, and nothing is stopped any more. What the browser sends on its own
account, outside of such a context, is turned away.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from thumbnailer.egress_proxy import GREETING_HOST, EgressProxy
from thumbnailer.providers.playwright_errors import PlaywrightError

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, Page

GREETING_URL = f"http://{GREETING_HOST}/"


def switches_to(proxy: EgressProxy) -> tuple[str, ...]:
    """The switches that lead all traffic to ``proxy``."""
    return (
        f"--proxy-server={proxy.url}",
        # Without this, loopback goes around every proxy.
        "--proxy-bypass-list=<-loopback>",
        # Without this, the browser looks names up by itself for some of what it does.
        "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
        "--disable-quic",
        # Whole Chromium heeds the first of these two only, the headless shell the second only.
        "--webrtc-ip-handling-policy=disable_non_proxied_udp",
        "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    )


async def introduce(page: Page, proxy: EgressProxy) -> None:
    """Make the context of ``page``, which is fresh and stays empty, known to the proxy.

    Raises playwright.async_api.Error where the browser does not get through to it.
    """
    session = await page.context.new_cdp_session(page)
    answering: set[asyncio.Task[Any]] = set()

    def answer(method: str, parameters: dict[str, Any]) -> None:
        task = asyncio.ensure_future(_send(session, method, parameters))
        answering.add(task)
        task.add_done_callback(answering.discard)

    password = {"response": "ProvideCredentials", "username": proxy.username, "password": proxy.password}
    session.on("Fetch.requestPaused", lambda event: answer("Fetch.continueRequest", _named(event)))
    session.on(
        "Fetch.authRequired",
        lambda event: answer("Fetch.continueWithAuth", _named(event) | {"authChallengeResponse": password}),
    )
    patterns = [{"urlPattern": GREETING_URL, "requestStage": "Request"}]
    await session.send("Fetch.enable", {"handleAuthRequests": True, "patterns": patterns})
    try:
        await page.goto(GREETING_URL, wait_until="commit", timeout=0)
    except PlaywrightError as error:
        # "No content" is the answer to a greeting; the page stays where it is.
        if "net::ERR_ABORTED" not in error.message:
            raise
    await session.detach()


def _named(event: dict[str, Any]) -> dict[str, Any]:
    return {"requestId": event["requestId"]}


async def _send(session: CDPSession, method: str, parameters: dict[str, Any]) -> None:
    with suppress(PlaywrightError):  # the page is gone, and the greeting with it
        await session.send(method, parameters)
