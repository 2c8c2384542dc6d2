"""What is answered where there is no picture: to an ``<img>`` a placeholder, with the honest status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import flask
from flask import Response

from blueprints.answers import PROBLEM_HEADER, SAFETY_HEADERS
from blueprints.error_problems import problem_of_error
from blueprints.errors import TURNED_AWAY, log_failure, retry_headers
from blueprints.request_log import note, request_id
from blueprints.services import services
from thumbnailer.errors import ThumbnailerError
from thumbnailer.imaging import Dimensions
from thumbnailer.negotiation import choose_format
from thumbnailer.placeholders import PlaceholderKind
from thumbnailer.renditions import MAX_DPR, MAX_SIDE, MIN_SIDE

#: Who accepts one of these can read a problem document, or shows it to somebody who can.
DOCUMENTS = frozenset({"text/html", "application/json", "application/problem+json"})

#: What ``wants_placeholder`` and ``choose_format`` look at.
NEGOTIATED_BY = ("Accept", "Sec-Fetch-Dest")

#: Of a thumbnail of which no side was asked for.
USUAL_WIDTH = 400

USUAL_VIEWPORT = {"width": 1280, "height": 720}
#: The longest side of a viewport.
MAX_VIEWPORT_SIDE = 3840

#: When it is worth asking again for a picture that is being made; most take a few seconds.
PENDING_SECONDS = 2


def wants_placeholder() -> bool:
    """Whether the current request comes from something that shows pictures and nothing else.

    ``on_error`` says so, or else ``Sec-Fetch-Dest`` (W3C Fetch Metadata), or, from browsers that do not
    send it, an ``Accept`` that names images and neither HTML nor JSON.
    """
    asked = flask.request.args.get("on_error")
    if asked in ("placeholder", "status"):
        return asked == "placeholder"
    destination = flask.request.headers.get("Sec-Fetch-Dest")
    if destination is not None:
        return destination == "image"
    accepted = [media_type for media_type, _quality in flask.request.accept_mimetypes]
    return DOCUMENTS.isdisjoint(accepted) and any(one.startswith("image/") for one in accepted)


def placeholder_answer(
    error: ThumbnailerError,
    asked: Mapping[str, Any] | None = None,
    shown: PlaceholderKind | None = None,
) -> Response:
    """For a picture that cannot be made, or not now; ``asked`` is what was asked for, else the query."""
    kind = problem_of_error(error)
    log_failure(error, kind)
    response = _drawn(shown or _kind_of(error), kind.status, flask.request.args if asked is None else asked)
    response.headers[PROBLEM_HEADER] = kind.slug
    response.headers.update(retry_headers(error, kind))
    return response


def pending_answer() -> Response:
    """For a picture that is being made: 202 (RFC 9110, section 15.3.3), and when to ask again.

    A program gets the same in JSON.
    """
    if wants_placeholder():
        response = _drawn(PlaceholderKind.PENDING, 202, flask.request.args)
    else:
        response = flask.jsonify(
            status="pending",
            detail=f"The picture is being made. Ask again in {PENDING_SECONDS} seconds.",
            retry_after_seconds=PENDING_SECONDS,
            request_id=request_id(),
        )
        response.status_code = 202
        _keep_from_caches(response)
    response.headers["Retry-After"] = str(PENDING_SECONDS)
    response.headers["X-Cache"] = "MISS"
    response.headers["Cache-Status"] = "thumbnailer; fwd=miss; detail=pending"
    note(cache="pending")
    return response


def _kind_of(error: ThumbnailerError) -> PlaceholderKind:
    """Nobody has tried the page of a caller who was turned away: it must not look as if it were broken."""
    return PlaceholderKind.PENDING if isinstance(error, TURNED_AWAY) else PlaceholderKind.FAILED


def _drawn(kind: PlaceholderKind, status: int, asked: Mapping[str, Any]) -> Response:
    """A neutral picture of the size asked for; nobody keeps it, and nothing vouches for it."""
    wanted = choose_format(flask.request.headers.get("Accept"), has_alpha=True)
    drawn = services().placeholders.placeholder(_size_asked_for(asked), kind, wanted)
    response = Response(drawn.body, status=status, content_type=drawn.content_type)
    response.headers.update(SAFETY_HEADERS)
    _keep_from_caches(response)
    return response


def _keep_from_caches(response: Response) -> None:
    response.headers["Cache-Control"] = "no-store"
    response.vary.update(NEGOTIATED_BY)


def _size_asked_for(asked: Mapping[str, Any]) -> Dimensions:
    """As well as it can be told: the request may be at fault in these very parameters."""
    preset = services().presets.get(asked.get("preset", ""), {})
    usual = {**services().bounds.thumb.options, **preset}
    proportion = _viewport_side(asked, "width", usual) / _viewport_side(asked, "height", usual)
    width: float | None = _side(asked, "thumb_width") or usual.get("thumb_width")
    height: float | None = _side(asked, "thumb_height") or usual.get("thumb_height")
    if width is None:
        width = min(MAX_SIDE, max(MIN_SIDE, height * proportion)) if height else USUAL_WIDTH
    if height is None:
        height = min(MAX_SIDE, max(MIN_SIDE, width / proportion))
    dpr = min(MAX_DPR, max(1.0, _number(asked, "dpr") or 1.0))
    return Dimensions(round(width * dpr), round(height * dpr))


def _viewport_side(asked: Mapping[str, Any], name: str, usual: Mapping[str, Any]) -> float:
    number = _number(asked, name)
    if number is not None and MIN_SIDE <= number <= MAX_VIEWPORT_SIDE:
        return number
    return float(usual.get(name) or USUAL_VIEWPORT[name])


def _side(asked: Mapping[str, Any], name: str) -> float | None:
    number = _number(asked, name)
    return number if number is not None and MIN_SIDE <= number <= MAX_SIDE else None


def _number(asked: Mapping[str, Any], name: str) -> float | None:
    with suppress(KeyError, ValueError):
        number = float(asked[name])
        return number if math.isfinite(number) else None
    return None
