"""A page that is opened before anybody asks for it.

Opening a context and making it known to the proxy takes a third of the time of a simple capture. So once two
captures in a row were made with the same options, a third is expected, and its page is opened behind the
second. It is as fresh as any other: nothing has been visited in it, and it serves one capture.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thumbnailer.providers.playwright_errors import PlaywrightError

if TYPE_CHECKING:
    from playwright.async_api import Page

Options = Mapping[str, Any]

#: Opens a page in a fresh context made with these options; the stack is given what closes both.
OpenPage = Callable[[Options, AsyncExitStack], Awaitable["Page"]]


@dataclass(frozen=True, slots=True)
class _Spare:
    options: Options
    opening: asyncio.Task[Page | None]
    leaving: AsyncExitStack


class SparePage:
    """The page that the next capture of one browser may get; used on that browser's event loop."""

    def __init__(self, open_page: OpenPage) -> None:
        self._open_page = open_page
        self._last_options: Options | None = None
        self._spare: _Spare | None = None

    async def take(self, options: Options, leaving: AsyncExitStack) -> Page | None:
        """The page, once it is open, where one was prepared for these options; ``leaving`` closes it."""
        spare = self._spare
        if spare is None or spare.options != options:
            return None
        self._spare = None
        leaving.push_async_callback(spare.leaving.aclose)
        page = await spare.opening
        with suppress(PlaywrightError):
            if page is not None:
                await page.evaluate("1")  # it may have died while it was waiting
                return page
        return None

    async def prepare(self, options: Options) -> None:
        """Open a page behind a capture with ``options``, if another capture like it is to be expected."""
        is_expected, self._last_options = options == self._last_options, options
        if not is_expected or (self._spare is not None and self._spare.options == options):
            return
        outdated, leaving = self._spare, AsyncExitStack()
        self._spare = _Spare(options, asyncio.ensure_future(self._opened(options, leaving)), leaving)
        if outdated is not None:
            await outdated.opening
            await outdated.leaving.aclose()

    def give_up(self) -> None:
        """The browser ends, and whatever is open in it."""
        if self._spare is not None:
            self._spare.opening.cancel()
            self._spare = None

    async def _opened(self, options: Options, leaving: AsyncExitStack) -> Page | None:
        """None where it cannot be opened: whoever wants it will open one and see why."""
        with suppress(PlaywrightError):
            return await self._open_page(options, leaving)
        return None
