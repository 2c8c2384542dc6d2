"""What the three screenshot services accept, written down from their documentation, apart from our adapters.

``play_vendors`` makes an ``Upstream`` answer as they do: a picture of the format asked for, or the error
that they would give to a wrong route, key, name, type or value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tests.support.answers import Answer, Received, image, json_error

Check = Callable[[object], bool]


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _whole(least: int = 0, most: int = 2**31) -> Check:
    return lambda value: type(value) is int and least <= value <= most


def _number(least: float, most: float) -> Check:
    return lambda value: type(value) in (int, float) and least <= value <= most  # type: ignore[operator]  # checked just before


def _one_of(*values: str) -> Check:
    return lambda value: value in values


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_text(item) for item in value)


def _object(**members: Check) -> Check:
    def check(value: object) -> bool:
        return (
            isinstance(value, dict)
            and value.keys() == members.keys()
            and all(holds(value[name]) for name, holds in members.items())
        )

    return check


def _named_texts(value: object) -> bool:
    return isinstance(value, dict) and bool(value) and all(_text(text) for text in value.values())


def _cookies(value: object) -> bool:
    cookie = _object(name=_text, value=_text, domain=_text, path=_one_of("/"))
    return isinstance(value, list) and bool(value) and all(cookie(item) for item in value)


EVENTS = _one_of("load", "domcontentloaded", "networkidle")

HERMESFORGE_PARAMETERS: dict[str, Check] = {
    "url": _text,
    "format": _one_of("png", "jpeg", "webp", "pdf"),
    "width": _whole(1),
    "height": _whole(1),
    "full_page": _flag,
    "delay": _whole(),
    "viewport": _one_of("mobile", "tablet", "desktop"),
    "dark_mode": _flag,
    "block_ads": _flag,
}

SNAPSHARP_PARAMETERS: dict[str, Check] = {
    "url": _text,
    "width": _whole(320, 3840),
    "height": _whole(240, 2160),
    "format": _one_of("png", "jpeg", "webp", "pdf"),
    "quality": _whole(1, 100),
    "full_page": _flag,
    "retina": _flag,
    "delay": _whole(0, 10_000),
    "wait_until": EVENTS,
    "wait_for": _text,
    "css": _text,
    "js": _text,
    "hide_selectors": _text,
    "click": _text,
    "dark_mode": _flag,
    "block_ads": _flag,
    "stealth": _flag,
    "device": _text,
    "clip": _object(x=_whole(), y=_whole(), width=_whole(1), height=_whole(1)),
    "user_agent": _text,
    "headers": _named_texts,
    "cookies": _cookies,
    "proxy": _text,
    "country": _text,
    "cache": _flag,
    "cache_ttl": _whole(),
    "bypass_csp": _flag,
}

#: What SnapSharp takes in a JSON body only.
SNAPSHARP_JSON_ONLY = {"clip", "headers", "cookies", "css", "js"}

SNAPAPI_PARAMETERS: dict[str, Check] = {
    "url": _text,
    "format": _one_of("png", "jpeg", "webp", "avif", "pdf"),
    "quality": _whole(1, 100),
    "responseType": _one_of("binary", "base64", "json"),
    "device": _text,
    "width": _whole(100, 3840),
    "height": _whole(100, 2160),
    "deviceScaleFactor": _number(1, 3),
    "isMobile": _flag,
    "hasTouch": _flag,
    "isLandscape": _flag,
    "fullPage": _flag,
    "selector": _text,
    "clipX": _whole(),
    "clipY": _whole(),
    "clipWidth": _whole(1),
    "clipHeight": _whole(1),
    "delay": _whole(0, 30_000),
    "timeout": _whole(1),
    "waitUntil": EVENTS,
    "waitForSelector": _text,
    "darkMode": _flag,
    "reducedMotion": _flag,
    "css": _text,
    "javascript": _text,
    "hideSelectors": _texts,
    "clickSelector": _text,
    "blockAds": _flag,
    "blockTrackers": _flag,
    "blockCookieBanners": _flag,
    "userAgent": _text,
    "extraHeaders": _named_texts,
    "cookies": _cookies,
    "geolocation": _object(latitude=_number(-90, 90), longitude=_number(-180, 180)),
    "timezone": _text,
    "locale": _text,
    "failOnHttpError": _flag,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a vendor refuses a request."""

    status: int
    code: str
    message: str


def play_vendors(received: Received) -> Answer:
    """Answer as the vendor does whose route and way of calling this is."""
    if received.path == "/api/screenshot":
        fault = _hermesforge_fault(received)
    elif received.path == "/v1/usage" and received.method == "GET":
        return _snapsharp_usage(received)
    elif received.path == "/v1/screenshot" and _is_snapapi(received):
        fault = _snapapi_fault(received)
    elif received.path == "/v1/screenshot":
        fault = _snapsharp_fault(received)
    else:
        fault = Fault(404, "not_found", f"There is nothing at {received.path}.")
    if fault is not None:
        return json_error(fault.status, {"error": fault.code, "message": fault.message})
    parameters = json.loads(received.body) if received.body else received.query
    return image(parameters.get("format", "png"))


def _is_snapapi(received: Received) -> bool:
    return received.header("X-Api-Key") is not None


def _hermesforge_fault(received: Received) -> Fault | None:
    if received.method != "GET" or received.body:
        return Fault(405, "method_not_allowed", "Use GET.")
    return _parameter_fault(HERMESFORGE_PARAMETERS, _typed(received))


def _snapsharp_usage(received: Received) -> Answer:
    if not (received.header("Authorization") or "").startswith("Bearer sk_live_"):
        return json_error(401, {"error": "unauthorized", "message": "The key is missing or wrong."})
    return json_error(200, {"used": 17, "limit": 100})


def _snapsharp_fault(received: Received) -> Fault | None:
    if not (received.header("Authorization") or "").startswith("Bearer sk_live_"):
        return Fault(401, "unauthorized", "The key is missing or wrong.")
    if received.method == "GET":
        parameters = _typed(received)
        if misplaced := parameters.keys() & SNAPSHARP_JSON_ONLY:
            return Fault(400, "validation_error", f"Send {sorted(misplaced)} in a JSON body.")
        return _parameter_fault(SNAPSHARP_PARAMETERS, parameters)
    return _json_fault(received) or _parameter_fault(SNAPSHARP_PARAMETERS, received.json)


def _snapapi_fault(received: Received) -> Fault | None:
    if received.header("Authorization") != f"Bearer {received.header('X-Api-Key')}":
        return Fault(401, "INVALID_API_KEY", "The two headers disagree.")
    return _json_fault(received) or _parameter_fault(SNAPAPI_PARAMETERS, received.json)


def _json_fault(received: Received) -> Fault | None:
    if received.method != "POST" or received.raw_query:
        return Fault(405, "method_not_allowed", "Use POST without a query.")
    if received.header("Content-Type") != "application/json":
        return Fault(415, "unsupported_media_type", "Send JSON.")
    return None


def _parameter_fault(checks: Mapping[str, Check], parameters: Mapping[str, object]) -> Fault | None:
    for name, value in parameters.items():
        if name not in checks or not checks[name](value):
            return Fault(400, "validation_error", f"{name} is unknown or cannot be {value!r}.")
    return None if "url" in parameters else Fault(400, "validation_error", "url is required.")


def _typed(received: Received) -> dict[str, object]:
    """Query values as a vendor reads them: ``true`` and ``false`` in lower case only, numbers by digits."""
    flags: dict[str, object] = {"true": True, "false": False}
    return {
        name: flags.get(value, int(value) if value.isdecimal() else value)
        for name, value in received.query.items()
    }
