"""The hermesforge API, spoken by this service: programs written for it only change their base URL.

Its wire protocol names the parameters, the defaults and the shape of an error. What it does not
settle is answered as by this service's own routes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import flask
from flask import Response, jsonify
from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from blueprints.errors import log_failure, retry_headers
from blueprints.openapi import CAPTURE_PROBLEMS, PICTURE_TYPES, StrictBlueprint, answers_not_modified
from blueprints.pictures import answer_picture, answer_stream, deliver, hermesforge_door
from blueprints.problems import problem_of_error
from blueprints.request_log import note, request_id
from blueprints.schemas import IMAGE_PIXELS, CaptureOptions, described
from blueprints.services import public_url
from thumbnailer.errors import ThumbnailerError
from thumbnailer.pipeline import CacheStatus

blueprint = StrictBlueprint("hermesforge", __name__, description="The hermesforge API.")

#: Width and height in CSS pixels of the presets that stand in for both.
VIEWPORTS = {"mobile": (375, 812), "tablet": (768, 1024), "desktop": (1280, 800)}


class HermesforgeOptions(CaptureOptions):
    """hermesforge's parameters, and every option of this service beside them."""

    viewport = fields.String(
        validate=validate.OneOf(sorted(VIEWPORTS)),
        metadata=described("A preset instead of width and height: mobile, tablet or desktop."),
    )

    @validates_schema(skip_on_field_errors=True)
    def refuse_two_viewports(self, given: dict[str, object], **_more: object) -> None:
        rivals = {"width", "height", "device"} & given.keys()
        if "viewport" in given and rivals:
            raise ValidationError({"viewport": [f"Cannot be combined with {', '.join(sorted(rivals))}."]})


class HermesforgeAnswer(Schema):
    """What ``POST /api/screenshots`` answers."""

    success = fields.Boolean(required=True, metadata=described("Always true here."))
    url = fields.String(required=True, metadata=described("The target, normalised.", format="uri"))
    image_url = fields.String(required=True, metadata=described("Where the picture is.", format="uri"))
    content_type = fields.String(required=True, metadata=described("The media type of the bytes."))
    size_bytes = fields.Integer(required=True, metadata=described("The number of bytes."))
    width = fields.Integer(required=True, allow_none=True, metadata=IMAGE_PIXELS)
    height = fields.Integer(required=True, allow_none=True, metadata=IMAGE_PIXELS)
    cached = fields.Boolean(required=True, metadata=described("Whether the cache had it."))
    captured_at = fields.String(
        required=True, metadata=described("When the picture was taken.", format="date-time")
    )


class HermesforgeError(Schema):
    """How hermesforge tells of an error."""

    success = fields.Boolean(required=True, metadata=described("Always false."))
    error = fields.String(required=True, metadata=described("What kind of error: the slug of a problem."))
    message = fields.String(required=True, metadata=described("What is wrong with this request."))
    request_id = fields.String(required=True, metadata=described("Names this request in the logs."))


def _answers_errors(view: Callable[..., Any]) -> Callable[..., Any]:
    for status in CAPTURE_PROBLEMS:
        view = blueprint.alt_response(status, schema=HermesforgeError, description="An error.")(view)
    return view


def _answers_pictures(view: Callable[..., Any]) -> Callable[..., Any]:
    return _answers_errors(answers_not_modified(blueprint, PICTURE_TYPES)(view))


@blueprint.get("/api/screenshot")
@blueprint.arguments(HermesforgeOptions, location="query")
@_answers_pictures
def hermesforge_screenshot(given: dict[str, Any]) -> Response:
    """The capture of a page."""
    return answer_picture(_own_options(given), hermesforge_door())


@blueprint.get("/api/screenshot/cached")
@blueprint.arguments(HermesforgeOptions, location="query")
@_answers_pictures
def hermesforge_screenshot_cached(given: dict[str, Any]) -> Response:
    """The same: every capture of this service is cached."""
    return answer_picture(_own_options(given), hermesforge_door())


@blueprint.get("/api/screenshot/stream")
@blueprint.arguments(HermesforgeOptions, location="query")
@_answers_pictures
def hermesforge_screenshot_stream(given: dict[str, Any]) -> Response:
    """The capture of a page, passed on as it arrives."""
    return answer_stream(_own_options(given), hermesforge_door())


@blueprint.post("/api/screenshots")
@blueprint.arguments(HermesforgeOptions, location="json")
@blueprint.response(200, HermesforgeAnswer)
@_answers_errors
def hermesforge_screenshots(given: dict[str, Any]) -> Response:
    """Take a capture and describe it; the picture itself is at image_url."""
    spelled = flask.request.get_json()
    asked, delivery = deliver(_own_options(given), hermesforge_door())
    record = delivery.capture.record
    note(cache=delivery.cache_status.value, bytes=record.size_bytes, provider=record.provider)
    response = jsonify(
        success=True,
        url=asked.request.url,
        image_url=_image_url(spelled),
        content_type=record.content_type,
        size_bytes=record.size_bytes,
        width=record.width,
        height=record.height,
        cached=delivery.cache_status is CacheStatus.HIT,
        captured_at=datetime.fromtimestamp(record.captured_at, UTC).isoformat(),
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.errorhandler(ThumbnailerError)
def hermesforge_error(error: ThumbnailerError) -> Response:
    """Tell of a failure the way hermesforge does."""
    kind = problem_of_error(error)
    log_failure(error, kind)
    response = jsonify(success=False, error=kind.slug, message=str(error), request_id=request_id())
    response.status_code = kind.status
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(retry_headers(error, kind))
    return response


def _own_options(given: dict[str, Any]) -> dict[str, Any]:
    if "viewport" in given:
        given["width"], given["height"] = VIEWPORTS[given.pop("viewport")]
    return given


def _image_url(spelled: Mapping[str, Any]) -> str:
    """The GET that answers the same picture from the cache."""
    texts = {name: _text(value) for name, value in spelled.items()}
    return public_url(flask.url_for("hermesforge.hermesforge_screenshot") + "?" + urlencode(texts))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(str(part) for part in value)
    return str(value)
