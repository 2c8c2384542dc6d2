"""docs/embedding.md: its tags show pictures, as large as they say, and its script a fallback.

And the script in docs/api.md, which shows a picture as soon as it is made.
"""

from __future__ import annotations

import html
import io
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from flask.testing import FlaskClient
from jinja2 import Environment
from PIL import Image
from playwright.sync_api import expect

from tests.support.access import folder_environment
from tests.support.browsers import running_browser
from tests.support.playground import Vendor, running_playground, wait_at
from tests.support.service import PROJECT, TARGET, client_of
from tests.support.small_web import Reply, Site, serving
from tests.support.upstream import Upstream
from tests.support.vectors import RECIPES, SIGNING_KEYS

BASE, PAGE = "https://thumbs.example.com", "https://example.com/"
BLOCKS = re.findall(
    r"^```(html|jinja)\n(.*?)^```",
    (PROJECT / "docs/embedding.md").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
TAGS = [block for kind, block in BLOCKS if kind == "html"]
DATA_URL = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw=="


class Pictures(HTMLParser):
    """The addresses in a block, each with the density or width that it is for, and the tag's own size."""

    def __init__(self, block: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.size = (0, 0)
        self.feed(block)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag in ("img", "source"):
            self.found += [(given["src"], "1x")] if "src" in given else []
            for candidate in filter(None, given.get("srcset", "").split(",")):
                address, _, what_for = candidate.strip().partition(" ")
                self.found.append((address, what_for or "1x"))
        if tag == "img":
            self.size = (int(given["width"]), int(given["height"]))
            assert given["alt"], "for those who do not see it"


@pytest.fixture(scope="module")
def vendor() -> Iterator[Upstream]:
    with Upstream(Vendor().answer) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def client(vendor: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    settings = folder_environment(vendor.url, tmp_path_factory.mktemp("open"), RATELIMIT_ENABLED="false")
    with client_of(settings) as client:
        yield client


@pytest.mark.parametrize("block", TAGS, ids=lambda block: block.strip().splitlines()[0][:20])
def test_every_picture_of_a_tag_is_there_and_as_large_as_it_says(client: FlaskClient, block: str) -> None:
    pictures = Pictures(block)
    width, height = pictures.size
    for address, what_for in pictures.found:
        assert address.startswith(f"{BASE}/thumb?")
        query = dict(parse_qsl(urlsplit(address).query, strict_parsing=True))
        assert query["url"] == PAGE
        answer = client.get("/thumb", query_string=query | {"url": TARGET}, buffered=True)
        assert answer.status_code == 200, answer.text
        is_width, number = what_for.endswith("w"), float(what_for[:-1])
        factor = number / width if is_width else number
        with Image.open(io.BytesIO(answer.data)) as picture:
            assert picture.size == (width * factor, height * factor), address
    assert pictures.found


def test_the_template_writes_addresses_that_are_answered(
    vendor: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (template,) = [block for kind, block in BLOCKS if kind == "jinja"]
    monkeypatch.syspath_prepend(RECIPES)
    environment = Environment(autoescape=True)
    import_module("signed_url_jinja").install(environment, BASE, SIGNING_KEYS)
    for name in ("signed_url", "signed_url_jinja"):
        sys.modules.pop(name, None)
    page = SimpleNamespace(url=TARGET, name='a "page"')
    pictures = Pictures(environment.from_string(template + "{{ preview(page) }}").render(page=page))
    settings = folder_environment(vendor.url, tmp_path, SIGNING_KEYS=SIGNING_KEYS)
    with client_of(settings) as client:
        for address, what_for in pictures.found:
            assert address.startswith(BASE)
            answer = client.get(address.removeprefix(BASE), buffered=True)
            assert answer.status_code == 200, answer.text
            with Image.open(io.BytesIO(answer.data)) as picture:
                assert picture.width == 400 * int(what_for[:-1])
    assert [what_for for _, what_for in pictures.found] == ["1x", "2x"]


def test_the_script_for_fallbacks_puts_one_where_a_picture_fails(tmp_path: Path) -> None:
    (block,) = [one for one in TAGS if "<script>" in one]
    with running_playground(tmp_path) as service, running_browser() as browser:
        service.vendor.dead.add(f"{TARGET}?dead")
        there = block.replace(BASE, service.url).replace("/no-preview.svg", html.escape(DATA_URL))
        encoded = quote(PAGE, safe="")
        pages = [there.replace(encoded, quote(f"{TARGET}?{name}", safe="")) for name in ("dead", "alive")]
        document = ("<!doctype html><title>t</title>" + "".join(pages)).encode()
        site = Site(lambda _: Reply(headers=(("Content-Type", "text/html"),), body=document))
        with serving(site), browser.new_context() as context:
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{site.server_port}/")
            dead, alive = page.locator("img").all()
            expect(dead).to_have_js_property("naturalWidth", 1)
            expect(dead).to_have_attribute("src", DATA_URL)
            expect(alive).to_have_js_property("naturalWidth", 400)


#: Notes which pictures the page holds on to.
HELD = """() => {
  window.held = new Set();
  const [create, revoke] = [URL.createObjectURL, URL.revokeObjectURL];
  URL.createObjectURL = (body) => { const url = create(body); held.add(url); return url; };
  URL.revokeObjectURL = (url) => { held.delete(url); revoke(url); };
}"""


def test_the_script_that_waits_shows_the_picture_when_it_is_made(tmp_path: Path) -> None:
    documented = (PROJECT / "docs/api.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"^```js\n(.*?)^```", documented, re.MULTILINE | re.DOTALL)
    with running_playground(tmp_path) as service, running_browser() as browser:
        service.vendor.slow.add(TARGET)
        with browser.new_context(bypass_csp=True) as context:
            page, statuses = context.new_page(), list[int]()
            page.on("response", lambda one: statuses.append(one.status) if "/thumb?" in one.url else None)
            page.goto(service.url)
            page.evaluate(HELD)
            begin = "const img = new Image(); document.body.append(img); show(img, url);"
            url = f"/thumb?url={quote(TARGET, safe='')}&thumb_width=300"
            page.evaluate(f"(url) => {{ {script} {begin} }}", url)
            picture = page.locator("img").last
            expect(picture).to_have_js_property("naturalWidth", 300)
            assert set(statuses) == {202}
            service.vendor.go_on.set()
            wait_at(page, lambda: 200 in statuses)
            wait_at(page, lambda: page.evaluate("held.size") == 0)
            expect(picture).to_have_js_property("naturalWidth", 300)
