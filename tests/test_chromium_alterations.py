"""What callers do to a page: style, script, headers and cookies, and to whom these go."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.support.chromium import chromium, take
from tests.support.pages import GREEN, PageServer, colour_at, running_pages
from tests.support.target_pages import TURN_GREEN
from thumbnailer.errors import CaptureRefused
from thumbnailer.model import Cookie
from thumbnailer.providers.chromium import ChromiumProvider

SECRET = (("authorization", "Bearer for-the-target"), ("x-tenant", "a"))
GREEN_STYLE = "html, body { background: lime !important } body * { display: none !important }"


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with running_pages() as server:
        yield server


@pytest.fixture(scope="module")
def other() -> Iterator[PageServer]:
    """Another origin."""
    with running_pages() as server:
        yield server


@pytest.fixture(scope="module")
def provider() -> Iterator[ChromiumProvider]:
    with chromium() as provider:
        yield provider


def test_a_style_sheet_and_a_program_change_the_picture(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    plain = pages.check("false")
    assert colour_at(take(provider, plain), 160, 120) != GREEN
    assert colour_at(take(provider, plain, css=GREEN_STYLE), 160, 120) == GREEN
    assert colour_at(take(provider, plain, js=TURN_GREEN), 160, 120) == GREEN
    later = f"new Promise(done => setTimeout(() => {{ {TURN_GREEN}; done() }}, 50))"
    assert colour_at(take(provider, plain, js=later), 160, 120) == GREEN


def test_a_program_may_lead_the_page_elsewhere(provider: ChromiumProvider, pages: PageServer) -> None:
    led = pages.check("true")
    assert colour_at(take(provider, pages.url("/plain"), js=f"location.href = {led!r}"), 160, 120) == GREEN


@pytest.mark.parametrize(
    "js",
    [
        "throw new Error('private: has been closed')",
        "navigator.private.thing()",
        "nonsense private",
        "new Promise(() => {})",
    ],
)
def test_a_program_that_fails_is_refused_without_quoting_it(
    provider: ChromiumProvider,
    pages: PageServer,
    js: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("thumbnailer.providers.page.PROGRAM_SECONDS", 0.5)
    with pytest.raises(CaptureRefused, match="The program of the option js") as refused:
        take(provider, pages.url("/plain"), js=js)
    assert "private" not in str(refused.value)
    assert refused.value.__suppress_context__
    out = capfd.readouterr()
    assert "private" not in out.out + out.err


@pytest.mark.parametrize("block_ads", [False, True])
def test_headers_go_to_the_targets_origin_alone(
    provider: ChromiumProvider, pages: PageServer, other: PageServer, block_ads: bool
) -> None:
    elsewhere = f"fetch('{other.url('/plain')}', {{mode: 'no-cors'}})"
    script = f"Promise.all([fetch('/plain'), {elsewhere}]).then(() => true)"
    picture = take(provider, pages.check(script), headers=SECRET, block_ads=block_ads)
    assert colour_at(picture, 160, 120) == GREEN
    for path in ("/check", "/plain"):
        assert pages.headers[path]["Authorization"] == "Bearer for-the-target"
        assert pages.headers[path]["X-Tenant"] == "a"
    assert "Authorization" not in other.headers["/plain"]
    assert "X-Tenant" not in other.headers["/plain"]


def test_headers_do_not_follow_a_redirect_to_another_origin(
    provider: ChromiumProvider, pages: PageServer, other: PageServer
) -> None:
    other.headers.clear()
    start = pages.url(f"/to?to={quote(other.check('true'), safe='')}")
    assert colour_at(take(provider, start, headers=SECRET), 160, 120) == GREEN
    assert pages.headers["/to"]["X-Tenant"] == "a"
    assert "Authorization" not in other.headers["/check"]
    assert "X-Tenant" not in other.headers["/check"]


def test_cookies_go_to_the_target_and_stay_with_one_capture(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    green = pages.check("document.cookie === 'session=abc'")
    cookies = (Cookie("session", "abc", "127.0.0.1"),)
    assert colour_at(take(provider, green, cookies=cookies), 160, 120) == GREEN
    assert pages.headers["/check"]["Cookie"] == "session=abc"
    take(provider, green)
    assert "Cookie" not in pages.headers["/check"]
