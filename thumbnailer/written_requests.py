"""A request for a thumbnail as text, for those who take it later or elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from typing import Any

from thumbnailer.model import CaptureRequest, Clip, Cookie, Format, Geolocation, StatusRange, WaitUntil
from thumbnailer.renditions import Fit, Rendition, RenditionFormat
from thumbnailer.thumbnails import ThumbnailRequest

#: What JSON turns into something else, and how it becomes what it was.
_CAPTURE_TYPES: Mapping[str, Callable[[Any], object]] = {
    "format": Format,
    "wait_until": WaitUntil,
    "clip": lambda written: Clip(**written),
    "geolocation": lambda written: Geolocation(**written),
    "hide_selectors": tuple,
    "headers": lambda written: tuple((name, value) for name, value in written),
    "cookies": lambda written: tuple(Cookie(**each) for each in written),
    "fail_on_status": lambda written: tuple(StatusRange(**each) for each in written),
    "asked": frozenset,
}
_RENDITION_TYPES: Mapping[str, Callable[[Any], object]] = {"format": RenditionFormat, "fit": Fit}


def write_request(request: ThumbnailRequest) -> str:
    """``request`` as JSON text for ``read_request``."""
    written = {
        "capture": {**asdict(request.capture), "asked": sorted(request.capture.asked)},
        "rendition": asdict(request.rendition) if request.rendition else None,
    }
    return json.dumps(written, separators=(",", ":"), sort_keys=True)


def read_request(text: str) -> ThumbnailRequest:
    """What ``write_request`` was given, be it by an older version of this service.

    Options that were not there yet have their usual value.

    Raises:
        ValueError: the text is no request, or one with options that this version does not know.
    """
    try:
        written = json.loads(text)
        capture = CaptureRequest(**_typed(written["capture"], _CAPTURE_TYPES, CaptureRequest))
        rendition = written["rendition"]
        return ThumbnailRequest(
            capture, Rendition(**_typed(rendition, _RENDITION_TYPES, Rendition)) if rendition else None
        )
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError("this is no request for a thumbnail") from error


def _typed(
    written: Mapping[str, Any], types: Mapping[str, Callable[[Any], object]], kind: type[Any]
) -> dict[str, Any]:
    known = {field.name for field in fields(kind)}
    if not written.keys() <= known:
        raise ValueError("the request has options that this version does not know")
    return {
        name: types[name](value) if name in types and value is not None else value
        for name, value in written.items()
    }
