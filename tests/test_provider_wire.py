"""What each HTTP adapter puts on the wire, byte for byte, as an echoing upstream records it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.upstream import Upstream
from thumbnailer.errors import CaptureRefused
from thumbnailer.model import (
    CaptureRequest,
    Clip,
    Cookie,
    Deadline,
    Format,
    Geolocation,
    StatusRange,
    WaitUntil,
)
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.hermesforge import HERMESFORGE
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.providers.snapsharp import SNAPSHARP
from thumbnailer.providers.vendor import Vendor

KEY = "sk_live_4f9"
PAGE = "https://example.com/"
ODD_PAGE = "https://example.com/a b?q=ä&r=1+1%20#part"
IPHONE: dict[str, Any] = {"width": 390, "height": 664, "device_scale_factor": 3.0}
BERLIN = Geolocation(52.52, 13.405)
NO_STATUS: tuple[StatusRange, ...] = ()
HALVES = (StatusRange(400, 499), StatusRange(500, 599))
IN_QUERY_ODD = "url=https%3A%2F%2Fexample.com%2Fa%20b%3Fq%3D%C3%A4%26r%3D1%2B1%2520%23part"
IN_QUERY = "url=https%3A%2F%2Fexample.com%2F"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture(scope="module")
def session() -> Iterator[UpstreamSession]:
    with UpstreamSession() as pooled:
        yield pooled


def asked(url: str = PAGE, **options: Any) -> CaptureRequest:
    """A request whose caller wrote all these options."""
    return CaptureRequest(url=url, **options, asked=frozenset(options))


def by_default(*names: str, **options: Any) -> CaptureRequest:
    """A request whose caller wrote only the options of these names; the rest are defaults."""
    return CaptureRequest(url=PAGE, **options, asked=frozenset(names))


HERMESFORGE_CALLS = {
    "nothing": (by_default(), "width=1280&height=720&format=png"),
    "size": (asked(width=800, height=600), "width=800&height=600&format=png"),
    "width-only": (asked(width=3840), "width=3840&height=720&format=png"),
    "height-only": (asked(height=2160), "width=1280&height=2160&format=png"),
    "jpeg": (asked(format=Format.JPEG), "width=1280&height=720&format=jpeg"),
    "webp": (asked(format=Format.WEBP), "width=1280&height=720&format=webp"),
    "pdf": (asked(format=Format.PDF), "width=1280&height=720&format=pdf"),
    "png-asked": (asked(format=Format.PNG), "width=1280&height=720&format=png"),
    "full-page": (asked(full_page=True), "width=1280&height=720&format=png&full_page=true"),
    "full-page-asked-off": (asked(full_page=False), "width=1280&height=720&format=png"),
    "delay": (asked(delay=1500), "width=1280&height=720&format=png&delay=1500"),
    "dark": (asked(dark_mode=True), "width=1280&height=720&format=png&dark_mode=true"),
    "ads": (asked(block_ads=True), "width=1280&height=720&format=png&block_ads=true"),
    "ads-by-default": (by_default(block_ads=True), "width=1280&height=720&format=png&block_ads=true"),
    "default-quality-left-out": (
        by_default("format", format=Format.JPEG, quality=80),
        "width=1280&height=720&format=jpeg",
    ),
    "default-banners-left-out": (by_default(block_cookie_banners=True), "width=1280&height=720&format=png"),
    "default-device-becomes-its-size": (
        by_default(device="iPhone 14", **IPHONE),
        "width=390&height=664&format=png",
    ),
    "default-wait-left-out": (
        by_default(wait_until=WaitUntil.NETWORKIDLE),
        "width=1280&height=720&format=png",
    ),
    "everything": (
        asked(
            width=640, height=480, format=Format.WEBP, full_page=True, delay=1, dark_mode=True, block_ads=True
        ),
        "width=640&height=480&format=webp&full_page=true&delay=1&dark_mode=true&block_ads=true",
    ),
    "tall-pdf": (asked(format=Format.PDF, full_page=True), "width=1280&height=720&format=pdf&full_page=true"),
    "asked-neutral": (asked(delay=0, wait_until=WaitUntil.LOAD), "width=1280&height=720&format=png"),
    "odd-url": (asked(ODD_PAGE, width=320), "width=320&height=720&format=png"),
}

SNAPSHARP_QUERIES = {
    "nothing": (by_default(), "width=1280&height=720&format=png"),
    "size": (asked(width=320, height=240), "width=320&height=240&format=png"),
    "retina": (asked(device_scale_factor=2.0), "width=1280&height=720&retina=true&format=png"),
    "retina-as-default": (
        by_default(device_scale_factor=2.0),
        "width=1280&height=720&retina=true&format=png",
    ),
    "default-scale-left-out": (by_default(device_scale_factor=3.0), "width=1280&height=720&format=png"),
    "device": (by_default("device", device="iPhone 14", **IPHONE), "device=iPhone%2014&format=png"),
    "device-and-width": (
        by_default("device", "width", device="iPhone 14", **IPHONE | {"width": 400}),
        "width=400&device=iPhone%2014&format=png",
    ),
    "device-without-retina": (
        by_default(
            "device", "device_scale_factor", device="iPhone 14", **IPHONE | {"device_scale_factor": 1.0}
        ),
        "retina=false&device=iPhone%2014&format=png",
    ),
    "jpeg": (asked(format=Format.JPEG, quality=55), "width=1280&height=720&format=jpeg&quality=55"),
    "webp": (asked(format=Format.WEBP, quality=100), "width=1280&height=720&format=webp&quality=100"),
    "pdf": (asked(format=Format.PDF), "width=1280&height=720&format=pdf"),
    "full-page": (asked(full_page=True), "width=1280&height=720&format=png&full_page=true"),
    "delay": (asked(delay=10_000), "width=1280&height=720&format=png&delay=10000"),
    "networkidle": (
        asked(wait_until=WaitUntil.NETWORKIDLE),
        "width=1280&height=720&format=png&wait_until=networkidle",
    ),
    "wait-for": (
        asked(wait_for="#main > h1"),
        "width=1280&height=720&format=png&wait_for=%23main%20%3E%20h1",
    ),
    "dark": (asked(dark_mode=True), "width=1280&height=720&format=png&dark_mode=true"),
    "ads-and-banners-by-default": (
        by_default(block_ads=True, block_cookie_banners=True),
        "width=1280&height=720&format=png&block_ads=true",
    ),
    "hide-one": (asked(hide_selectors=(".ad",)), "width=1280&height=720&format=png&hide_selectors=.ad"),
    "hide-two": (
        asked(hide_selectors=(".ad", "#top a")),
        "width=1280&height=720&format=png&hide_selectors=.ad%2C%23top%20a",
    ),
    "user-agent": (
        asked(user_agent="Bot/1.0 (+x; ü)"),
        "width=1280&height=720&format=png&user_agent=Bot%2F1.0%20%28%2Bx%3B%20%C3%BC%29",
    ),
    "odd-url": (asked(ODD_PAGE), "width=1280&height=720&format=png"),
}

CLIP = Clip(10, 20, 300, 200)
CLIP_JSON = {"x": 10, "y": 20, "width": 300, "height": 200}

COOKIE = Cookie(name="id", value="7", host="example.com")
COOKIE_JSON = {"name": "id", "value": "7", "domain": "example.com", "path": "/"}

SNAPSHARP_BODIES: dict[str, tuple[CaptureRequest, dict[str, object]]] = {
    "clip": (asked(clip=CLIP), {"width": 1280, "height": 720, "format": "png", "clip": CLIP_JSON}),
    "clip-and-more": (
        asked(
            clip=CLIP,
            format=Format.JPEG,
            quality=70,
            full_page=True,
            dark_mode=True,
            hide_selectors=("a", "b"),
        ),
        {
            "width": 1280,
            "height": 720,
            "format": "jpeg",
            "quality": 70,
            "full_page": True,
            "clip": CLIP_JSON,
            "dark_mode": True,
            "hide_selectors": "a,b",
        },
    ),
    "clip-of-device": (
        by_default("clip", "device", clip=CLIP, device="iPad", **IPHONE),
        {"device": "iPad", "format": "png", "clip": CLIP_JSON},
    ),
    "style": (asked(css="a {}"), {"width": 1280, "height": 720, "format": "png", "css": "a {}"}),
    "program": (asked(js="1"), {"width": 1280, "height": 720, "format": "png", "js": "1"}),
    "headers": (
        asked(headers=(("x-a", "b"),)),
        {"width": 1280, "height": 720, "format": "png", "headers": {"x-a": "b"}},
    ),
    "cookies": (
        asked(cookies=(COOKIE,)),
        {"width": 1280, "height": 720, "format": "png", "cookies": [COOKIE_JSON]},
    ),
}

#: Sent on every call that says nothing else of size, format and statuses.
PLAIN: dict[str, object] = {"width": 1280, "height": 720, "format": "png", "failOnHttpError": True}

SNAPAPI_BODIES: dict[str, tuple[CaptureRequest, dict[str, object]]] = {
    "nothing": (by_default(), PLAIN),
    "size": (asked(width=3840, height=2160), PLAIN | {"width": 3840, "height": 2160}),
    "scale": (asked(device_scale_factor=2.0), PLAIN | {"deviceScaleFactor": 2}),
    "broken-scale": (asked(device_scale_factor=1.5), PLAIN | {"deviceScaleFactor": 1.5}),
    "device": (
        by_default("device", device="Pixel 7", **IPHONE),
        {"device": "Pixel 7", "format": "png", "failOnHttpError": True},
    ),
    "device-and-height": (
        by_default("device", "height", device="Pixel 7", **IPHONE),
        {"height": 664, "device": "Pixel 7", "format": "png", "failOnHttpError": True},
    ),
    "jpeg": (asked(format=Format.JPEG, quality=1), PLAIN | {"format": "jpeg", "quality": 1}),
    "webp-default-quality": (
        by_default("format", format=Format.WEBP, quality=80),
        PLAIN | {"format": "webp", "quality": 80},
    ),
    "pdf": (asked(format=Format.PDF), PLAIN | {"format": "pdf"}),
    "full-page": (asked(full_page=True), PLAIN | {"fullPage": True}),
    "selector": (asked(selector="#chart"), PLAIN | {"selector": "#chart"}),
    "style-and-program": (asked(css="a {}", js="1"), PLAIN | {"css": "a {}", "javascript": "1"}),
    "headers-and-cookies": (
        asked(headers=(("x-a", "b"),), cookies=(COOKIE,)),
        PLAIN | {"extraHeaders": {"x-a": "b"}, "cookies": [COOKIE_JSON]},
    ),
    "clip": (asked(clip=CLIP), PLAIN | {"clipX": 10, "clipY": 20, "clipWidth": 300, "clipHeight": 200}),
    "waiting": (
        asked(delay=250, wait_until=WaitUntil.DOMCONTENTLOADED, wait_for="h1"),
        PLAIN | {"delay": 250, "waitUntil": "domcontentloaded", "waitForSelector": "h1"},
    ),
    "dark-and-still": (
        asked(dark_mode=True, reduced_motion=True),
        PLAIN | {"darkMode": True, "reducedMotion": True},
    ),
    "blocking": (
        by_default(block_ads=True, block_cookie_banners=True),
        PLAIN | {"blockAds": True, "blockCookieBanners": True},
    ),
    "hide-one": (asked(hide_selectors=(".ad",)), PLAIN | {"hideSelectors": [".ad"]}),
    "hide-two": (asked(hide_selectors=(".ad", "#b, #c")), PLAIN | {"hideSelectors": [".ad", "#b, #c"]}),
    "user-agent": (asked(user_agent="Bot/1.0 (ü)"), PLAIN | {"userAgent": "Bot/1.0 (ü)"}),
    "place": (
        asked(locale="de-DE", timezone="Europe/Berlin", geolocation=BERLIN),
        PLAIN
        | {
            "locale": "de-DE",
            "timezone": "Europe/Berlin",
            "geolocation": {"latitude": 52.52, "longitude": 13.405},
        },
    ),
    "no-status-fails": (asked(fail_on_status=NO_STATUS), PLAIN | {"failOnHttpError": False}),
    "errors-in-two-ranges": (asked(fail_on_status=HALVES), PLAIN | {"failOnHttpError": True}),
    "default-statuses-left-out": (
        by_default(fail_on_status=(StatusRange(500, 599),)),
        {"width": 1280, "height": 720, "format": "png"},
    ),
    "odd-url": (asked(ODD_PAGE), PLAIN),
}


def record(upstream: Upstream, provider: RemoteProvider, request: CaptureRequest) -> Any:
    """Take the capture, whose vendor must not object, and return the one request that it made."""
    before = len(upstream.requests)
    body = provider.capture(request, Deadline.after(20))
    assert b"".join(body)
    (received,) = upstream.requests[before:]
    return received


def provider_of(
    vendor: Vendor, upstream: Upstream, session: UpstreamSession, key: str | None = KEY
) -> RemoteProvider:
    return RemoteProvider(vendor, session, key=key, base_url=upstream.url)


@pytest.mark.parametrize(("request_", "query"), HERMESFORGE_CALLS.values(), ids=HERMESFORGE_CALLS)
def test_hermesforge_gets_one_exact_query_and_its_key_in_a_header(
    upstream: Upstream, session: UpstreamSession, request_: CaptureRequest, query: str
) -> None:
    received = record(upstream, provider_of(HERMESFORGE, upstream, session), request_)

    url = IN_QUERY_ODD if request_.url == ODD_PAGE else IN_QUERY
    assert (received.method, received.target) == ("GET", f"/api/screenshot?{url}&{query}")
    assert received.query["url"] == request_.url
    assert dict(received.headers) == expected_headers(upstream) | {"X-API-Key": KEY}
    assert received.body == b""


@pytest.mark.parametrize(("request_", "query"), SNAPSHARP_QUERIES.values(), ids=SNAPSHARP_QUERIES)
def test_snapsharp_gets_scalars_in_one_exact_query_and_a_bearer_key(
    upstream: Upstream, session: UpstreamSession, request_: CaptureRequest, query: str
) -> None:
    received = record(upstream, provider_of(SNAPSHARP, upstream, session), request_)

    url = IN_QUERY_ODD if request_.url == ODD_PAGE else IN_QUERY
    assert (received.method, received.target) == ("GET", f"/v1/screenshot?{url}&{query}")
    assert dict(received.headers) == expected_headers(upstream) | {"Authorization": f"Bearer {KEY}"}
    assert received.body == b""


@pytest.mark.parametrize(("request_", "body"), SNAPSHARP_BODIES.values(), ids=SNAPSHARP_BODIES)
def test_snapsharp_gets_what_is_no_scalar_as_json(
    upstream: Upstream, session: UpstreamSession, request_: CaptureRequest, body: dict[str, object]
) -> None:
    received = record(upstream, provider_of(SNAPSHARP, upstream, session), request_)

    assert (received.method, received.target) == ("POST", "/v1/screenshot")
    assert typed(received.json) == typed({"url": request_.url} | body)
    assert dict(received.headers) == expected_headers(upstream) | {
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "Content-Length": str(len(received.body)),
    }


@pytest.mark.parametrize(("request_", "body"), SNAPAPI_BODIES.values(), ids=SNAPAPI_BODIES)
def test_snapapi_gets_camel_case_json_and_its_key_in_both_headers(
    upstream: Upstream, session: UpstreamSession, request_: CaptureRequest, body: dict[str, object]
) -> None:
    received = record(upstream, provider_of(SNAPAPI, upstream, session), request_)

    assert (received.method, received.target) == ("POST", "/v1/screenshot")
    assert typed(received.json) == typed({"url": request_.url} | body)
    assert dict(received.headers) == expected_headers(upstream) | {
        "X-Api-Key": KEY,
        "Authorization": f"Bearer {KEY}",
        "Content-Type": "application/json",
        "Content-Length": str(len(received.body)),
    }


def expected_headers(upstream: Upstream) -> dict[str, str]:
    """What every call carries: nothing of the environment, no cookie, no encoding wished for."""
    return {
        "Host": upstream.url.removeprefix("http://"),
        "User-Agent": "thumbnailer",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
    }


def typed(value: object) -> object:
    """``value`` with every scalar beside its JSON type, since ``True == 1`` and ``2.0 == 2``."""
    if isinstance(value, dict):
        return {name: typed(member) for name, member in value.items()}
    if isinstance(value, list):
        return [typed(member) for member in value]
    return type(value).__name__, value


@pytest.mark.parametrize(
    "calls",
    [HERMESFORGE_CALLS, SNAPSHARP_QUERIES | SNAPSHARP_BODIES, SNAPAPI_BODIES],
    ids=["hermesforge", "snapsharp", "snapapi"],
)
def test_each_table_holds_twenty_different_requests_that_their_vendor_can_honour(
    calls: dict[str, Any],
) -> None:
    assert len({repr((request, sorted(request.asked))) for request, _ in calls.values()}) >= 20


def test_hermesforge_is_called_without_a_key_where_none_is_configured(
    upstream: Upstream, session: UpstreamSession
) -> None:
    received = record(upstream, provider_of(HERMESFORGE, upstream, session, key=None), by_default())

    assert dict(received.headers) == expected_headers(upstream)


def test_a_base_url_may_have_a_path_and_a_slash_at_its_end(
    upstream: Upstream, session: UpstreamSession
) -> None:
    provider = RemoteProvider(SNAPSHARP, session, key=KEY, base_url=f"{upstream.url}/proxied/")

    with pytest.raises(Exception, match="The target could not be reached"):
        provider.capture(by_default(), Deadline.after(20))

    assert upstream.requests[-1].path == "/proxied/v1/screenshot"


def test_the_playing_upstream_refuses_what_a_vendor_would_not_know(
    upstream: Upstream, session: UpstreamSession
) -> None:
    request = CaptureRequest(url=PAGE, width=200)  # below SnapSharp's least width; hermesforge names none
    record(upstream, provider_of(HERMESFORGE, upstream, session), request)
    twin = Vendor(
        name="twin",
        base_url="",
        path=SNAPSHARP.path,
        options=HERMESFORGE.options,
        key_headers=SNAPSHARP.key_headers,
    )

    with pytest.raises(CaptureRefused, match="width is unknown or cannot be 200"):
        provider_of(twin, upstream, session).capture(request, Deadline.after(20))


UNSUPPORTED: list[tuple[Vendor, CaptureRequest, str | None]] = [
    (HERMESFORGE, by_default("device", device="iPhone 14", **IPHONE), "device"),
    (HERMESFORGE, asked(device_scale_factor=2.0), "device_scale_factor"),
    (HERMESFORGE, asked(format=Format.JPEG, quality=80), "quality"),
    (HERMESFORGE, asked(selector="h1"), "selector"),
    (HERMESFORGE, asked(clip=CLIP), "clip"),
    (HERMESFORGE, asked(wait_until=WaitUntil.NETWORKIDLE), "wait_until"),
    (HERMESFORGE, asked(wait_for="h1"), "wait_for"),
    (HERMESFORGE, asked(reduced_motion=True), "reduced_motion"),
    (HERMESFORGE, asked(block_cookie_banners=True), "block_cookie_banners"),
    (HERMESFORGE, asked(hide_selectors=("h1",)), "hide_selectors"),
    (HERMESFORGE, asked(user_agent="x"), "user_agent"),
    (HERMESFORGE, asked(fail_on_status=NO_STATUS), "fail_on_status"),
    (SNAPSHARP, asked(device_scale_factor=3.0), "device_scale_factor"),
    (SNAPSHARP, asked(device_scale_factor=1.5), "device_scale_factor"),
    (SNAPSHARP, asked(width=319), "width"),
    (SNAPSHARP, asked(height=2161), "height"),
    (SNAPSHARP, asked(delay=10_001), "delay"),
    (SNAPSHARP, asked(selector="h1"), "selector"),
    (SNAPSHARP, asked(reduced_motion=True), "reduced_motion"),
    (SNAPSHARP, asked(block_cookie_banners=True), "block_cookie_banners"),
    (SNAPSHARP, asked(locale="de"), "locale"),
    (SNAPSHARP, asked(timezone="Europe/Berlin"), "timezone"),
    (SNAPSHARP, asked(geolocation=BERLIN), "geolocation"),
    (SNAPSHARP, asked(fail_on_status=HALVES), "fail_on_status"),
    (SNAPAPI, asked(width=3841), "width"),
    (SNAPAPI, asked(height=99), "height"),
    (SNAPAPI, asked(delay=30_001), "delay"),
    (SNAPAPI, asked(fail_on_status=(StatusRange(500, 599),)), "fail_on_status"),
    (SNAPAPI, asked(fail_on_status=(StatusRange(300, 599),)), "fail_on_status"),
    (SNAPAPI, asked(device_scale_factor=3.5), "device_scale_factor"),
    (HERMESFORGE, asked(fail_on_status=(StatusRange(400, 599),)), None),
    (HERMESFORGE, asked(block_cookie_banners=False, wait_until=WaitUntil.LOAD), None),
    (SNAPSHARP, by_default(block_cookie_banners=True, locale="de"), None),
    (SNAPSHARP, by_default("device", device="iPhone 14", **IPHONE), None),
]


@pytest.mark.parametrize(
    ("vendor", "request_", "option"),
    UNSUPPORTED,
    ids=[f"{vendor.name}-{option}-{number}" for number, (vendor, _, option) in enumerate(UNSUPPORTED)],
)
def test_what_a_caller_asks_for_and_a_vendor_cannot_express_is_named(
    session: UpstreamSession, vendor: Vendor, request_: CaptureRequest, option: str | None
) -> None:
    provider = RemoteProvider(vendor, session, key=KEY)

    assert provider.unsupported_option(request_) == option


@pytest.mark.parametrize(
    "calls",
    [
        (HERMESFORGE, HERMESFORGE_CALLS),
        (SNAPSHARP, SNAPSHARP_QUERIES | SNAPSHARP_BODIES),
        (SNAPAPI, SNAPAPI_BODIES),
    ],
    ids=["hermesforge", "snapsharp", "snapapi"],
)
def test_nothing_that_is_sent_as_asked_counts_as_unsupported(
    session: UpstreamSession, calls: tuple[Vendor, dict[str, tuple[CaptureRequest, object]]]
) -> None:
    vendor, table = calls
    provider = RemoteProvider(vendor, session, key=KEY)

    assert {
        name: provider.unsupported_option(request) for name, (request, _) in table.items()
    } == dict.fromkeys(table)
