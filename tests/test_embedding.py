"""What a person sees: a page with one ``<img>`` of each kind, in a real browser."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from PIL import Image
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.support.ageing import age_pictures
from tests.support.answers import Answer, Received, content, json_error
from tests.support.chromium import NO_NAMES
from tests.support.processes import wait_until
from tests.support.screenshots import encoded
from tests.support.service import TARGET, running_service, snapapi_environment
from tests.support.small_web import Reply, Site, serving
from tests.support.upstream import Upstream
from thumbnailer.providers.chromium import find_chromium

Colour = tuple[int, int, int]

GREEN, BLUE, ORANGE = (30, 160, 80), (40, 80, 200), (230, 140, 30)
BACKGROUNDS = {"light": (255, 255, 255), "dark": (20, 23, 28)}
DAY = 86_400
TOLERANCE = 12

STYLE = """
body { margin: 20px; font: 14px sans-serif; background: #fff; color: #222 }
@media (prefers-color-scheme: dark) { body { background: #14171c; color: #ddd } }
figure { display: inline-block; margin: 10px } figcaption { padding: 4px 0 } img { display: block }
"""


@dataclass
class Web:
    """The pages that are photographed, as the provider sees them."""

    colours: dict[str, Colour] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    go_on: threading.Event = field(default_factory=threading.Event)

    def answer(self, received: Received) -> Answer:
        name = received.json["url"].rpartition("?")[2]
        if name in self.dead:
            return json_error(404, {"error": "gone"})
        if name in self.slow:
            assert self.go_on.wait(60)
        colour = self.colours.get(name, GREEN)
        photograph = Image.new("RGB", (1280, 720), colour)
        photograph.paste("white", (800, 200, 1100, 500))  # of one colour all over it would count as blank
        return content(encoded(photograph, "png"), "image/png")


@dataclass(frozen=True, slots=True)
class Gallery:
    """A service, and a page elsewhere that shows its pictures."""

    service_url: str
    page_url: str
    web: Web
    cache: Path

    def src(self, name: str, **options: str) -> str:
        usual = {"url": f"{TARGET}?{name}", "thumb_width": "320", "thumb_height": "180"}
        return f"{self.service_url}/thumb?" + urlencode(usual | options)


@contextmanager
def _running_gallery(folder: Path) -> Iterator[Gallery]:
    web = Web(dead={"broken"}, slow={"made"}, colours={"stale": BLUE, "dead": BLUE})
    images: list[str] = []
    document = lambda _: Reply(headers=(("Content-Type", "text/html"),), body=_document(images))  # noqa: E731  it needs the images
    site = Site(document)
    with Upstream(web.answer) as upstream, serving(site):
        settings = snapapi_environment(upstream.url, RATELIMIT_ENABLED="false")
        with running_service(folder, settings) as service:
            gallery = Gallery(service.url, f"http://127.0.0.1:{site.server_port}/", web, folder / "cache")
            images += _images(gallery)
            yield gallery
            web.go_on.set()


def _images(gallery: Gallery) -> list[str]:
    """The attributes of each image; its id says what it shows."""
    sharp, double = gallery.src("retina"), gallery.src("retina", dpr="2")
    return [
        f'id="fresh" src="{escape(gallery.src("fresh"))}"',
        f'id="stale" src="{escape(gallery.src("stale"))}"',
        f'id="dead" src="{escape(gallery.src("dead"))}"',
        f'id="broken" src="{escape(gallery.src("broken"))}"',
        f'id="made" src="{escape(gallery.src("made", wait="0"))}"',
        f'id="auto" src="{escape(gallery.src("auto", format="auto"))}"',
        f'id="retina" width="320" srcset="{escape(sharp)} 1x, {escape(double)} 2x"',
    ]


def _document(images: list[str]) -> bytes:
    figures = "".join(
        f"<figure><img {image}><figcaption>{image.split(chr(34))[1]}</figcaption></figure>"
        for image in images
    )
    return f"<!doctype html><title>Gallery</title><style>{STYLE}</style>{figures}".encode()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=[NO_NAMES, "--no-sandbox"])
        yield browser
        browser.close()


@dataclass(frozen=True, slots=True)
class Shown:
    """One image as the browser has it; ``middle`` and ``corner`` are colours on the screen."""

    is_decoded: bool
    natural: tuple[int, int]
    source: str
    status: int
    headers: dict[str, str]
    middle: Colour
    corner: Colour


STATE = """async image => {
  let decoded = true;
  try { await image.decode() } catch (error) { decoded = false }
  return {decoded: decoded && image.complete, width: image.naturalWidth, height: image.naturalHeight,
          source: image.currentSrc};
}"""


def _show(page: Page, url: str, screenshot: Path) -> dict[str, Shown]:
    answers: dict[str, Any] = {}
    page.on("response", lambda answer: answers.setdefault(answer.url, answer))
    page.goto(url, wait_until="load")
    screen = Image.open(io.BytesIO(page.screenshot(path=screenshot, full_page=True))).convert("RGB")
    scale = screen.width / page.evaluate("document.documentElement.clientWidth")
    shown = {}
    for image in page.query_selector_all("img"):
        state, box = image.evaluate(STATE), image.bounding_box()
        assert box is not None
        answer = answers[state["source"]]
        middle, corner = (
            screen.getpixel((int((box["x"] + x) * scale), int((box["y"] + y) * scale)))
            for x, y in ((box["width"] * 0.25, box["height"] / 2), (3, 3))
        )
        shown[str(image.get_attribute("id"))] = Shown(
            is_decoded=state["decoded"],
            natural=(state["width"], state["height"]),
            source=state["source"],
            status=answer.status,
            headers=answer.headers,
            middle=middle,  # type: ignore[arg-type]  # RGB has three
            corner=corner,  # type: ignore[arg-type]  # the same
        )
    return shown


def _is_like(one: Colour, other: Colour) -> bool:
    return all(abs(a - b) <= TOLERANCE for a, b in zip(one, other, strict=True))


@dataclass(frozen=True, slots=True)
class Visit:
    """The gallery as a browser shows it in one colour scheme, and the page for a second look."""

    scheme: str
    images: dict[str, Shown]
    gallery: Gallery
    page: Page
    folder: Path


@pytest.fixture(scope="module", params=BACKGROUNDS)
def visit(
    request: pytest.FixtureRequest, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Visit]:
    """On a screen of double density; two pages have died or changed since they were photographed."""
    folder = tmp_path_factory.mktemp(request.param)
    with _running_gallery(folder) as gallery:
        for name in ("stale", "dead"):
            assert requests.get(gallery.src(name), timeout=30).status_code == 200
        assert age_pictures(gallery.cache, 2 * DAY)
        gallery.web.dead.add("dead")
        gallery.web.slow.add("stale")
        gallery.web.colours["stale"] = GREEN
        wait_until(lambda: "X-Problem" in requests.get(gallery.src("dead"), timeout=30).headers)
        screen = ViewportSize(width=1100, height=700)
        with browser.new_context(
            color_scheme=request.param, device_scale_factor=2, viewport=screen
        ) as context:
            page = context.new_page()
            images = _show(page, gallery.page_url, folder / "gallery.png")
            yield Visit(request.param, images, gallery, page, folder)


@pytest.mark.parametrize(
    ("name", "status", "cache", "colour"),
    [
        pytest.param("fresh", 200, "MISS", GREEN, id="a new picture"),
        pytest.param("stale", 200, "STALE", BLUE, id="an old picture while a new one is taken"),
        pytest.param("dead", 200, "STALE", BLUE, id="the last good picture of a dead page"),
        pytest.param("auto", 200, "MISS", GREEN, id="a picture in the best format"),
        pytest.param("retina", 200, "MISS", GREEN, id="a picture for a dense screen"),
        pytest.param("broken", 422, None, None, id="a placeholder for a broken page"),
        pytest.param("made", 202, "MISS", None, id="a stand-in for a picture that is being made"),
    ],
)
def test_every_kind_of_answer_is_a_picture_to_the_browser(
    visit: Visit, name: str, status: int, cache: str | None, colour: Colour | None
) -> None:
    image = visit.images[name]
    assert image.is_decoded
    assert image.natural == (320, 180)
    assert (image.status, image.headers.get("x-cache")) == (status, cache)
    if colour is not None:
        assert _is_like(image.middle, colour)
        assert _is_like(image.corner, colour)


def test_the_browser_says_itself_what_it_can_show(visit: Visit) -> None:
    assert visit.images["auto"].headers["content-type"] == "image/avif"
    assert visit.images["auto"].headers["vary"] == "Accept"
    for name in ("broken", "made"):
        assert visit.images[name].headers["content-type"] == "image/avif"
    assert visit.images["fresh"].headers["content-type"] == "image/png"


def test_a_dense_screen_gets_the_dense_picture(visit: Visit) -> None:
    assert visit.images["retina"].source.endswith("&dpr=2")
    dense = requests.get(visit.images["retina"].source, timeout=30)
    assert Image.open(io.BytesIO(dense.content)).size == (640, 360)


def test_a_dead_page_says_why_its_picture_is_old(visit: Visit) -> None:
    assert visit.images["dead"].headers["x-problem"] == "target-unreachable"
    assert "x-problem" not in visit.images["stale"].headers
    assert visit.images["broken"].headers["x-problem"] == "target-unreachable"


def test_a_placeholder_takes_on_the_brightness_of_the_page(visit: Visit) -> None:
    background = BACKGROUNDS[visit.scheme]
    for name in ("broken", "made"):
        corner = visit.images[name].corner
        assert corner != background, "it can be seen"
        assert all(abs(a - b) < 40 for a, b in zip(corner, background, strict=True)), "and is no glaring box"


def test_the_next_look_shows_what_was_made_meanwhile(visit: Visit) -> None:
    visit.gallery.web.go_on.set()
    for name in ("stale", "made"):
        src = visit.gallery.src(name, **({"wait": "0"} if name == "made" else {}))
        wait_until(lambda src=src: requests.get(src, timeout=30).headers["X-Cache"] == "HIT")  # type: ignore[misc]  # bound now
    again = _show(visit.page, visit.gallery.page_url, visit.folder / "again.png")
    for name in ("fresh", "made", "auto", "retina"):
        assert again[name].is_decoded
        assert _is_like(again[name].middle, GREEN), name
