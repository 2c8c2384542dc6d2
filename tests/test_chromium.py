"""Every option of a capture, seen in the pixels that a real Chromium makes of it."""

from __future__ import annotations

import io
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.chromium import chromium, take
from tests.support.pages import (
    BLUE,
    GREEN,
    RED,
    WHITE,
    PageServer,
    colour_at,
    colours_at,
    picture_of,
    running_pages,
)
from tests.support.target_pages import BLOCK_HEIGHT, TALL_BLOCKS
from thumbnailer.devices import DEVICES
from thumbnailer.model import Clip, Format, Geolocation, StatusRange, WaitUntil
from thumbnailer.providers.chromium import ChromiumProvider, find_chromium


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with running_pages() as server:
        yield server


@pytest.fixture(scope="module")
def provider() -> Iterator[ChromiumProvider]:
    with chromium() as provider:
        yield provider


FACTS = [
    pytest.param({"width": 640, "height": 480}, "innerWidth === 640 && innerHeight === 480", id="viewport"),
    pytest.param({"device_scale_factor": 2.0}, "devicePixelRatio === 2", id="device_scale_factor"),
    pytest.param(
        {"device": "iPhone 14", "width": 390, "height": 664, "device_scale_factor": 3.0},
        "innerWidth === 390 && navigator.maxTouchPoints > 0 && /iPhone/.test(navigator.userAgent)",
        id="device",
    ),
    pytest.param({"dark_mode": True}, "matchMedia('(prefers-color-scheme: dark)').matches", id="dark_mode"),
    pytest.param(
        {"reduced_motion": True},
        "matchMedia('(prefers-reduced-motion: reduce)').matches",
        id="reduced_motion",
    ),
    pytest.param({"user_agent": "Thumb/1"}, "navigator.userAgent === 'Thumb/1'", id="user_agent"),
    pytest.param({"locale": "de-CH"}, "navigator.language === 'de-CH'", id="locale"),
    pytest.param(
        {"timezone": "Asia/Kathmandu"},
        "['Asia/Kathmandu', 'Asia/Katmandu'].includes(Intl.DateTimeFormat().resolvedOptions().timeZone)",
        id="timezone",
    ),
    pytest.param(
        {"geolocation": Geolocation(47.5, -8.25)},
        "new Promise(tell => navigator.geolocation.getCurrentPosition(({coords}) => "
        "tell(coords.latitude === 47.5 && coords.longitude === -8.25), () => tell(false)))",
        id="geolocation",
    ),
]


@pytest.mark.parametrize(("options", "fact"), FACTS)
def test_the_page_sees_the_option_only_when_it_is_asked_for(
    provider: ChromiumProvider, pages: PageServer, options: dict[str, Any], fact: str
) -> None:
    url = pages.check(fact)
    assert colour_at(take(provider, url, **options, delay=100), 100, 200) == GREEN
    assert colour_at(take(provider, url, delay=100), 100, 200) == RED


def test_by_default_page_and_server_are_not_told_that_the_browser_is_headless(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    url = pages.check(
        "!/headless/i.test(navigator.userAgent + JSON.stringify(navigator.userAgentData.brands))"
    )
    assert colour_at(take(provider, url), 100, 100) == GREEN
    told = pages.headers["/check"]
    assert "headless" not in str(told).lower()
    assert told["Accept-Language"] == "en-US,en;q=0.9"
    take(provider, url, device="Galaxy S24", locale="de-CH")
    told = pages.headers["/check"]
    assert (told["sec-ch-ua-platform"], told["sec-ch-ua-mobile"]) == ('"Android"', "?1")
    assert told["Accept-Language"] == "de-CH"


@pytest.mark.parametrize(
    "options",
    [{}, {"device": "Galaxy S24"}, {"device": "Desktop Edge"}],
    ids=["no device", "phone", "desktop"],
)
def test_the_browser_tells_its_own_version_wherever_it_tells_one(
    provider: ChromiumProvider, pages: PageServer, options: dict[str, Any]
) -> None:
    version = subprocess.run(
        [find_chromium() or "", "--version"], capture_output=True, check=True, text=True, timeout=30
    ).stdout.split()[-1]
    major = version.partition(".")[0]
    url = pages.check(
        f"navigator.userAgent.includes('Chrome/{major}.0.0.0 ')"
        "&& navigator.userAgentData.getHighEntropyValues(['fullVersionList']).then(told => ["
        f"...told.fullVersionList, ...told.brands].filter(({{brand}}) => brand === 'Chromium')"
        f".map(({{version}}) => version).join() === '{version},{major}')"
    )
    assert colour_at(take(provider, url, **options, delay=100), 100, 100) == GREEN
    told = pages.headers["/check"]
    assert f"Chrome/{major}.0.0.0 " in told["User-Agent"]
    assert f'"Chromium";v="{major}"' in told["sec-ch-ua"]


@pytest.mark.parametrize(
    ("format_", "name", "scale"),
    [
        pytest.param(Format.PNG, "PNG", 1.0, id="png"),
        pytest.param(Format.JPEG, "JPEG", 2.0, id="jpeg"),
        pytest.param(Format.WEBP, "WEBP", 1.5, id="webp"),
    ],
)
def test_the_picture_has_the_format_size_and_colours_of_the_viewport(
    provider: ChromiumProvider, pages: PageServer, format_: Format, name: str, scale: float
) -> None:
    body = take(provider, pages.url("/quarters"), format=format_, device_scale_factor=scale)
    with Image.open(io.BytesIO(body)) as picture:
        assert picture.format == name
        assert picture.size == (round(320 * scale), round(240 * scale))
    at = [(int(x * scale), int(y * scale)) for x, y in ((80, 60), (240, 60), (80, 180), (240, 180))]
    assert colours_at(body, *at) == [RED, GREEN, BLUE, WHITE]


@pytest.mark.parametrize("format_", [Format.JPEG, Format.WEBP])
def test_a_lower_quality_makes_fewer_bytes(
    provider: ChromiumProvider, pages: PageServer, format_: Format
) -> None:
    sizes = [
        len(take(provider, pages.url("/world"), format=format_, quality=quality)) for quality in (10, 95)
    ]
    assert sizes[0] < sizes[1]


def test_a_pdf_has_the_whole_page(provider: ChromiumProvider, pages: PageServer) -> None:
    pages.requests.clear()
    body = take(provider, pages.url("/tall"), format=Format.PDF)
    assert body.startswith(b"%PDF-")
    assert body.rstrip().endswith(b"%%EOF")
    assert f"/lime.svg?{TALL_BLOCKS - 1}" in pages.requests
    body = take(provider, pages.url("/shell"), format=Format.PDF)
    assert len(re.findall(rb"/Type\s*/Page\b", body)) == 3, "sheets of 320 by 453, for 940"


def test_emoji_and_scripts_of_the_world_have_glyphs(provider: ChromiumProvider, pages: PageServer) -> None:
    body = take(provider, pages.url("/world"), width=800, height=260)
    colours = picture_of(body).crop((100, 0, 500, 80)).getcolors(maxcolors=1_000_000) or []
    colourful = [pixel for _, pixel in colours if isinstance(pixel, tuple) and max(pixel) - min(pixel) > 80]
    assert len(colourful) > 100, "emoji are drawn in colour"


@pytest.mark.parametrize(
    ("format_", "height"),
    [pytest.param(Format.PNG, 16_384, id="png"), pytest.param(Format.WEBP, 16_383, id="webp")],
)
def test_a_whole_page_is_scrolled_through_and_cut_off_where_the_format_or_the_limit_ends(
    provider: ChromiumProvider, pages: PageServer, format_: Format, height: int
) -> None:
    assert height < TALL_BLOCKS * BLOCK_HEIGHT
    body = take(provider, pages.url("/tall"), full_page=True, format=format_, height=900)
    assert picture_of(body).size == (320, height)
    assert set(colours_at(body, *((160, y) for y in range(100, height, BLOCK_HEIGHT)))) == {GREEN}


def test_a_tall_webp_at_double_scale_is_whole(provider: ChromiumProvider, pages: PageServer) -> None:
    body = take(
        provider, pages.url("/tall"), full_page=True, format=Format.WEBP, device_scale_factor=2.0, height=900
    )
    assert picture_of(body).size == (640, 16_382)


def test_what_loads_when_it_is_seen_is_in_the_picture_of_a_whole_page(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    body = take(provider, pages.url("/observed"), full_page=True)
    assert picture_of(body).size == (320, 3600)
    assert set(colours_at(body, *((160, y) for y in range(300, 3600, 600)))) == {GREEN}


@pytest.mark.parametrize(
    "path",
    [
        "/shell",
        "/scrolling-body",
        "/components",
        "/smooth",
        "/smooth-behind-a-window",
        "/slides",
        "/backdrop",
        "/waits-until-nobody-scrolls",
    ],
)
def test_what_scrolls_or_is_moved_in_place_of_the_page_is_laid_out(
    provider: ChromiumProvider, pages: PageServer, path: str
) -> None:
    body = take(provider, pages.url(path), full_page=True)
    assert picture_of(body).size == (320, 940)
    assert set(colours_at(body, *((160, y) for y in (10, 200, 500, 930)))) == {GREEN}


@pytest.mark.parametrize(
    "options", [{"full_page": True}, {"clip": Clip(0, 0, 320, 6000)}], ids=["whole", "clip"]
)
def test_what_a_page_leaves_out_until_it_is_in_view_is_drawn(
    provider: ChromiumProvider, pages: PageServer, options: dict[str, Any]
) -> None:
    body = take(provider, pages.url("/skips-what-is-out-of-view"), **options)
    assert picture_of(body).size == (320, 6000)
    assert set(colours_at(body, *((160, y) for y in range(50, 6000, 100)))) == {GREEN}


def test_a_whole_page_shows_what_clings_to_the_viewport_once_and_all_that_was_shown_on_the_way(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    body = take(provider, pages.url("/clinging"), full_page=True)
    assert picture_of(body).size == (320, 1560)
    sticky, fixed = 1350, 1540
    assert set(colours_at(body, (160, sticky), (160, fixed))) == {BLUE}
    assert set(colours_at(body, *((160, y) for y in (*range(10, 1340, 25), 1370, 1520)))) == {GREEN}


def test_a_page_that_grows_for_ever_is_photographed_all_the_same(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    assert picture_of(take(provider, pages.url("/endless"), full_page=True, height=900)).size == (320, 16_384)


def test_a_phone_shows_a_wide_page_zoomed_out_to_its_own_width(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    for whole in (False, True):
        body = take(
            provider, pages.url("/wide-for-phones"), full_page=whole, device="Pixel 7", width=412, height=839
        )
        assert abs(picture_of(body).width - 412) <= 1
        assert colour_at(body, 400, 300) == GREEN


def test_a_selector_gives_that_element_alone(provider: ChromiumProvider, pages: PageServer) -> None:
    body = take(provider, pages.url("/elements"), selector="#target")
    assert picture_of(body).size == (120, 80)
    assert set(colours_at(body, (1, 1), (118, 78), (60, 40))) == {GREEN}


@pytest.mark.parametrize(
    ("clip", "size"),
    [
        pytest.param(Clip(10, 2000, 50, 40), (50, 40), id="below the viewport"),
        pytest.param(Clip(100, 2060, 500, 20), (220, 20), id="partly beside the page"),
    ],
)
def test_a_clip_gives_that_rectangle_of_the_page(
    provider: ChromiumProvider, pages: PageServer, clip: Clip, size: tuple[int, int]
) -> None:
    body = take(provider, pages.url("/elements"), clip=clip)
    assert picture_of(body).size == size
    assert colour_at(body, 5, 5) == GREEN


@pytest.mark.parametrize(
    ("path", "options"),
    [
        pytest.param("/delayed", {"delay": 1500}, id="delay"),
        pytest.param(
            "/hanging-image", {"wait_until": WaitUntil.DOMCONTENTLOADED, "seconds": 6}, id="domcontentloaded"
        ),
        pytest.param("/restless-looks", {}, id="what beats, and a caret"),
        pytest.param("/fetches", {}, id="content that a script fetches"),
        pytest.param("/late-background", {}, id="a picture that a script wants"),
        pytest.param("/deep", {"clip": Clip(0, 2000, 320, 240)}, id="a clip of what loads when seen"),
        pytest.param("/deep", {"selector": "#part"}, id="an element that loads when seen"),
        pytest.param("/hanging-style", {"seconds": 5}, id="parts that never load"),
        pytest.param("/chain", {"wait_until": WaitUntil.NETWORKIDLE}, id="networkidle"),
        pytest.param("/restless", {"wait_until": WaitUntil.NETWORKIDLE, "seconds": 6}, id="never idle"),
        pytest.param("/chain", {"wait_for": "#late"}, id="wait_for"),
        pytest.param("/hideable", {"hide_selectors": (".chat", "body > aside")}, id="hide_selectors"),
        pytest.param("/ads", {"block_ads": True}, id="block_ads"),
        pytest.param("/stubborn-consent", {"block_cookie_banners": True}, id="banner without a choice"),
        pytest.param("/dialogs", {}, id="dialogs are dismissed"),
        pytest.param("/popups", {}, id="pop-ups do not disturb"),
        pytest.param(
            "/font-never-comes",
            {"wait_until": WaitUntil.DOMCONTENTLOADED, "seconds": 6},
            id="a font that never comes",
        ),
        pytest.param("/lime.svg", {}, id="a drawing"),
        pytest.param("/from-the-right", {}, id="a page that begins at the right"),
        pytest.param("/from-the-right", {"full_page": True}, id="all of it"),
        pytest.param(
            "/from-the-right",
            {
                "full_page": True,
                "device": "Pixel 7",
                "css": "div { width: 3000px !important; height: 2000px !important }",
            },
            id="all of it on a phone",
        ),
        pytest.param("/from-the-right", {"selector": "#start"}, id="an element of it"),
        pytest.param("/moves-on", {}, id="a script moves on"),
        pytest.param("/own-globals", {"full_page": True}, id="a page that redefines what scripts call"),
        pytest.param("/redirect", {}, id="redirect"),
        pytest.param("/breaks-off-once", {}, id="broken off once"),
        pytest.param("/miscounted", {}, id="longer than it is, by what its server says"),
        pytest.param("/frames-elsewhere", {}, id="parts of a page are refused"),
        pytest.param("/status/404", {"fail_on_status": (StatusRange(500, 599),)}, id="an accepted status"),
        pytest.param("/status/500", {"fail_on_status": ()}, id="every status accepted"),
    ],
)
def test_the_picture_is_green_where_the_option_works(
    provider: ChromiumProvider, pages: PageServer, path: str, options: dict[str, Any]
) -> None:
    body = take(provider, pages.url(path), **options)
    assert set(colours_at(body, *((x, y) for x in (10, 300) for y in (10, 120, 230)))) == {GREEN}


@pytest.mark.parametrize("path", ["/hideable", "/ads", "/stubborn-consent", "/consent", "/house-ads"])
def test_nothing_is_taken_out_of_a_page_unasked(
    provider: ChromiumProvider, pages: PageServer, path: str
) -> None:
    assert colour_at(take(provider, pages.url(path)), 10, 10) == RED


def test_blocked_ads_are_not_even_asked_for(provider: ChromiumProvider, pages: PageServer) -> None:
    pages.requests.clear()
    take(provider, pages.url("/ads"), block_ads=True)
    assert "/ads/banner.svg" not in pages.requests
    take(provider, pages.url("/ads"))
    assert "/ads/banner.svg" in pages.requests


def test_an_operator_may_bring_another_filter_list(pages: PageServer, tmp_path: Path) -> None:
    own = tmp_path / "list.txt"
    own.write_text("127.0.0.1##.house-promotion\n")
    with chromium(ad_filter_list=own) as provider:
        assert colour_at(take(provider, pages.url("/house-ads"), block_ads=True), 10, 10) == GREEN
        assert colour_at(take(provider, pages.url("/ads"), block_ads=True), 10, 10) == RED


def test_a_consent_banner_is_refused_and_gone(provider: ChromiumProvider, pages: PageServer) -> None:
    pages.requests.clear()
    body = take(provider, pages.url("/consent"), block_cookie_banners=True)
    assert colour_at(body, 10, 10) == GREEN
    assert "/rejected" in pages.requests


def test_every_device_keeps_to_what_a_caller_may_ask_for() -> None:
    assert {"iPhone 14", "iPhone SE", "Pixel 7", "iPad", "Galaxy S9+", "Desktop Chrome"} <= set(DEVICES)
    for device in DEVICES.values():
        assert 320 <= device.width <= 3840
        assert 240 <= device.height <= 2160
        assert 1 <= device.device_scale_factor <= 3
        assert device.user_agent.startswith("Mozilla/5.0 (")
