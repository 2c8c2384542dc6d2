"""The playground for tests: a service with a vendor behind it, and what a person does on the page."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.support.access import make_key, sqlite_url
from tests.support.answers import Answer, Received, content, json_error
from tests.support.processes import wait_until
from tests.support.screenshots import encoded, page_picture
from tests.support.service import running_app, running_service, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.host_patterns import parse_host_pattern

#: What makes of the shipped nginx one that publishes the service below a path.
PREFIX = {
    "location / {\n        proxy_pass http://thumbnailer": "location /thumbs/ {\n        proxy_pass http://thumbnailer/"
}


@dataclass
class Vendor:
    """Takes pictures, 1280 by 720: of those in ``slow`` once ``go_on`` is set, of ``dead`` ones never."""

    calls: list[str] = field(default_factory=list)
    slow: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    go_on: threading.Event = field(default_factory=threading.Event)

    def answer(self, received: Received) -> Answer:
        target = received.json["url"]
        self.calls.append(target)
        if target in self.dead:
            return json_error(404, {"error": "gone"})
        if target in self.slow:
            assert self.go_on.wait(60)
        image_format = received.json.get("format", "png")
        return content(encoded(page_picture(), image_format), f"image/{image_format}")


@dataclass(frozen=True)
class Playground:
    """A service, the vendor behind it, the folder of its cache, and one key for its own page."""

    url: str
    vendor: Vendor
    cache: Path
    key: str


@contextmanager
def running_playground(folder: Path, *, has_key: bool = False, **settings: str) -> Iterator[Playground]:
    vendor, key = Vendor(), ""
    with Upstream(vendor.answer) as upstream:
        environ = snapapi_environment(
            upstream.url, WEB_CONCURRENCY="1", DATABASE_URL=sqlite_url(folder), **settings
        )
        if has_key:
            with running_app(environ) as app:
                here = (parse_host_pattern("127.0.0.1"),)
                key = make_key(app, "tests", referrers=here)["X-API-Key"]
        with running_service(folder, environ) as service:
            yield Playground(service.url, vendor, folder / "cache", key)
            vendor.go_on.set()


def take(page: Page, target: str) -> None:
    page.get_by_label("Page to photograph").fill(target)
    page.get_by_role("button", name="Take picture").click()


def expect_state(page: Page, state: str) -> None:
    expect(page.locator("#stage")).to_have_attribute("data-state", state, timeout=30_000)


def facts(page: Page) -> dict[str, str]:
    names, values = page.locator("#facts dt").all_inner_texts(), page.locator("#facts dd").all_inner_texts()
    return dict(zip(names, values, strict=True))


def natural_size(page: Page) -> tuple[int, int]:
    width, height = page.locator("#picture").evaluate("one => [one.naturalWidth, one.naturalHeight]")
    return width, height


class Tag(HTMLParser):
    """The attributes of the one element in a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: dict[str, str | None] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "img"
        self.attributes = dict(attrs)


def wait_at(page: Page, condition: Callable[[], bool]) -> None:
    """Wait for what the browser tells, which it does only while it is listened to."""

    def holds() -> bool:
        page.wait_for_timeout(10)
        return condition()

    wait_until(holds)
