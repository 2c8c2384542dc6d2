"""The playground in a real browser: what it gives to copy asks for what was shown."""

from __future__ import annotations

import io
import shlex
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, expect

from tests.support.browsers import Visitor, visiting
from tests.support.playground import Playground, Tag, expect_state, natural_size, take


def test_what_is_copied_is_what_was_shown(visitor: Visitor, target: str) -> None:
    page = visitor.page
    page.locator("#thumb_width").fill("400")
    page.locator("#dpr").fill("2")
    page.locator("#format").select_option("webp")
    take(page, target)
    expect_state(page, "shown")
    copied = {}
    for title in ("Address", "HTML", "curl"):
        page.get_by_role("button", name=f"Copy: {title}").click()
        expect(page.get_by_role("status")).to_have_text(f"Copied: {title}.")
        copied[title] = page.evaluate("navigator.clipboard.readText()")
    address = copied["Address"]
    picture = Image.open(io.BytesIO(requests.get(address, timeout=30).content))
    assert (picture.format, picture.size) == ("WEBP", natural_size(page) == (800, 450) and (800, 450))
    tag = Tag(copied["HTML"]).attributes
    assert (tag["src"], tag["width"], tag["height"]) == (address, "400", "225")
    assert (tag["loading"], tag["alt"]) == ("lazy", "Preview of 93.184.216.34")
    assert shlex.split(copied["curl"]) == ["curl", "--output", "thumb.webp", address]


def test_the_tag_is_sharp_on_dense_screens_too(visitor: Visitor, opened: Playground, target: str) -> None:
    page = visitor.page
    assert "srcset" not in Tag(page.locator("#tag").inner_text()).attributes, "the capture has one size"
    page.locator("#thumb_width").fill("300")
    take(page, target)
    expect_state(page, "shown")
    tag = Tag(page.locator("#tag").inner_text()).attributes
    assert (tag["width"], tag["height"], tag["decoding"]) == ("300", str(round(300 * 720 / 1280)), "async")
    address, _, density = str(tag["srcset"]).partition(" ")
    assert density == "2x"
    for one, width in ((str(tag["src"]), 300), (address, 600)):
        assert Image.open(io.BytesIO(requests.get(one, timeout=30).content)).width == width
    assert opened.vendor.calls.count(target) == 1


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param("https://Bücher.example:8443/x?y", "Bücher.example", id="another script"),
        pytest.param("例え.テスト", "例え.テスト", id="without a scheme"),
        pytest.param("https://EXAMPLE.com/", "example.com", id="plain"),
        pytest.param("http:///Bücher.example", "xn--bcher-kva.example", id="a slash too many"),
        pytest.param("https://", "the page", id="none"),
    ],
)
def test_a_picture_is_named_as_people_read_its_host(visitor: Visitor, written: str, read: str) -> None:
    visitor.page.get_by_label("Page to photograph").fill(written)
    assert Tag(visitor.page.locator("#tag").inner_text()).attributes["alt"] == f"Preview of {read}"


def test_odd_signs_in_an_address_break_out_of_no_snippet(visitor: Visitor) -> None:
    page, odd = visitor.page, 'http://93.184.216.34/o\'x?"a"=<b>&c=(*)!$(id)`id`'
    page.get_by_label("Page to photograph").fill(odd)
    address = page.locator("#address").inner_text()
    assert dict(parse_qsl(urlsplit(address).query)) == {"url": odd}
    assert Tag(page.locator("#tag").inner_text()).attributes["src"] == address
    assert shlex.split(page.locator("#curl").inner_text())[-1] == address
    take(page, odd)
    expect_state(page, "shown")


def test_a_browser_without_a_clipboard_copies_as_well(
    browser: Browser, opened: Playground, target: str
) -> None:
    with visiting(browser, opened.url, permissions=["clipboard-read", "clipboard-write"]) as visitor:
        page = visitor.page
        page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')) }")
        page.get_by_label("Page to photograph").fill(target)
        page.get_by_role("button", name="Copy: Address").click()
        expect(page.get_by_role("status")).to_have_text("Copied: Address.")
        assert page.evaluate("navigator.clipboard.readText()") == page.locator("#address").inner_text()
