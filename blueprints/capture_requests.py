"""Turns what a caller wrote into a whole ``CaptureRequest``: defaults filled in, the URL normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from thumbnailer.devices import DEVICES
from thumbnailer.errors import InvalidParameters, InvalidTarget
from thumbnailer.guard import Guard
from thumbnailer.model import DEFAULT_QUALITY, NEUTRAL_OPTIONS, CaptureRequest, Cookie, Format, WaitUntil
from thumbnailer.negotiation import choose_format
from thumbnailer.renditions import Fit, Rendition, RenditionFormat
from thumbnailer.thumbnails import ThumbnailRequest

#: ``fresh=true`` wants a capture that is not older than this: so a target is photographed again at
#: most once a minute, however often it is asked for.
FRESH_SECONDS = 60

#: What means nothing without a size, in the values that want nothing.
UNSIZED = {"dpr": 1, "fit": Fit.INSIDE}

#: What of the page is shown: one of these at most.
AREAS = frozenset({"full_page", "selector", "clip"})

#: ``format=auto``: by the caller's Accept header.
AUTO = "auto"

#: How the capture is encoded that renditions are made of: without loss, one for all of them.
MASTER = {"format": Format.PNG, "quality": None}


@dataclass(frozen=True, slots=True)
class RouteDefaults:
    """What a route does where the caller says nothing: ``ttl_seconds`` and options by name."""

    ttl_seconds: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """A caller's wish, complete: the picture, and how old it may usually be, in seconds.

    ``varies_by_accept`` says that another ``Accept`` header might have made it another picture;
    ``download`` is the name to save it under, where the caller wants to save it. ``is_fresh`` asks for a
    new picture.
    """

    request: ThumbnailRequest
    ttl_seconds: int
    varies_by_accept: bool
    download: str | None = None
    is_fresh: bool = False

    @property
    def max_age_seconds(self) -> int:
        """The age of the oldest picture that will do."""
        return min(self.ttl_seconds, FRESH_SECONDS) if self.is_fresh else self.ttl_seconds


def refuse_ttl(ttl_seconds: int | None, least: int, most: int) -> None:
    """Raise ``InvalidParameters`` where somebody asks for a ``ttl`` outside of the operator's bounds."""
    if ttl_seconds is not None and not least <= ttl_seconds <= most:
        raise InvalidParameters({"ttl": [f"Must be from {least} to {most} seconds here."]})


def complete(given: Mapping[str, Any], usual: RouteDefaults, guard: Guard, accept: str | None) -> Asked:
    """Fill in the route's defaults and judge the target by its looks.

    ``accept`` is the caller's header of that name; it counts for ``format=auto`` only.

    Raises:
        InvalidParameters: the target is malformed, or options do not go together.
        TargetForbidden: the target is none that this service visits.
    """
    try:
        target = guard.parse(given["url"])
    except InvalidTarget as error:
        raise InvalidParameters({"url": [str(error)]}) from None
    options = overlay(usual.options, given)
    wanted = {name: options[name] for name in NEUTRAL_OPTIONS if name in options}
    rendition = _rendition(given, options, accept)
    wanted |= _viewport(given, options) | (MASTER if rendition else _encoding(given, options))
    if "wait_until" in options:
        wanted["wait_until"] = WaitUntil(options["wait_until"])
    if "cookies" in options:
        wanted["cookies"] = tuple(Cookie(name, text, target.host) for name, text in options["cookies"])
    asked = {"device_scale_factor" if name == "retina" else name for name in given}
    if rendition:
        asked -= MASTER.keys()
    capture = CaptureRequest(url=target.url, asked=frozenset(asked & NEUTRAL_OPTIONS.keys()), **wanted)
    ttl_seconds = options.get("ttl", usual.ttl_seconds)
    is_auto = options.get("format") == AUTO
    return Asked(
        ThumbnailRequest(capture, rendition),
        ttl_seconds,
        is_auto,
        given.get("download"),
        given.get("fresh", False),
    )


def overlay(options: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """``options`` as far as they do not contradict what stands ``above`` them, and that."""
    is_cut = any(above.get(name) for name in AREAS)
    left = {name: value for name, value in options.items() if not (is_cut and name in AREAS)}
    return {**left, **above}


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
    if options.get("retina") and ("retina" in given or "device_scale_factor" not in given):
        viewport["device_scale_factor"] = 2.0
    return viewport


def _rendition(given: Mapping[str, Any], options: Mapping[str, Any], accept: str | None) -> Rendition | None:
    """What is rendered here: sizes, and formats that no provider is asked for."""
    width, height = options.get("thumb_width"), options.get("thumb_height")
    wanted = options.get("format", Format.PNG)
    if width is None and height is None:
        pointless = sorted(name for name, neutral in UNSIZED.items() if given.get(name, neutral) != neutral)
        if pointless:
            raise InvalidParameters({name: ["Needs thumb_width or thumb_height."] for name in pointless})
        if wanted not in (AUTO, RenditionFormat.AVIF):
            return None
    if wanted == Format.PDF:
        raise InvalidParameters({"format": ["A PDF has no thumbnail."]})
    encoded = choose_format(accept, has_alpha=False) if wanted == AUTO else RenditionFormat(wanted)
    if "quality" in given and wanted == RenditionFormat.PNG:
        raise InvalidParameters({"quality": ["Means nothing for png."]})
    return Rendition(
        format=encoded,
        quality=options.get("quality"),
        thumb_width=width,
        thumb_height=height,
        fit=Fit(options.get("fit", Fit.INSIDE)),
        dpr=options.get("dpr", 1.0),
    )


def _encoding(given: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    chosen = Format(options.get("format", Format.PNG))
    if not chosen.takes_quality and "quality" in given:
        raise InvalidParameters({"quality": [f"Means nothing for {chosen.value}."]})
    quality = options.get("quality", DEFAULT_QUALITY) if chosen.takes_quality else None
    return {"format": chosen, "quality": quality}
