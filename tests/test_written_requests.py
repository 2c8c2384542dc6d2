"""Requests survive being written down."""

from __future__ import annotations

import json
from dataclasses import fields

import pytest

from thumbnailer.model import (
    CaptureRequest,
    Clip,
    Cookie,
    Format,
    Geolocation,
    StatusRange,
    WaitUntil,
    capture_key,
)
from thumbnailer.renditions import Fit, Rendition, RenditionFormat
from thumbnailer.thumbnails import ThumbnailRequest
from thumbnailer.written_requests import read_request, write_request

PLAIN = CaptureRequest(url="https://example.com/")
EVERYTHING = CaptureRequest(
    url="https://example.com/?q=ä%20&b",
    width=800,
    height=600,
    device_scale_factor=2.5,
    device="Pixel 7",
    format=Format.WEBP,
    quality=70,
    full_page=True,
    selector="#a > b",
    clip=Clip(1, 2, 3, 4),
    delay=100,
    wait_until=WaitUntil.NETWORKIDLE,
    wait_for=".ready",
    dark_mode=True,
    reduced_motion=True,
    block_ads=True,
    block_cookie_banners=True,
    hide_selectors=("a", "b"),
    user_agent="Someone",
    locale="de-AT",
    timezone="Europe/Vienna",
    geolocation=Geolocation(48.2, 16.4),
    fail_on_status=(StatusRange(404, 404), StatusRange(500, 599)),
    css="body { color: red }",
    js="scrollTo(0, 0)\n",
    headers=(("authorization", "Bearer a"), ("x-b", "c")),
    cookies=(Cookie("a", "b", "example.com"),),
    partition="key:abc",
    asked=frozenset({"width", "selector"}),
)
RENDITION = Rendition(
    format=RenditionFormat.AVIF, quality=50, thumb_width=400, thumb_height=300, fit=Fit.COVER, dpr=2.0
)


@pytest.mark.parametrize(
    "request_",
    [
        ThumbnailRequest(PLAIN),
        ThumbnailRequest(EVERYTHING),
        ThumbnailRequest(PLAIN, RENDITION),
        ThumbnailRequest(EVERYTHING, Rendition(format=RenditionFormat.PNG)),
    ],
    ids=["plain", "every option", "rendition", "both"],
)
def test_a_request_is_read_as_it_was_written(request_: ThumbnailRequest) -> None:
    read = read_request(write_request(request_))
    assert read == request_
    assert read.key == request_.key
    assert read.capture.asked == request_.capture.asked


def test_every_option_is_tried_above() -> None:
    untried = [
        option.name
        for option in fields(CaptureRequest)
        if getattr(EVERYTHING, option.name) == getattr(PLAIN, option.name)
    ]
    assert untried == []


def test_options_that_came_later_have_their_usual_value() -> None:
    written = json.loads(write_request(ThumbnailRequest(PLAIN)))
    del written["capture"]["dark_mode"]
    assert capture_key(read_request(json.dumps(written)).capture) == capture_key(PLAIN)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"capture": {}, "rendition": null}',
        '{"capture": {"url": "https://example.com/", "future": 1}, "rendition": null}',
        '{"capture": {"url": "https://example.com/", "format": "bmp"}, "rendition": null}',
        '{"capture": {"url": "https://example.com/", "clip": [1]}, "rendition": null}',
        '{"capture": null, "rendition": null}',
    ],
)
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"request|JSON|Expecting|valid"):
        read_request(text)
