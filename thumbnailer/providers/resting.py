"""How a page comes to rest: what the picture is to show has arrived, and nothing moves any more."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from thumbnailer.model import CaptureRequest, Deadline, Format
from thumbnailer.providers import page_scripts, whole_page
from thumbnailer.providers.page_world import PageWorld

if TYPE_CHECKING:
    from playwright.async_api import Page, Request

#: The most that each wait may take, in seconds; every one also takes only a share of what is left.
SCROLL_SECONDS = 10.0
PICTURES_SECONDS = 4.0
SETTLE_SECONDS = 4.0

#: Milliseconds at each step of a page that is scrolled through, and at the end.
SCROLL_PAUSES = {"pause": 60, "rest": 700}

#: Kinds of requests, in Playwright's words. Of content is what a page that has loaded may still be made;
#: beacons and streams are not among it.
CONTENT = frozenset({"fetch", "font", "script", "stylesheet", "xhr"})
PICTURES = frozenset({"image"})


class UnderWay:
    """What ``page`` has asked for and not got yet, of these kinds; styles and scripts ask, too."""

    def __init__(self, page: Page, kinds: frozenset[str]) -> None:
        self._kinds = kinds
        self._asked: set[Request] = set()
        self._all_there = asyncio.Event()
        self._all_there.set()
        page.on("request", self._begin)
        page.on("requestfinished", self._end)
        page.on("requestfailed", self._end)

    async def arrive(self, seconds: float) -> bool:
        """Wait for them, no longer than this; whether there were any."""
        if not self._asked:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_there.wait()
        return True

    def _begin(self, request: Request) -> None:
        if request.resource_type in self._kinds:
            self._asked.add(request)
            self._all_there.clear()

    def _end(self, request: Request) -> None:
        self._asked.discard(request)
        if not self._asked:
            self._all_there.set()


async def come_to_rest(
    world: PageWorld,
    request: CaptureRequest,
    pictures: UnderWay,
    deadline: Deadline,
    *,
    max_full_page_height: int,
) -> None:
    """Bring what ``request`` wants of the page into view, wait for it, and let it stand still."""
    is_whole = shows_whole_page(request)
    depth = max_full_page_height if is_whole else _depth(request)
    if is_whole:
        await world.attempt(whole_page.UNFOLD)
    if depth > request.height:
        patience = deadline.share_seconds(3, SCROLL_SECONDS)
        options = {"limit": depth, "patience": patience * 1000, **SCROLL_PAUSES}
        await world.attempt(whole_page.SCROLL_THROUGH, options, patience + 1)
    if request.selector is not None:
        await world.attempt(page_scripts.BRING_INTO_VIEW, request.selector)
    if request.delay:
        await asyncio.sleep(request.delay / 1000)
    if is_whole:
        await world.attempt(page_scripts.ADD_STYLE, whole_page.LAY_FLAT)
    await _settle(world, depth, deadline)
    if await pictures.arrive(deadline.share_seconds(4, PICTURES_SECONDS)):
        await _settle(world, depth, deadline)
    if is_whole and request.format is not Format.PDF:  # on paper it clings to every sheet
        await world.attempt(whole_page.SINK, depth)


async def _settle(world: PageWorld, depth: int, deadline: Deadline) -> None:
    patience = deadline.share_seconds(4, SETTLE_SECONDS)
    await world.attempt(page_scripts.SETTLED, {"depth": depth, "patience": patience * 1000}, patience + 0.5)


def shows_whole_page(request: CaptureRequest) -> bool:
    return request.full_page or request.format is Format.PDF


def _depth(request: CaptureRequest) -> int:
    """How far down the page a picture of a part reaches, in CSS pixels."""
    return request.clip.y + request.clip.height if request.clip is not None else request.height
