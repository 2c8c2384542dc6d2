"""Turns what SnapSharp's and SnapAPI's clients ask for into the options of this service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from blueprints.vendor_schemas import SNAPAPI_DEVICES
from thumbnailer.errors import InvalidParameters, InvalidTarget
from thumbnailer.guard import Guard
from thumbnailer.model import ERROR_STATUSES, Clip
from thumbnailer.renditions import RenditionFormat

#: The formats that have a quality; for others it means nothing to either API.
LOSSY = frozenset({RenditionFormat.JPEG, RenditionFormat.WEBP, RenditionFormat.AVIF})

#: The viewport that SnapAPI's Python client writes into every call, beside a device as well.
SNAPAPI_VIEWPORT = {"width": 1280, "height": 800}


def snapsharp_options(given: Mapping[str, Any], guard: Guard) -> dict[str, Any]:
    """The options that one of SnapSharp's requests asks for; raises ``InvalidParameters``."""
    options = dict(given)
    if options.get("format", RenditionFormat.PNG) not in LOSSY:
        options.pop("quality", None)
    if not options.pop("cache", True):
        options["fresh"] = True
    if "cookies" in options:
        options["cookies"] = _own_cookies(options["cookies"], options["url"], guard)
    return options


def snapapi_options(given: Mapping[str, Any], guard: Guard) -> dict[str, Any]:
    """The options that one of SnapAPI's requests asks for.

    What concerns the answer is left out: ``response_type`` and ``timeout``.

    Raises:
        InvalidParameters: parameters do not fit each other or the target.
    """
    options = snapsharp_options(given, guard)  # what both have is meant alike
    for name in ("response_type", "timeout", "is_mobile", "has_touch"):
        options.pop(name, None)
    if "device" in options:
        options["device"] = SNAPAPI_DEVICES[options["device"]]
        if SNAPAPI_VIEWPORT.items() <= options.items():
            options = {name: value for name, value in options.items() if name not in SNAPAPI_VIEWPORT}
    sides = [options.pop(name, 0) for name in ("clip_x", "clip_y", "clip_width", "clip_height")]
    if any(sides):
        options["clip"] = Clip(*sides)
    if options.pop("block_trackers", False):
        options["block_ads"] = True
    if options.pop("fail_on_http_error", False):
        options["fail_on_status"] = ERROR_STATUSES
    return options


def _own_cookies(
    cookies: tuple[Mapping[str, str], ...], url: str, guard: Guard
) -> tuple[tuple[str, str], ...]:
    """Cookies by name, all of them the target's own."""
    if any("domain" in cookie for cookie in cookies):
        host = _host_of(url, guard)
        if any(cookie.get("domain", host).lower() != host for cookie in cookies):
            raise InvalidParameters({"cookies": ["Must have the target's host as their domain, or none."]})
    return tuple(sorted((cookie["name"], cookie["value"]) for cookie in cookies))


def _host_of(url: str, guard: Guard) -> str:
    try:
        return guard.parse(url).host
    except InvalidTarget as error:
        raise InvalidParameters({"url": [str(error)]}) from None
