"""A person at a real browser: what they do on a page, and what the page does behind their back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.support.chromium import NO_NAMES
from thumbnailer.providers.chromium import find_chromium

#: Playwright's own five seconds are few for pages that are drawn while other tests run.
EXPECT_MILLISECONDS = 20_000


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser that knows no names."""
    expect.set_options(timeout=EXPECT_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[NO_NAMES, "--no-sandbox"])
        yield browser
        browser.close()


class Visitor:
    """One page in a context of its own; ``complaints`` are what the browser has to say against it.

    That an answer was an error is none: pages are there to show those. Nor is what the browser's own viewer
    of pictures does, which sets styles that the policy of a picture forbids.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.url = url
        self.requests: list[Request] = []
        self.complaints: list[str] = []
        page.on("request", self._note)
        page.on("console", self._listen)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _note(self, request: Request) -> None:
        self.requests.append(request)

    def _listen(self, message: ConsoleMessage) -> None:
        is_status = message.text.startswith("Failed to load resource: the server responded with a status")
        is_of_viewer = urlsplit(message.location["url"]).path == "/thumb"
        if message.type in ("error", "warning") and not is_status and not is_of_viewer:
            self.complaints.append(message.text)

    def asked_for(self, path: str) -> list[Request]:
        """The requests to this path so far."""
        return [one for one in self.requests if urlsplit(one.url).path == path]

    def strangers(self) -> set[str]:
        """Whom else the page has talked to."""
        origins = {urlsplit(one.url)[:2] for one in self.requests if not one.url.startswith("blob:")}
        return {f"{scheme}://{host}" for scheme, host in origins} - {self.url}


@contextlib.contextmanager
def visiting(browser: Browser, url: str, path: str = "/", **context: Any) -> Iterator[Visitor]:
    """Open the page at ``path`` of the service at ``url``; at the end, nothing may have gone wrong unseen."""
    with browser.new_context(**context) as opened:
        visitor = Visitor(opened.new_page(), url)
        answer = visitor.page.goto(f"{url}{path}")
        assert answer is not None
        assert answer.status == 200, answer.text()
        yield visitor
        assert visitor.complaints == []
        assert visitor.strangers() == set()


#: Texts whose colour is too near that of what lies behind them: WCAG 2.2, success criterion 1.4.3.
PALE_TEXTS = """() => {
  const numbers = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = one => {
    for (let at = one; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const one of document.querySelectorAll("body *")) {
    const says = [...one.childNodes].some(part => part.nodeType === 3 && part.textContent.trim());
    const isOff = one.matches(":disabled, :disabled *, .lacking *, noscript, noscript *");
    if (!says || isOff || !one.checkVisibility()) continue;
    const lights = [light(numbers(getComputedStyle(one).color)), light(behind(one))];
    const ratio = (Math.max(...lights) + 0.05) / (Math.min(...lights) + 0.05);
    if (ratio < 4.5) found.push(`${one.tagName} ${one.id} ${one.className}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""


def pale_texts(page: Page) -> list[str]:
    """What on a page is too pale to be read, as far as it is on solid ground."""
    found: list[str] = page.evaluate(PALE_TEXTS)
    return found
