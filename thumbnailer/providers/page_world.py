"""Scripts of our own in a page, where the page's cannot get in their way.

They run in an isolated world: the same document, but globals of their own. Many pages have a ``Map``, an
``Event`` or a ``name`` that is not the browser's, or an old library that changes what every array can do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from thumbnailer.providers.playwright_errors import PlaywrightError

if TYPE_CHECKING:
    from playwright.async_api import CDPSession, Page

WORLD_NAME = "thumbnailer"

#: How the browser tells that the page has gone elsewhere since the world was made.
LEFT = "Cannot find context with specified id"


#: How long a script may take that the picture can do without.
SCRIPT_SECONDS = 2.0


async def if_possible(work: Awaitable[Any], seconds: float) -> Any:
    """The result of what the picture can do without; None where it fails or takes too long."""
    with suppress(PlaywrightError, TimeoutError):
        async with asyncio.timeout(seconds):
            return await work
    return None


class PageWorld:
    """Our world in ``page``, made anew wherever the page goes."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._session: CDPSession | None = None
        self._context: int | None = None
        self._is_measured = False

    async def run(self, script: str, argument: Any = None) -> Any:
        """What a function expression makes of ``argument``; both are plain JSON, a promise is waited for.

        Raises playwright.async_api.Error where it throws, or the page goes elsewhere meanwhile.
        """
        if self._context is not None:
            try:
                return await self._call(self._context, script, argument)
            except PlaywrightError as error:
                if LEFT not in error.message:
                    raise
        self._context = await self._make()
        return await self._call(self._context, script, argument)

    async def attempt(self, script: str, argument: Any = None, seconds: float = SCRIPT_SECONDS) -> Any:
        """The same for a script that the picture can do without; None where it fails or takes too long."""
        return await if_possible(self.run(script, argument), seconds)

    async def send(self, method: str, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask the page something by the DevTools protocol; always in the same session."""
        if self._session is None:
            self._session = await self._page.context.new_cdp_session(self._page)
        return await self._session.send(method, parameters)

    async def script_seconds(self) -> float:
        """How long scripts have run in the page, ours too, since this was asked for the first time.

        It grows whenever one runs, be it to draw the next step of an animation.
        """
        if not self._is_measured:
            await self.send("Performance.enable")
            self._is_measured = True
        metrics = (await self.send("Performance.getMetrics"))["metrics"]
        return sum(float(each["value"]) for each in metrics if each["name"] == "ScriptDuration")

    async def _make(self) -> int:
        tree = await self.send("Page.getFrameTree")
        frame = {"frameId": tree["frameTree"]["frame"]["id"], "worldName": WORLD_NAME}
        return int((await self.send("Page.createIsolatedWorld", frame))["executionContextId"])

    async def _call(self, context: int, script: str, argument: Any) -> Any:
        call = {
            "functionDeclaration": script,
            "arguments": [{"value": argument}],
            "executionContextId": context,
            "awaitPromise": True,
            "returnByValue": True,
        }
        answer = await self.send("Runtime.callFunctionOn", call)
        if "exceptionDetails" in answer:
            raise PlaywrightError(str(answer["exceptionDetails"].get("exception", {}).get("description")))
        return answer["result"].get("value")
