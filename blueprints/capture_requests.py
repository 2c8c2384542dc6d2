"""Turns what a caller wrote into a whole ``CaptureRequest``: defaults filled in, the URL normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thumbnailer.devices import DEVICES
from thumbnailer.errors import InvalidParameters, InvalidTarget
from thumbnailer.guard import Guard
from thumbnailer.model import NEUTRAL_OPTIONS, CaptureRequest, Format, WaitUntil

DEFAULT_QUALITY = 80


@dataclass(frozen=True, slots=True)
class RouteDefaults:
    """What a route does where the caller says nothing: ``ttl_seconds`` and options by name."""

    ttl_seconds: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A caller's wish, complete: the capture, and how old it may be in seconds."""

    request: CaptureRequest
    ttl_seconds: int


def complete(given: Mapping[str, Any], usual: RouteDefaults, guard: Guard) -> Asked:
    """Fill in the route's defaults and judge the target by its looks.

    Raises:
        InvalidParameters: the target is malformed, or options do not go together.
        TargetForbidden: the target is none that this service visits.
    """
    try:
        target = guard.parse(given["url"])
    except InvalidTarget as error:
        raise InvalidParameters({"url": [str(error)]}) from None
    options = {**usual.options, **given}
    wanted = {name: options[name] for name in NEUTRAL_OPTIONS if name in options}
    wanted |= _viewport(given, options) | _encoding(given, options)
    if "wait_until" in options:
        wanted["wait_until"] = WaitUntil(options["wait_until"])
    asked = {"device_scale_factor" if name == "retina" else name for name in given}
    request = CaptureRequest(url=target.url, asked=frozenset(asked & NEUTRAL_OPTIONS.keys()), **wanted)
    return Asked(request, options.get("ttl", usual.ttl_seconds))


def _viewport(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The device's viewport, unless the caller wrote another one beside it."""
    viewport: dict[str, Any] = {}
    if options.get("device"):
        preset = DEVICES[options["device"]]
        viewport = {
            "width": preset.width,
            "height": preset.height,
            "device_scale_factor": preset.device_scale_factor,
        }
        viewport |= {name: given[name] for name in viewport if name in given}
    if options.get("retina"):
        viewport["device_scale_factor"] = 2.0
    return viewport


def _encoding(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    chosen = Format(options.get("format", Format.PNG))
    if not chosen.takes_quality and "quality" in given:
        raise InvalidParameters({"quality": [f"Means nothing for {chosen.value}."]})
    quality = options.get("quality", DEFAULT_QUALITY) if chosen.takes_quality else None
    return {"format": chosen, "quality": quality}
