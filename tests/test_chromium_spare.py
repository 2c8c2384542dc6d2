"""A page that is opened ahead of the next capture: as good as any other, and nobody's before."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.support.browser_processes import living, renderers, the_browser
from tests.support.chromium import chromium, take
from tests.support.pages import GREEN, PageServer, colour_at, picture_of, running_pages
from tests.support.processes import wait_until
from thumbnailer.providers.chromium import ChromiumProvider

#: True in a page that finds nothing of an earlier visit, and leaves something for the next.
NOTHING_LEFT = """
(() => {
  const left = document.cookie || localStorage.seen || sessionStorage.seen || window.name;
  document.cookie = "seen=1"; localStorage.seen = sessionStorage.seen = window.name = "1";
  return !left;
})()
"""


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with running_pages() as server:
        yield server


@pytest.fixture
def provider() -> Iterator[ChromiumProvider]:
    with chromium() as provider:
        yield provider


def is_green(provider: ChromiumProvider, url: str) -> bool:
    return colour_at(take(provider, url), 10, 10) == GREEN


def open_a_spare(provider: ChromiumProvider, pages: PageServer) -> psutil.Process:
    """The process of a page that waits for a third capture after two that were alike."""
    seen: set[psutil.Process] = set()
    for _ in range(2):
        with ThreadPoolExecutor(2) as callers:
            captures = [callers.submit(is_green, provider, pages.url("/pairs")) for _ in range(2)]
            wait_until(lambda: len(renderers()) >= 2)
            seen |= set(renderers())
            assert all(capture.result(30) for capture in captures)
    found: list[psutil.Process] = []

    def waits_alone() -> bool:
        found[:] = renderers()
        return len(found) == 1 and found[0] not in seen

    wait_until(waits_alone, what="the page alone that is opened ahead")
    return found[0]


def test_after_two_captures_that_are_alike_a_page_waits_for_the_third(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    spare = open_a_spare(provider, pages)
    pages.requests.clear()
    with ThreadPoolExecutor(1) as caller:
        capture = caller.submit(is_green, provider, pages.url("/pairs"))
        wait_until(lambda: "/pairs" in pages.requests)
        assert renderers() == [spare], "no other page was opened for it"
        assert is_green(provider, pages.url("/pairs"))
        assert capture.result(30)
    wait_until(lambda: not living([spare]), what="the end of the page after its one capture")


def test_captures_that_are_not_alike_leave_none(provider: ChromiumProvider, pages: PageServer) -> None:
    for width in (300, 310, 320):
        assert picture_of(take(provider, pages.url("/plain"), width=width)).width == width
    wait_until(lambda: not renderers())


def test_an_operator_can_do_without(pages: PageServer) -> None:
    with chromium(has_spare_page=False) as provider:
        for _ in range(3):
            assert is_green(provider, pages.url("/plain"))
        wait_until(lambda: not renderers())


def test_nothing_of_one_capture_is_found_by_the_next(provider: ChromiumProvider, pages: PageServer) -> None:
    for _ in range(5):
        assert is_green(provider, pages.check(NOTHING_LEFT))


def test_other_options_get_a_page_of_their_own(provider: ChromiumProvider, pages: PageServer) -> None:
    spare = open_a_spare(provider, pages)
    dark = pages.check("matchMedia('(prefers-color-scheme: dark)').matches")
    assert colour_at(take(provider, dark, dark_mode=True), 10, 10) == GREEN
    assert living([spare])
    assert is_green(provider, pages.check("matchMedia('(prefers-color-scheme: light)').matches"))
    wait_until(lambda: not living([spare]))


def test_a_page_that_dies_while_it_waits_costs_no_error(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    spare = open_a_spare(provider, pages)
    spare.kill()
    assert is_green(provider, pages.url("/plain"))


def test_a_browser_that_ends_takes_it_along(pages: PageServer) -> None:
    with chromium(recycle_after=2) as provider:
        first = the_browser_of_two(provider, pages)
        assert is_green(provider, pages.url("/plain"))
        wait_until(lambda: not living([first]))


def the_browser_of_two(provider: ChromiumProvider, pages: PageServer) -> psutil.Process:
    for _ in range(2):
        assert is_green(provider, pages.url("/plain"))
    return the_browser()
