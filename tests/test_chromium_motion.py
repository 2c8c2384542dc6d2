"""Pages that move or are still being made when they have loaded, and when they are photographed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.async_api import async_playwright

from tests.support.chromium import NO_NAMES, chromium, take
from tests.support.pages import GREEN, PageServer, colours_at, picture_of, running_pages
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers.chromium import ChromiumProvider, find_chromium
from thumbnailer.providers.picture import Taken
from thumbnailer.providers.resting import CONTENT, Resting, UnderWay


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with running_pages() as server:
        yield server


@pytest.fixture(scope="module")
def provider() -> Iterator[ChromiumProvider]:
    with chromium() as provider:
        yield provider


@pytest.mark.parametrize(
    ("path", "options"),
    [
        pytest.param("/moves-by-script", {}, id="styles"),
        pytest.param("/drawn-by-script", {}, id="a canvas"),
        pytest.param("/moves-by-script", {"full_page": True}, id="styles of a whole page"),
        pytest.param("/moves-for-ever", {}, id="without end"),
        pytest.param("/moves-and-asks-late", {"block_cookie_banners": True}, id="and a banner comes up"),
        pytest.param("/fetches-in-turn", {}, id="made of what is fetched piece by piece"),
    ],
)
def test_what_scripts_move_is_shown_where_it_comes_to_rest(
    provider: ChromiumProvider, pages: PageServer, path: str, options: dict[str, Any]
) -> None:
    body = take(provider, pages.url(path), **options)
    assert set(colours_at(body, (10, 10), (300, 10), (160, 230))) == {GREEN}


def test_what_grows_when_it_is_seen_is_in_the_picture_of_a_whole_page_as_large_as_it_gets(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    body = take(provider, pages.url("/grows-by-script"), full_page=True)
    assert picture_of(body).size == (320, 1440)
    assert set(colours_at(body, (160, 100), (160, 1430))) == {GREEN}


@pytest.mark.parametrize(("path", "count"), [("/polls", 1), ("/listens", 0)])
def test_a_stream_that_has_begun_is_not_waited_for(pages: PageServer, path: str, count: int) -> None:
    async def visit() -> int:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(
                executable_path=find_chromium(), args=[NO_NAMES, "--no-sandbox"]
            )
            page = await browser.new_page()
            under_way = UnderWay(page, CONTENT)
            await page.goto(pages.url(path))
            if not count:
                await page.wait_for_function("document.title === 'x'")
            waited_for = len(under_way)
            await browser.close()
            return waited_for

    assert asyncio.run(visit()) == count


@dataclass(frozen=True, slots=True)
class Asked:
    """Stands for a request."""

    resource_type: str


def test_what_is_under_way_is_waited_for_once_and_no_longer_than_it_takes() -> None:
    async def wait() -> list[tuple[bool, int]]:
        heard: dict[str, Callable[[Any], None]] = {}
        page: Any = SimpleNamespace(on=heard.__setitem__)
        under_way = UnderWay(page, CONTENT)
        asked, found = Asked("fetch"), []
        heard["request"](Asked("image"))
        found.append((await under_way.arrive(60), len(under_way)))
        heard["request"](asked)
        asyncio.get_running_loop().call_soon(heard["requestfinished"], asked)
        found.append((await under_way.arrive(60), len(under_way)))
        heard["request"](asked)
        found.append((await under_way.arrive(0), len(under_way)))
        found.append((await under_way.arrive(0), len(under_way)))
        return found

    # No request of that kind; one that arrives; one that does not, and is not waited for again.
    assert asyncio.run(asyncio.wait_for(wait(), 30)) == [(False, 0), (True, 0), (True, 0), (False, 0)]


class StillWorld:
    """Stands for a page that needs nothing to come to rest."""

    async def attempt(self, *_arguments: Any) -> None:
        return None


@pytest.mark.parametrize(
    ("contents", "moving"),
    [
        pytest.param(b"a", 0, id="nothing moves"),
        pytest.param(b"aa", 2, id="scripts that change nothing"),
        pytest.param(b"abb", 1, id="scripts between two pictures"),
    ],
)
def test_no_more_pictures_are_taken_than_it_takes_to_see_that_a_page_stands_still(
    contents: bytes, moving: int
) -> None:
    async def rest() -> bytes:
        page: Any = SimpleNamespace(on=lambda *_: None)
        world: Any = StillWorld()
        request = CaptureRequest(url="http://example.com/", width=320, height=240)
        return await Resting(page, world, request, Deadline.after(60)).last_of(photograph, world.attempt)

    left = [Taken(bytes([each]), is_of_moving_page=at < moving) for at, each in enumerate(contents)]

    async def photograph() -> Taken:
        return left.pop(0)

    assert asyncio.run(rest()) == contents[-1:]
    assert not left
