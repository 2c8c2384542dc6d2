"""The playground in a real browser: everybody can use it, on whatever screen, and nobody frames it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.support.browsers import Visitor, pale_texts, visiting
from tests.support.playground import Playground, expect_state, take, wait_at
from tests.support.small_web import Reply, Site, serving


def test_without_javascript_a_plain_form_leads_to_the_picture(
    browser: Browser, opened: Playground, target: str
) -> None:
    with visiting(browser, opened.url, java_script_enabled=False) as visitor:
        page = visitor.page
        assert page.locator("#options").is_hidden()
        assert page.locator(".output, .result").first.is_hidden()
        page.get_by_label("Page to photograph").fill(target)
        page.locator("#ask").get_by_label("Width").select_option("320")
        page.locator("#ask").get_by_label("Format").select_option("webp")
        with page.expect_response(re.compile("/thumb")) as caught:
            page.get_by_role("button", name="Take picture").click()
        answer = caught.value
        assert (answer.status, answer.headers["content-type"]) == (200, "image/webp")
        assert dict(parse_qsl(urlsplit(answer.url).query)) == {
            "url": target,
            "thumb_width": "320",
            "format": "webp",
        }


def test_the_keyboard_is_enough(visitor: Visitor, target: str) -> None:
    page = visitor.page
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the form")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Page to photograph")).to_be_focused()
    page.keyboard.type(target)
    page.keyboard.press("Enter")
    expect_state(page, "shown")
    rings = [_ring_of_the_next(page) for _ in range(60)]
    unseen = [name for name, outline in rings if outline == "none" and name != "BODY"]
    assert unseen == []
    assert {"BUTTON", "INPUT", "SELECT", "SUMMARY", "PRE"} <= {name for name, _ in rings}


def test_skipping_to_the_form_leaves_it_as_it_is(browser: Browser, opened: Playground, target: str) -> None:
    with visiting(browser, opened.url, f"/#url={quote(target, safe='')}&thumb_width=300") as visitor:
        page, skip = visitor.page, visitor.page.get_by_role("link", name="Skip to the form")
        skip.press("Enter")
        expect(page.get_by_label("Page to photograph")).to_be_focused()
        page.keyboard.press("End")
        page.keyboard.type("&more")
        expect(page.get_by_label("Page to photograph")).to_have_value(f"{target}&more")
        expect(page.locator("#thumb_width")).to_have_value("300")


def _ring_of_the_next(page: Page) -> tuple[str, str]:
    """What has the focus after another press of Tab, and how that is shown."""
    page.keyboard.press("Tab")
    name, outline = page.evaluate(
        "(one => [one.tagName, getComputedStyle(one).outlineStyle])(document.activeElement)"
    )
    return name, outline


SCHEMES = {"light": (251, 251, 249), "dark": (20, 24, 29)}

#: Controls that nothing names, and references that lead nowhere.
NAMELESS = """() => [...document.querySelectorAll("input, select, textarea, button, a")].filter(one => {
  const labels = [...(one.labels ?? [])].map(label => label.textContent).join("");
  const said = one.getAttribute("aria-label") || labels;
  const refers = (one.getAttribute("aria-describedby") ?? "").split(" ").filter(Boolean);
  return !(said || one.textContent).trim() || !refers.every(id => document.getElementById(id));
}).map(one => one.outerHTML)"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_everything_has_a_name_and_can_be_read(
    browser: Browser, closed: Playground, scheme: Any, target: str
) -> None:
    with visiting(browser, closed.url, color_scheme=scheme) as visitor:
        page = visitor.page
        page.get_by_label("API key", exact=True).fill(closed.key)
        take(page, target)
        expect_state(page, "shown")
        page.evaluate("for (const group of document.querySelectorAll('details')) group.open = true")
        page.locator("#width").fill("1")
        page.locator("#css").fill("a {}")
        page.get_by_role("button", name="Take picture").click()
        expect(page.locator("#fault-width")).to_be_visible()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background == f"rgb{SCHEMES[scheme]}"
        assert pale_texts(page) == []
        assert page.evaluate(NAMELESS) == []
        assert [page.locator(name).count() for name in ("h1", "main")] == [1, 1]
        assert page.locator("html").get_attribute("lang") == "en"


@pytest.mark.parametrize("width", [320, 360, 700, 1000, 1920])
def test_no_screen_is_too_narrow(browser: Browser, opened: Playground, width: int, target: str) -> None:
    with visiting(browser, opened.url, viewport={"width": width, "height": 720}) as visitor:
        page = visitor.page
        take(page, f"{target}&{'long' * 60}")
        expect_state(page, "shown")
        page.evaluate("for (const group of document.querySelectorAll('details')) group.open = true")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.locator("#width").fill("1")
        page.get_by_role("button", name="Take picture").click()
        expect_state(page, "failed")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


#: Where the parts of the page are that somebody may be reading, or about to click.
PLACES = """() => [".stage", ".facts", ".options", ".output"].map(name => {
  const box = document.querySelector(name).getBoundingClientRect();
  return [name, Math.round(box.top + scrollY)];
})"""


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_moves_when_the_picture_comes(
    browser: Browser, opened: Playground, width: int, target: str
) -> None:
    with visiting(browser, opened.url, viewport={"width": width, "height": 800}) as visitor:
        page = visitor.page
        page.evaluate("for (const group of document.querySelectorAll('details')) group.open = true")
        before = page.evaluate(PLACES)
        take(page, target)
        expect_state(page, "shown")
        assert page.evaluate(PLACES) == before
        page.locator("#thumb_width").fill("64")
        page.locator("#format").select_option("webp")
        expect(page.locator("#facts")).to_contain_text("image/webp")
        assert page.evaluate(PLACES) == before
        take(page, "http://10.0.0.1/")
        expect_state(page, "failed")
        assert page.evaluate(PLACES) == before, "a problem stands in the picture's place"


#: Counts what moves on the page by itself, of all that is in view (W3C Layout Instability).
WATCH = """
  window.moved = 0;
  const note = (entries) => { for (const one of entries) moved += one.value; };
  window.watch = new PerformanceObserver((list) => note(list.getEntries()));
  watch.observe({ type: "layout-shift" });
  window.drawn = async () => {
    for (let frame = 0; frame < 3; frame++) await new Promise(requestAnimationFrame);
    note(watch.takeRecords());
    return moved;
  };
"""


@pytest.mark.parametrize("width", [360, 768, 1280])
def test_hardly_anything_moves_when_the_script_comes_late(
    browser: Browser, opened: Playground, width: int
) -> None:
    with browser.new_context(viewport={"width": width, "height": 1600}, bypass_csp=True) as context:
        page, held = context.new_page(), list[Route]()

        def hold(route: Route) -> None:
            held.append(route)

        page.add_init_script(WATCH)
        page.route("**/playground.js", hold)
        page.goto(opened.url, wait_until="commit")
        wait_at(
            page, lambda: bool(held) and page.evaluate("performance.getEntriesByType('paint').length") > 0
        )
        held[0].continue_()
        expect(page.locator("#options")).to_be_enabled()
        assert page.evaluate("drawn()") < 0.02, "no more than what there is to copy takes a line more"


@pytest.mark.parametrize(("width", "is_open"), [(360, False), (900, False), (1280, True)])
def test_options_take_no_room_between_a_picture_and_how_to_use_it(
    browser: Browser, opened: Playground, width: int, is_open: bool
) -> None:
    screen = {"width": width, "height": 800}
    with visiting(browser, opened.url, "/#thumb_height=300", viewport=screen) as visitor:
        page = visitor.page
        expect(page.locator("#thumb_height")).to_be_visible()
        assert page.locator("#full_page").is_visible() == is_open
        options, output = (page.locator(name).bounding_box() for name in (".options", ".output"))
        assert options is not None
        assert output is not None
        assert (options["x"] < output["x"]) == is_open, "beside it where there is room"


def test_a_problem_is_seen_without_scrolling(browser: Browser, opened: Playground, target: str) -> None:
    with visiting(browser, opened.url, viewport={"width": 1280, "height": 600}) as visitor:
        page = visitor.page
        take(page, "http://10.0.0.1/")
        expect(page.get_by_role("alert")).to_be_in_viewport(ratio=1)
        take(page, target)
        expect_state(page, "shown")
        expect(page.get_by_role("alert")).to_be_hidden()


@pytest.mark.parametrize("height", [500, 800])
def test_what_is_wrong_with_an_option_is_seen_beside_it(
    browser: Browser, opened: Playground, height: int, target: str
) -> None:
    with visiting(browser, opened.url, viewport={"width": 1280, "height": height}) as visitor:
        page = visitor.page
        for name in ("width", "wait_for"):
            page.evaluate("for (const group of document.querySelectorAll('details')) group.open = true")
            page.locator(f"#{name}").evaluate("one => { one.value = one.type === 'number' ? '1' : '\\x7f'; }")
            page.evaluate("scrollTo(0, 0)")
            take(page, target)
            expect(page.locator(f"#{name}")).to_be_focused()
            expect(page.locator(f"#{name}")).to_be_in_viewport(ratio=1)
            expect(page.locator(f"#fault-{name}")).to_be_in_viewport(ratio=1)
            page.get_by_role("button", name="Reset").click()


@pytest.mark.parametrize(("wish", "moves"), [("reduce", False), ("no-preference", True)])
def test_nothing_moves_for_those_who_want_it_still(
    browser: Browser, opened: Playground, wish: Any, moves: bool, target: str
) -> None:
    opened.vendor.go_on.clear()
    opened.vendor.slow.add(target)
    with visiting(browser, opened.url, reduced_motion=wish) as visitor:
        take(visitor.page, target)
        expect_state(visitor.page, "busy")
        assert bool(visitor.page.evaluate("document.getAnimations().length")) == moves
        visitor.page.keyboard.press("Escape")
        expect_state(visitor.page, "empty")
    opened.vendor.go_on.set()


def test_no_other_page_frames_it(browser: Browser, opened: Playground) -> None:
    frame = f"<!doctype html><title>t</title><iframe src='{opened.url}/'></iframe>".encode()
    site = Site(lambda _: Reply(headers=(("Content-Type", "text/html"),), body=frame))
    with serving(site), browser.new_context() as context:
        page = context.new_page()
        refusals: list[str] = []
        page.on("console", lambda message: refusals.append(message.text))
        page.goto(f"http://127.0.0.1:{site.server_port}/")
        wait_at(page, lambda: any("frame-ancestors" in one for one in refusals))
        assert page.frames[1].locator("#url").count() == 0
