"""The playground in a real browser: what goes wrong is told at its place, and keys have one."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import requests
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.support.access import folder_environment
from tests.support.ageing import age_pictures
from tests.support.browsers import Visitor, visiting
from tests.support.playground import Playground, Tag, expect_state, facts, running_playground, take
from tests.support.processes import wait_until
from tests.support.service import TARGET, running_app
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS

DAY = 86_400


def test_a_wrong_option_is_told_at_its_field(visitor: Visitor, target: str) -> None:
    page = visitor.page
    page.locator("#width").fill("10")
    page.get_by_text("Advanced", exact=True).click()
    page.locator("#clip").fill("everything")
    page.get_by_text("Advanced", exact=True).click()
    take(page, target)
    expect_state(page, "failed")
    answer = requests.get(visitor.asked_for("/thumb")[-1].url, timeout=30).json()
    for name in ("width", "clip"):
        control = page.locator(f"#{name}")
        expect(page.locator(f"#fault-{name}")).to_have_text(" ".join(answer["errors"][name]))
        expect(control).to_be_visible()
        expect(control).to_have_attribute("aria-invalid", "true")
        assert f"fault-{name}" in str(control.get_attribute("aria-describedby")).split()
    expect(page.locator("#width")).to_be_focused()
    expect(page.get_by_role("alert")).to_contain_text("Invalid parameters")
    page.locator("#width").fill("")
    page.locator("#clip").fill("")
    page.get_by_role("button", name="Take picture").click()
    expect_state(page, "shown")
    assert page.locator(".fault:visible, [aria-invalid], #problem:visible").count() == 0


def test_without_an_address_it_says_so_at_the_field(visitor: Visitor) -> None:
    visitor.page.get_by_role("button", name="Take picture").click()
    expect(visitor.page.locator("#fault-url")).to_be_visible()
    expect(visitor.page.get_by_label("Page to photograph")).to_be_focused()


def test_a_failure_is_explained(visitor: Visitor) -> None:
    page = visitor.page
    take(page, "http://10.0.0.1/")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Target forbidden")
    expect(page.get_by_role("status")).to_have_text("No picture: Target forbidden.")
    link = alert.get_by_role("link", name="What this means")
    explained = requests.get(str(link.evaluate("one => one.href")), timeout=30)
    assert (explained.status_code, "Target forbidden" in explained.text) == (200, True)


def test_an_old_picture_says_why_there_is_no_new_one(
    browser: Browser, opened: Playground, target: str
) -> None:
    with visiting(browser, opened.url) as visitor:
        page = visitor.page
        take(page, target)
        expect_state(page, "shown")
        assert age_pictures(opened.cache, 2 * DAY)
        opened.vendor.dead.add(target)
        for _ in range(2):
            page.get_by_role("button", name="Take picture").click()
            expect_state(page, "shown")
            expect(page.locator("#facts")).to_contain_text("STALE")
            wait_until(
                lambda: "X-Problem" in requests.get(page.locator("#address").inner_text(), timeout=30).headers
            )
        expect(page.get_by_role("alert")).to_contain_text("An old picture")
        expect(page.get_by_role("alert").get_by_role("link")).to_have_attribute(
            "href", "problems/target-unreachable"
        )


def test_when_to_come_back_is_counted_down(browser: Browser, tmp_path: Path) -> None:
    with (
        running_playground(tmp_path, LIMIT_THUMB="1 per minute") as playground,
        visiting(browser, playground.url) as visitor,
    ):
        page, line = visitor.page, visitor.page.locator("#retry")
        for number in (1, 2):
            take(page, f"{TARGET}?{number}")
            expect(page.locator("#stage")).not_to_have_attribute("data-state", "busy")
            if number == 1:
                assert re.fullmatch(r"One new capture; 0 of 1 left for \d+ s", facts(page)["Cost"])
        expect(page.get_by_role("alert")).to_contain_text("Rate limited")
        expect(line).to_contain_text(re.compile(r"Try again in \d+ s\."))
        first = line.inner_text()
        expect(line).not_to_have_text(first)
        assert line.evaluate("one => one.closest('[aria-live], [role=alert], [role=status]')") is None


def test_a_picture_that_the_browser_cannot_show_is_told_of_and_let_go(visitor: Visitor, target: str) -> None:
    page = visitor.page
    page.evaluate(
        """() => {
          window.held = new Set();
          const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
          URL.createObjectURL = (body) => { const url = create(body); held.add(url); return url; };
          URL.revokeObjectURL = (url) => { held.delete(url); revoke(url); };
        }"""
    )
    page.route("**/thumb?*", lambda route: route.fulfill(body=b"no picture", content_type="image/png"))
    take(page, target)
    expect_state(page, "failed")
    expect(page.get_by_role("alert")).to_contain_text("This browser cannot show the picture")
    assert page.evaluate("held.size") == 0


def test_a_service_that_is_gone_is_told_of(browser: Browser, tmp_path: Path) -> None:
    with running_playground(tmp_path) as playground:
        context = browser.new_context()
        page = context.new_page()
        answer = page.goto(playground.url)
        assert answer is not None
        assert answer.status == 200, answer.text()
    take(page, TARGET)
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer")
    expect_state(page, "failed")
    context.close()


def test_a_closed_service_asks_for_a_key_and_uses_it_in_a_header_only(
    browser: Browser, closed: Playground, target: str
) -> None:
    with visiting(browser, closed.url) as visitor:
        page, key = visitor.page, visitor.page.get_by_label("API key", exact=True)
        take(page, target)
        expect(page.locator("#fault-key")).to_have_text("A key is needed here.")
        expect(key).to_be_focused()
        key.fill("tn_wrong")
        key.press("Enter")
        expect(page.locator("#fault-key")).to_have_text("This API key is unknown, revoked or expired.")
        key.fill("clé")
        key.press("Enter")
        expect(page.locator("#fault-key")).to_contain_text("letters, digits")
        key.fill(closed.key)
        key.press("Enter")
        expect_state(page, "shown")
        assert visitor.asked_for("/thumb")[-1].headers["x-api-key"] == closed.key
        assert page.locator("#picture").evaluate("one => one.src").startswith("blob:")
        assert all(closed.key not in one.url for one in visitor.requests)
        assert closed.key not in page.url
        assert closed.key not in page.locator(".output").inner_text()
        assert "$THUMBNAILER_KEY" in page.locator("#curl").inner_text()
        assert page.evaluate("sessionStorage.length + localStorage.length") == 0
        page.reload()
        expect(key).to_have_value("")


def test_a_key_is_kept_until_the_tab_is_closed_where_that_is_wanted(
    browser: Browser, closed: Playground
) -> None:
    with visiting(browser, closed.url) as visitor:
        page, key = visitor.page, visitor.page.get_by_label("API key", exact=True)
        key.fill(closed.key)
        page.get_by_label("Keep until this tab is closed").check()
        page.reload()
        expect(key).to_have_value(closed.key)
        page.get_by_label("Keep until this tab is closed").uncheck()
        page.reload()
        expect(key).to_have_value("")
        assert page.evaluate("localStorage.length") == 0


def test_a_signed_address_needs_no_key_until_an_option_changes(
    browser: Browser, closed: Playground, target: str
) -> None:
    with visiting(browser, closed.url) as visitor:
        page = visitor.page
        page.get_by_label("Page to photograph").fill(target)
        page.locator("#thumb_width").fill("400")
        page.locator("#full_page").check()
        page.get_by_role("button", name="Sign the address").click()
        expect(page.get_by_role("alert")).to_contain_text("Unauthorized")
        page.get_by_label("API key", exact=True).fill(closed.key)
        page.locator("#exp").select_option("a day")
        page.get_by_role("button", name="Sign the address").click()
        expect(page.get_by_role("status")).to_contain_text("Signed, good until")
        address = page.locator("#address").inner_text()
        assert {"sig", "exp", "kid"} <= dict(parse_qsl(urlsplit(address).query)).keys()
        assert shlex.split(page.locator("#curl").inner_text())[-2:] == ["thumb.png", address]
        page.get_by_role("button", name="Take picture").click()
        expect_state(page, "shown")
        assert "x-api-key" not in visitor.asked_for("/thumb")[-1].headers, "as those see it who have no key"
        assert Image.open(io.BytesIO(requests.get(address, timeout=30).content)).size == (400, 225)
        tag = Tag(page.locator("#tag").inner_text()).attributes
        assert (tag["src"], tag["width"]) == (address, "400")
        dense = requests.get(str(tag["srcset"]).removesuffix(" 2x"), timeout=30)
        assert Image.open(io.BytesIO(dense.content)).size == (800, 450), "it is signed as well"
        expect(page.locator("#tag")).to_contain_text("exp=")
        page.locator("#full_page").uncheck()
        expect(page.locator("#address")).not_to_contain_text("sig=")
        expect(page.locator("#use")).to_contain_text("Without a key")


def test_the_command_that_is_shown_signs_the_same(
    browser: Browser, closed: Playground, upstream: Upstream, tmp_path: Path
) -> None:
    with visiting(browser, closed.url) as visitor:
        page, odd = visitor.page, f"{TARGET}?it's=a+b&c"
        page.get_by_label("Page to photograph").fill(odd)
        page.locator("#thumb_width").fill("400")
        page.locator("#hide_selectors").fill("a > b, #c")
        page.locator("#exp").select_option("30 days")
        program, *arguments = shlex.split(page.locator("#command").inner_text())
    assert program == "flask"
    assert arguments[-2:] == ["--exp", "30d"]
    with running_app(folder_environment(upstream.url, tmp_path, SIGNING_KEYS=SIGNING_KEYS)) as app:
        done = app.test_cli_runner().invoke(args=arguments)
    assert done.exit_code == 0, done.output
    signed = dict(parse_qsl(urlsplit(done.output.strip()).query))
    assert {"url": odd, "thumb_width": "400", "hide_selectors": "a > b, #c"}.items() <= signed.items()


def test_what_cannot_be_signed_is_told_at_its_field(browser: Browser, closed: Playground) -> None:
    with visiting(browser, closed.url) as visitor:
        page = visitor.page
        page.get_by_label("API key", exact=True).fill(closed.key)
        page.get_by_label("Page to photograph").fill(TARGET)
        page.locator("#delay").evaluate("one => one.closest('details').open = true")
        page.locator("#delay").fill("99999")
        page.get_by_role("button", name="Sign the address").click()
        expect(page.locator("#fault-delay")).to_contain_text("10000")
