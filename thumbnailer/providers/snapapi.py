"""SnapAPI: POST with camelCase JSON; the key goes in both headers, as its own client sends it.

``failOnHttpError`` is sent on every call, because our default (400-599 are failures) is not the
vendor's to choose; it can express that range whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from thumbnailer.model import Clip, StatusRange
from thumbnailer.providers.vendor import (
    Fault,
    Option,
    Vendor,
    between,
    json_only,
    named,
    read_flat_fault,
    written_cookie,
)

ERRORS = frozenset(range(400, 600))


def _clip(clip: Clip) -> Mapping[str, object]:
    return {"clipX": clip.x, "clipY": clip.y, "clipWidth": clip.width, "clipHeight": clip.height}


def _whole(number: float) -> float:
    return int(number) if float(number).is_integer() else number


def _statuses(ranges: tuple[StatusRange, ...]) -> frozenset[int]:
    return frozenset(status for part in ranges for status in range(part.first, part.last + 1))


def _read_fault(body: Mapping[str, object]) -> Fault:
    """Read either shape: ``{"error": {"code", "message", "details"}}`` or the flat one."""
    error = body.get("error")
    if not isinstance(error, dict):
        return read_flat_fault(body)
    details = error.get("details")
    flat = read_flat_fault({"error": error.get("code"), "message": error.get("message")})
    return Fault(flat.code, flat.message, details.get("retryAfter") if isinstance(details, dict) else None)


SNAPAPI = Vendor(
    name="snapapi",
    base_url="https://api.snapapi.pics",
    path="/v1/screenshot",
    key_headers=lambda key: {"X-Api-Key": key, "Authorization": f"Bearer {key}"},
    sends_json=json_only,
    also_always=frozenset({"fail_on_status"}),
    read_fault=_read_fault,
    reset_headers={402: "X-Quota-Reset", 429: "X-RateLimit-Reset"},
    options={
        "width": named("width", accepts=between(100, 3840)),
        "height": named("height", accepts=between(100, 2160)),
        "device_scale_factor": Option(
            lambda factor: {"deviceScaleFactor": _whole(factor)}, accepts=between(1, 3)
        ),
        "device": named("device"),
        "format": named("format"),
        "quality": named("quality", accepts=between(1, 100)),
        "full_page": named("fullPage"),
        "selector": named("selector"),
        "clip": Option(_clip),
        "delay": named("delay", accepts=between(0, 30_000)),
        "wait_until": named("waitUntil"),
        "wait_for": named("waitForSelector"),
        "dark_mode": named("darkMode"),
        "reduced_motion": named("reducedMotion"),
        "block_ads": named("blockAds"),
        "block_cookie_banners": named("blockCookieBanners"),
        "hide_selectors": Option(lambda selectors: {"hideSelectors": list(selectors)}),
        "user_agent": named("userAgent"),
        "locale": named("locale"),
        "timezone": named("timezone"),
        "geolocation": Option(lambda place: {"geolocation": asdict(place)}),
        "css": named("css"),
        "js": named("javascript"),
        "headers": Option(lambda headers: {"extraHeaders": dict(headers)}),
        "cookies": Option(lambda cookies: {"cookies": [written_cookie(cookie) for cookie in cookies]}),
        "fail_on_status": Option(
            lambda ranges: {"failOnHttpError": bool(ranges)},
            accepts=lambda ranges: _statuses(ranges) in (frozenset(), ERRORS),
        ),
    },
)
