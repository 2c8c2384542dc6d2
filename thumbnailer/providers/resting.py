"""How a page comes to rest: what the picture is to show has arrived, and nothing moves any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from thumbnailer.model import CaptureRequest, Deadline, Format, WaitUntil
from thumbnailer.providers import page_scripts, whole_page
from thumbnailer.providers.page_world import PageWorld
from thumbnailer.providers.picture import Taken

if TYPE_CHECKING:
    from playwright.async_api import Page, Request, Response

#: The most that each wait may take, in seconds; every one also takes only a share of what is left.
SCROLL_SECONDS = 10.0
PICTURES_SECONDS = 4.0
SETTLE_SECONDS = 4.0
CONTENT_SECONDS = 1.5
MOVING_SECONDS = 2.5

#: Between two pictures of a page that moves.
STEP_SECONDS = 0.1

#: Milliseconds at each step of a page that is scrolled through, at the bottom, and at the end.
SCROLL_PAUSES = {"pause": 60, "stay": 300, "rest": 400}

#: Kinds of requests, in Playwright's words. Of content is what a page that has loaded may still be made;
#: beacons and streams are not among it.
CONTENT = frozenset({"fetch", "font", "script", "stylesheet", "xhr"})
PICTURES = frozenset({"image"})

#: An answer of these types is a stream without an end, as a rule.
ENDLESS_TYPES = ("text/event-stream", "application/x-ndjson", "multipart/x-mixed-replace")


class UnderWay:
    """What ``page`` has asked for and not got yet, of these kinds; styles and scripts ask, too.

    What was waited for in vain is not waited for again: it is a poll or a stream, or does not come.
    """

    def __init__(self, page: Page, kinds: frozenset[str]) -> None:
        self._kinds = kinds
        self._asked: set[Request] = set()
        self._all_there = asyncio.Event()
        self._all_there.set()
        page.on("request", self._begin)
        page.on("response", self._look_at)
        page.on("requestfinished", self._end)
        page.on("requestfailed", self._end)

    def __len__(self) -> int:
        return len(self._asked)

    async def arrive(self, seconds: float) -> bool:
        """Wait for them, no longer than this; whether there were any."""
        if not self._asked:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._all_there.wait()
        self._asked.clear()
        return True

    def _begin(self, request: Request) -> None:
        if request.resource_type in self._kinds:
            self._asked.add(request)
            self._all_there.clear()

    def _look_at(self, response: Response) -> None:
        if response.headers.get("content-type", "").startswith(ENDLESS_TYPES):
            self._end(response.request)

    def _end(self, request: Request) -> None:
        self._asked.discard(request)
        if not self._asked:
            self._all_there.set()


class Resting:
    """How ``page`` comes to rest for the picture that ``request`` wants; made before it is opened."""

    def __init__(self, page: Page, world: PageWorld, request: CaptureRequest, deadline: Deadline) -> None:
        self._world = world
        self._request = request
        self._deadline = deadline
        self._pictures, self._content = UnderWay(page, PICTURES), UnderWay(page, CONTENT)
        is_waited_for = request.wait_until is WaitUntil.LOAD
        self._awaited = (self._content, self._pictures) if is_waited_for else (self._pictures,)
        self._depth = _depth(request)

    async def content_arrives(self) -> None:
        """Wait for what a page that has loaded is fetching."""
        await self._content.arrive(self._deadline.share_seconds(4, CONTENT_SECONDS))

    async def begin(self, *, max_full_page_height: int) -> None:
        """Bring what is wanted of the page into view, wait for it, and let it stand still."""
        is_whole = shows_whole_page(self._request)
        if is_whole:
            self._depth = max_full_page_height
            await self._world.attempt(whole_page.UNFOLD)
        if self._depth > self._request.height:
            await self._world.attempt(whole_page.DRAW_ALL)
            patience = self._deadline.share_seconds(3, SCROLL_SECONDS)
            options = {"limit": self._depth, "patience": patience * 1000, **SCROLL_PAUSES}
            await self._world.attempt(whole_page.SCROLL_THROUGH, options, patience + 1)
        if self._request.selector is not None:
            await self._world.attempt(page_scripts.BRING_INTO_VIEW, self._request.selector)
        if self._request.delay:
            await asyncio.sleep(self._request.delay / 1000)
        if is_whole:
            await self._world.attempt(page_scripts.ADD_STYLE, whole_page.LAY_FLAT)
        await self._settle()
        if await self._pictures.arrive(self._deadline.share_seconds(4, PICTURES_SECONDS)):
            await self._settle()
        if is_whole and self._request.format is not Format.PDF:  # on paper it clings to every sheet
            await self._world.attempt(whole_page.SINK, self._depth)

    async def last_of(
        self, take: Callable[[], Awaitable[Taken]], tidy_up: Callable[[], Awaitable[None]]
    ) -> bytes:
        """The picture that ``take`` makes; where the page moved meanwhile, the first like the one before.

        Animations that are made by scripts have no end that anybody could ask for. A page that keeps on
        moving is shown as it looks after ``MOVING_SECONDS``. What appears meanwhile there is ``tidy_up`` for.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + self._deadline.share_seconds(4, MOVING_SECONDS)
        taken = await take()
        has_moved = is_moving = taken.is_of_moving_page
        while (is_moving or any(self._awaited)) and clock() < until:
            await asyncio.sleep(STEP_SECONDS)
            for under_way in self._awaited:
                await under_way.arrive(max(0.0, until - clock()))
            await tidy_up()
            await self._settle(max(0.0, until - clock()))
            last, taken = taken, await take()
            has_moved = has_moved or taken.is_of_moving_page
            is_moving = has_moved and taken.content != last.content
        return taken.content

    async def _settle(self, most: float = SETTLE_SECONDS) -> None:
        patience = self._deadline.share_seconds(4, most)
        options = {"depth": self._depth, "patience": patience * 1000}
        await self._world.attempt(page_scripts.SETTLED, options, patience + 0.5)


def shows_whole_page(request: CaptureRequest) -> bool:
    return request.full_page or request.format is Format.PDF


def _depth(request: CaptureRequest) -> int:
    """How far down the page a picture of a part reaches, in CSS pixels."""
    return request.clip.y + request.clip.height if request.clip is not None else request.height
