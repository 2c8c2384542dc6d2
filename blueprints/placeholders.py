"""What an ``<img>`` gets where there is no picture: a placeholder, with the honest status."""

from __future__ import annotations

import math

import flask
from flask import Response

from blueprints.answers import PROBLEM_HEADER, SAFETY_HEADERS
from blueprints.errors import log_failure, retry_headers
from blueprints.problems import problem_of_error
from blueprints.services import services
from thumbnailer.errors import ThumbnailerError
from thumbnailer.imaging import Dimensions
from thumbnailer.negotiation import choose_format
from thumbnailer.placeholders import PlaceholderKind
from thumbnailer.renditions import MAX_DPR, MAX_SIDE, MIN_SIDE

#: Who accepts one of these can read a problem document, or shows it to somebody who can.
DOCUMENTS = frozenset({"text/html", "application/json", "application/problem+json"})

#: Of a thumbnail of which only one side was asked for, or none.
USUAL_PROPORTION = 16 / 9
USUAL_WIDTH = 400


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


def placeholder_answer(error: ThumbnailerError) -> Response:
    """A neutral picture of the size asked for; nobody keeps it, and nothing vouches for it."""
    kind = problem_of_error(error)
    log_failure(error, kind)
    wanted = choose_format(flask.request.headers.get("Accept"), has_alpha=True)
    drawn = services().placeholders.placeholder(_size_asked_for(), PlaceholderKind.FAILED, wanted)
    response = Response(drawn.body, status=kind.status, content_type=drawn.content_type)
    response.headers.update(SAFETY_HEADERS)
    response.headers["Cache-Control"] = "no-store"
    response.headers[PROBLEM_HEADER] = kind.slug
    response.headers.update(retry_headers(error, kind))
    response.vary.update(("Accept", "Sec-Fetch-Dest"))
    return response


def _size_asked_for() -> Dimensions:
    """As well as it can be told: the request may be at fault in these very parameters."""
    usual = services().bounds.thumb.options
    width: float | None = _side("thumb_width") or usual.get("thumb_width")
    height: float | None = _side("thumb_height") or usual.get("thumb_height")
    if width is None:
        width = height * USUAL_PROPORTION if height else USUAL_WIDTH
    if height is None:
        height = width / USUAL_PROPORTION
    dpr = min(MAX_DPR, max(1.0, _number("dpr") or 1.0))
    return Dimensions(round(width * dpr), round(height * dpr))


def _side(name: str) -> float | None:
    number = _number(name)
    return number if number is not None and MIN_SIDE <= number <= MAX_SIDE else None


def _number(name: str) -> float | None:
    number = flask.request.args.get(name, type=float)
    return number if number is not None and math.isfinite(number) else None
