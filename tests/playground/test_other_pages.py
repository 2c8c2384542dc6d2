"""The other pages in a real browser, below a prefix of a proxy: /docs and those of problems."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from playwright.sync_api import Browser, expect

from tests.support.browsers import pale_texts, visiting
from tests.support.edge import port_of
from tests.support.nginx import running_nginx
from tests.support.playground import PREFIX, Playground


@pytest.fixture(scope="module")
def published(opened: Playground, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a proxy that publishes the service below /thumbs/."""
    folder: Path = tmp_path_factory.mktemp("nginx")
    with running_nginx(folder, port_of(opened.url), changes=PREFIX) as nginx:
        yield nginx.url


def test_a_picture_that_is_asked_for_in_swagger_ui_is_shown_there(
    browser: Browser, published: str, target: str
) -> None:
    with visiting(browser, published, "/thumbs/docs#/screenshot/thumb") as visitor:
        page = visitor.page
        page.get_by_role("button", name="Try it out").click()
        page.locator("[data-param-name=url] input").fill(target)
        with page.expect_request(lambda one: urlsplit(one.url).path == "/thumbs/thumb") as asked:
            page.get_by_role("button", name="Execute").click()
        assert [name for name, _ in parse_qsl(urlsplit(asked.value.url).query)] == ["url"], (
            "as it was filled in"
        )
        picture = page.locator(".live-responses-table img")
        expect(picture).to_be_visible(timeout=30_000)
        expect(picture).to_have_js_property("naturalWidth", 1280)
        assert {
            urlsplit(one.url).path.split("/")[1] for one in visitor.requests if "blob:" not in one.url
        } == {"thumbs"}


def test_what_swagger_ui_sends_of_a_body_is_good_as_it_stands(browser: Browser, published: str) -> None:
    with visiting(browser, published, "/thumbs/docs#/screenshot/persist") as visitor:
        page = visitor.page
        page.get_by_role("button", name="Try it out").click()
        expect(page.locator(".body-param__text")).to_have_value(
            '{\n  "url": "https://example.com/",\n  "thumb_width": 400,\n  "format": "webp"\n}'
        )


@pytest.mark.parametrize(("scheme", "ground"), [("light", "rgba(0, 0, 0, 0)"), ("dark", "rgb(28, 32, 34)")])
def test_swagger_ui_can_be_read_by_day_and_by_night(
    browser: Browser, published: str, scheme: Any, ground: str
) -> None:
    with visiting(browser, published, "/thumbs/docs#/screenshot/thumb", color_scheme=scheme) as visitor:
        page = visitor.page
        expect(page.get_by_role("button", name="Try it out")).to_be_visible()
        assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == ground
        assert pale_texts(page) == []
        assert page.locator("main, [role=main]").count() == 1
        expect(page.get_by_role("combobox", name="wait_until")).to_be_visible()
        assert page.locator("select:not([aria-label])").count() == 0


@pytest.mark.parametrize("width", [360, 1280])
def test_the_page_of_a_problem_has_its_looks_and_leads_to_the_routes(
    browser: Browser, published: str, width: int
) -> None:
    screen = {"width": width, "height": 720}
    with visiting(browser, published, "/thumbs/problems/target-forbidden", viewport=screen) as visitor:
        page = visitor.page
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(251, 251, 249)"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("link", name="All routes").click()
        expect(page.get_by_role("heading", name="thumbnailer")).to_be_visible()
        assert urlsplit(page.url).path == "/thumbs/docs"
        page.get_by_role("link", name="Playground", exact=True).click()
        expect(page.get_by_label("Page to photograph")).to_be_visible()
        page.go_back()
        page.go_back()
        page.get_by_role("link", name="The playground").click()
        expect(page.get_by_label("Page to photograph")).to_be_visible()


def test_without_javascript_the_page_of_the_api_leads_to_the_document(
    browser: Browser, published: str
) -> None:
    with visiting(browser, published, "/thumbs/docs", java_script_enabled=False) as visitor:
        page = visitor.page
        assert page.locator("main").count() == 1
        with page.expect_response(lambda one: urlsplit(one.url).path == "/thumbs/openapi.json") as caught:
            page.get_by_role("link", name="the OpenAPI document").click()
        assert caught.value.status == 200
