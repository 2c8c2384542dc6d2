"""The playground in a real browser: pictures are taken, and what came back is told."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from blueprints.playground_options import STARTS
from tests.support.browsers import Visitor, visiting
from tests.support.edge import port_of
from tests.support.nginx import running_nginx
from tests.support.pages import running_pages
from tests.support.playground import (
    PREFIX,
    Playground,
    expect_state,
    facts,
    natural_size,
    running_playground,
    take,
    wait_at,
)
from tests.support.processes import wait_until
from tests.support.service import TARGET, running_service


def test_a_page_is_photographed_and_what_came_back_is_told(visitor: Visitor, target: str) -> None:
    page = visitor.page
    with page.expect_response(re.compile("/thumb")) as caught:
        take(page, target)
    expect_state(page, "shown")
    headers = caught.value.headers
    assert natural_size(page) == (1280, 720)
    expect(page.locator("#picture")).to_have_attribute("alt", "Picture of 93.184.216.34")
    told = facts(page)
    assert told["X-Cache"] == "MISS"
    assert told["Pixels"] == "1,280 \N{MULTIPLICATION SIGN} 720"
    assert f"{int(headers['content-length']):,} bytes" in told["Size"]
    assert told["Content type"] == "image/png"
    assert re.fullmatch(r"[\d.]+ m?s", told["Time taken"])
    assert told["Age"].endswith(("1 day left", "24 hours left"))
    assert told["Cost"] == "One new capture"
    assert told["Cache-Status"] == headers["cache-status"]
    assert told["Request id"] == headers["x-request-id"]
    expect(page.get_by_role("status")).to_contain_text("Taken: 1280 \N{MULTIPLICATION SIGN} 720, in")


def test_the_second_look_comes_from_the_cache_and_a_new_capture_does_not(
    visitor: Visitor, opened: Playground, target: str
) -> None:
    page = visitor.page
    for said in ("Taken", "From the cache"):
        take(page, target)
        expect(page.get_by_role("status")).to_contain_text(said)
    assert (facts(page)["X-Cache"], facts(page)["Cost"]) == ("HIT", "No new capture")
    page.get_by_role("button", name="New capture").click()
    wait_at(page, lambda: "fresh=true" in visitor.asked_for("/thumb")[-1].url)
    expect_state(page, "shown")
    assert "fresh" not in page.locator("#address").inner_text(), "nobody's page should ask for that"
    assert opened.vendor.calls.count(target) == 1, "at most one a minute"


def test_an_address_without_a_scheme_is_one_of_https(visitor: Visitor) -> None:
    page = visitor.page
    take(page, "93.184.216.34/no-scheme")
    expect(page.get_by_label("Page to photograph")).to_have_value("https://93.184.216.34/no-scheme")
    expect_state(page, "shown")


def test_another_size_is_shown_at_once_and_costs_no_capture(
    visitor: Visitor, opened: Playground, target: str
) -> None:
    page = visitor.page
    take(page, target)
    expect_state(page, "shown")
    page.locator("#thumb_width").fill("320")
    expect(page.locator("#facts")).to_contain_text("320 \N{MULTIPLICATION SIGN} 180")
    page.locator("#thumb_height").fill("320")
    page.locator("#fit").select_option("cover")
    page.locator("#format").select_option("webp")
    expect(page.locator("#facts")).to_contain_text("image/webp")
    expect(page.locator("#facts")).to_contain_text("320 \N{MULTIPLICATION SIGN} 320")
    assert natural_size(page) == (320, 320)
    assert opened.vendor.calls.count(target) == 1


def test_what_needs_another_capture_waits_for_a_click(
    visitor: Visitor, opened: Playground, target: str
) -> None:
    page = visitor.page
    take(page, target)
    expect_state(page, "shown")
    asked = len(visitor.asked_for("/thumb"))
    page.locator("#dark_mode").check()
    expect(page.get_by_role("status")).to_contain_text("Changed since")
    assert len(visitor.asked_for("/thumb")) == asked
    page.get_by_role("button", name="Take picture").click()
    expect(page.get_by_role("status")).to_contain_text("Taken")
    assert "dark_mode=true" in visitor.asked_for("/thumb")[-1].url
    assert opened.vendor.calls.count(target) == 2


def test_a_start_fills_in_the_form_and_takes_the_picture(
    browser: Browser, opened: Playground, target: str
) -> None:
    with visiting(browser, opened.url, "/#full_page=true&dark_mode=true") as visitor:
        page = visitor.page
        page.get_by_role("button", name="Card", exact=True).click()
        expect(page.get_by_label("Page to photograph")).to_be_focused()
        assert visitor.asked_for("/thumb") == [], "of nothing yet"
        page.get_by_label("Page to photograph").fill(target)
        page.get_by_role("group", name="Start with").get_by_role("button", name="Phone").click()
        expect_state(page, "shown")
        expect(page.locator("#full_page")).not_to_be_checked()
        expect(page.locator("#device")).to_have_value("iPhone 14")
        assert dict(parse_qsl(urlsplit(visitor.asked_for("/thumb")[-1].url).query)) == {
            "url": target,
            **STARTS["Phone"],
        }


def test_an_address_of_the_page_carries_its_settings_and_takes_no_picture_by_itself(
    browser: Browser, opened: Playground, visitor: Visitor, target: str
) -> None:
    page = visitor.page
    page.locator("#thumb_width").fill("300")
    page.locator("#full_page").check()
    page.locator("#block_ads").uncheck()
    page.locator("#device").select_option("iPhone 14")
    take(page, target)
    expect_state(page, "shown")
    fragment = urlsplit(page.url).fragment
    assert urlsplit(page.url).query == ""
    with visiting(browser, opened.url, f"/#{fragment}&key=tn_x&nothing=1") as guest:
        expect(guest.page.get_by_label("Page to photograph")).to_have_value(target)
        expect(guest.page.locator("#thumb_width")).to_have_value("300")
        expect(guest.page.locator("#full_page")).to_be_checked()
        expect(guest.page.locator("#block_ads")).not_to_be_checked()
        expect(guest.page.locator("#device")).to_have_value("iPhone 14")
        expect(guest.page.locator("#width")).to_have_attribute("placeholder", "390")
        expect(guest.page.locator("#key")).to_have_value("")
        assert guest.page.locator("#address").inner_text() == page.locator("#address").inner_text()
        assert guest.asked_for("/thumb") == []
        guest.page.get_by_role("button", name="Reset").click()
        expect(guest.page.locator("#thumb_width")).to_have_value("")
        expect(guest.page.locator("#block_ads")).to_be_checked()
        expect(guest.page.get_by_label("Page to photograph")).to_have_value(target)


def test_a_second_request_ends_the_first(visitor: Visitor, opened: Playground, target: str) -> None:
    page, slow = visitor.page, f"{target}-slow"
    opened.vendor.go_on.clear()
    opened.vendor.slow.add(slow)
    failed: list[str] = []
    page.on("requestfailed", lambda one: failed.append(one.url))
    take(page, slow)
    expect_state(page, "busy")
    expect(page.get_by_role("status")).to_have_text("Taking the picture…")
    expect(page.locator("#stage")).to_have_attribute("aria-busy", "true")
    expect(page.locator("#elapsed")).to_have_text(re.compile(r"[\d.]+ s"))
    wait_until(lambda: slow in opened.vendor.calls)
    take(page, target)
    expect_state(page, "shown")
    wait_at(page, lambda: len(failed) == 1)
    assert quote(slow, safe="") in failed[0]
    expect(page.locator("#elapsed")).to_be_empty()
    opened.vendor.go_on.set()
    assert quote(target, safe="") in str(page.locator("#address").inner_text())


def test_a_request_can_be_stopped(browser: Browser, opened: Playground, target: str) -> None:
    opened.vendor.go_on.clear()
    opened.vendor.slow.add(target)
    with visiting(browser, opened.url) as visitor:
        button = visitor.page.get_by_role("button", name="Stop")
        for stop in (lambda: button.press("Enter"), _escape(visitor.page)):
            take(visitor.page, target)
            expect_state(visitor.page, "busy")
            stop()
            expect(visitor.page.get_by_role("status")).to_have_text("Stopped.")
            expect_state(visitor.page, "empty")
            expect(visitor.page.get_by_role("button", name="Take picture")).to_be_focused()
        expect(visitor.page.get_by_role("button", name="Stop")).to_be_hidden()
    opened.vendor.go_on.set()


def _escape(page: Page) -> Any:
    return lambda: page.keyboard.press("Escape")


def test_a_picture_that_is_being_made_is_waited_for(browser: Browser, tmp_path: Path) -> None:
    with (
        running_playground(tmp_path, THUMB_DEFAULTS="wait=0") as playground,
        visiting(browser, playground.url) as visitor,
    ):
        playground.vendor.slow.add(TARGET)
        take(visitor.page, TARGET)
        wait_at(visitor.page, lambda: len(visitor.asked_for("/thumb")) > 1)
        expect_state(visitor.page, "busy")
        playground.vendor.go_on.set()
        expect_state(visitor.page, "shown")


def test_below_a_prefix_of_a_proxy_it_works_as_well(browser: Browser, tmp_path: Path) -> None:
    base = "https://www.example.com/thumbs"
    with (
        running_playground(tmp_path, PUBLIC_BASE_URL=base) as playground,
        running_nginx(tmp_path / "nginx", port_of(playground.url), changes=PREFIX) as nginx,
        visiting(browser, nginx.url, "/thumbs/") as visitor,
    ):
        take(visitor.page, TARGET)
        expect_state(visitor.page, "shown")
        assert {urlsplit(one.url).path.split("/")[1] for one in visitor.requests[:-1]} == {"thumbs"}
        expect(visitor.page.locator("#address")).to_have_text(f"{base}/thumb?url={quote(TARGET, safe='')}")


def test_a_picture_larger_than_its_frame_can_be_scrolled_by_keyboard(visitor: Visitor, target: str) -> None:
    page, stage = visitor.page, visitor.page.get_by_label("The picture", exact=True)
    take(page, target)
    expect_state(page, "shown")
    expect(stage).to_have_attribute("tabindex", "-1")
    full_size = page.get_by_role("button", name="Full size")
    full_size.click()
    expect(full_size).to_have_attribute("aria-pressed", "true")
    expect(stage).to_have_attribute("tabindex", "0")
    stage.press("End")
    wait_at(page, lambda: stage.evaluate("one => one.scrollTop") > 0)


def test_local_chromium_shows_what_is_there(browser: Browser, tmp_path: Path) -> None:
    settings = {"PROVIDERS": "chromium", "ALLOWED_PRIVATE_TARGETS": "127.0.0.0/8", "WEB_CONCURRENCY": "1"}
    with (
        running_pages() as pages,
        running_service(tmp_path, settings) as service,
        visiting(browser, service.url) as visitor,
    ):
        assert visitor.page.locator("#options :disabled").count() == 0
        take(visitor.page, pages.url("/quarters"))
        expect_state(visitor.page, "shown")
        screen = Image.open(io.BytesIO(visitor.page.locator("#picture").screenshot())).convert("RGB")
        middle = (screen.width // 2, screen.height // 2)
        points = [(x * middle[0] + 30, y * middle[1] + 30) for y in (0, 1) for x in (0, 1)]
        assert [screen.getpixel(point) for point in points] == [
            (255, 0, 0),
            (0, 255, 0),
            (0, 0, 255),
            (255, 255, 255),
        ]
