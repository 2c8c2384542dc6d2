"""The hermesforge API, spoken by this service: programs written for it only change their base URL.

Its wire protocol names the parameters, the defaults and the shape of an error. What it does not
settle is answered as by this service's own routes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

import flask
from flask import Response, jsonify
from marshmallow import Schema, ValidationError, fields, validate, validates_schema
from werkzeug.exceptions import HTTPException

from blueprints.access import RENDER, needs
from blueprints.answer_fields import flag, moment, pixels, text, whole_number
from blueprints.documented_headers import CAPTURE_CHARGE_HEADERS, problem_headers
from blueprints.error_problems import PAGE_FAULTS, SLUG_OF_ERROR, problem_of_error, problem_of_status
from blueprints.errors import (
    detail_of_status,
    in_words,
    log_bug,
    log_failure,
    refusal_headers,
    retry_headers,
)
from blueprints.fields import WholeNumber
from blueprints.openapi import (
    BODY_PROBLEMS,
    PICTURE_PROBLEMS,
    PICTURE_TYPES,
    answers_pictures_to_get,
    problems_by_status,
)
from blueprints.parsing import spell_for_query
from blueprints.pictures import answer_picture, answer_stream, deliver, hermesforge_door
from blueprints.problems import ProblemType
from blueprints.request_log import note, request_id
from blueprints.schemas import (
    ALL_FORMATS,
    SELECTORS_IN_QUERY,
    VIEWPORT_HEIGHT,
    CaptureOptions,
    described,
)
from blueprints.services import public_url
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.errors import ThumbnailerError
from thumbnailer.terms import CacheStatus

blueprint = StrictBlueprint("hermesforge", __name__, description="The hermesforge API.")

#: What every address of hermesforge begins with.
ROOT = "/api/"

#: Width and height in CSS pixels of the presets that stand in for both.
VIEWPORTS = {"mobile": (375, 812), "tablet": (768, 1024), "desktop": (1280, 800)}


class HermesforgeOptions(CaptureOptions):
    """hermesforge's parameters, and every option of this service beside them."""

    height = WholeNumber(
        validate=VIEWPORT_HEIGHT,
        metadata=described("Viewport height in CSS pixels.", default=800),
    )
    format = fields.String(
        validate=validate.OneOf(ALL_FORMATS),
        metadata=described("How the answer is encoded.", default="webp"),
    )
    hide_selectors = SELECTORS_IN_QUERY  # in JSON as well: ``image_url`` is a query for the same picture
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

    success = flag("Always true here.")
    url = text("The target, normalised.", format="uri")
    image_url = text("Where the picture is.", format="uri")
    content_type = text("The media type of the bytes.")
    size_bytes = whole_number("The number of bytes.")
    width = pixels()
    height = pixels()
    cached = flag("Whether the cache had it.")
    captured_at = moment("When the picture was taken.")


class HermesforgeError(Schema):
    """How hermesforge tells of an error."""

    success = flag("Always false.")
    error = text("What kind of error: the slug of a problem.")
    message = text("What is wrong with this request.")
    request_id = text("Names this request in the logs.")


def _answers_errors(slugs: Iterable[str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    possible = {status: {kind.slug for kind in kinds} for status, kinds in problems_by_status(slugs)}
    possible[422].update(problem_of_error(fault("")).slug for fault in PAGE_FAULTS)
    possible[502] -= {slug for error, slug in SLUG_OF_ERROR if error in PAGE_FAULTS}  # 422 whatever it is

    def decorate(view: Callable[..., Any]) -> Callable[..., Any]:
        for status, found in possible.items():
            view = blueprint.alt_response(
                status,
                schema=HermesforgeError,
                description=f"An error: {', '.join(sorted(found))}.",
                headers=problem_headers(status),
            )(view)
        return view

    return decorate


def _answers_pictures(view: Callable[..., Any]) -> Callable[..., Any]:
    return answers_pictures_to_get(blueprint, PICTURE_TYPES)(_answers_errors(PICTURE_PROBLEMS)(view))


@blueprint.get("/api/screenshot")
@needs(RENDER)
@blueprint.arguments(HermesforgeOptions(), location="query")
@_answers_pictures
def hermesforge_screenshot(given: dict[str, Any]) -> Response:
    """The capture of a page, as hermesforge answers it.

    All options of this service that a query can hold work as well.
    """
    return answer_picture(_own_options(given), hermesforge_door())


@blueprint.get("/api/screenshot/cached")
@needs(RENDER)
@blueprint.arguments(HermesforgeOptions(), location="query")
@_answers_pictures
def hermesforge_screenshot_cached(given: dict[str, Any]) -> Response:
    """The same as /api/screenshot: every capture of this service is cached."""
    return answer_picture(_own_options(given), hermesforge_door())


@blueprint.get("/api/screenshot/stream")
@needs(RENDER)
@blueprint.arguments(HermesforgeOptions(), location="query")
@_answers_pictures
def hermesforge_screenshot_stream(given: dict[str, Any]) -> Response:
    """The capture of a page, passed on as it arrives, as on /screenshot/stream."""
    return answer_stream(_own_options(given), hermesforge_door())


@blueprint.post("/api/screenshots")
@needs(RENDER)
@blueprint.arguments(
    HermesforgeOptions(), location="json", example={"url": "https://example.com/", "viewport": "mobile"}
)
@blueprint.response(
    200, HermesforgeAnswer, description="What the picture is, and where.", headers=CAPTURE_CHARGE_HEADERS
)
@_answers_errors(BODY_PROBLEMS)
def hermesforge_screenshots(given: dict[str, Any]) -> Response:
    """Take a capture and describe it; the picture itself is at image_url."""
    spelled = flask.request.get_json()
    asked, delivery = deliver(_own_options(given), hermesforge_door())
    record = delivery.capture.record
    note(cache=delivery.cache_status.value, bytes=record.size_bytes, provider=record.provider)
    response = jsonify(
        success=True,
        url=asked.request.capture.url,
        image_url=_image_url(spelled),
        content_type=record.content_type,
        size_bytes=record.size_bytes,
        width=record.width,
        height=record.height,
        cached=delivery.cache_status in (CacheStatus.HIT, CacheStatus.STALE),
        captured_at=datetime.fromtimestamp(record.captured_at, UTC).isoformat(),
    )
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.errorhandler(ThumbnailerError)
def hermesforge_failure(error: ThumbnailerError) -> Response:
    """A failure that the service knows, told the way hermesforge does."""
    kind = problem_of_error(error)
    log_failure(error, kind)
    return _error(kind, in_words(error), retry_headers(error, kind), status=_status_of(error, kind))


def _status_of(error: ThumbnailerError, kind: ProblemType) -> int:
    """The problem's own, unless clients would blame this service (5xx) for a page."""
    return 422 if isinstance(error, PAGE_FAULTS) else kind.status


@blueprint.errorhandler(HTTPException)
def hermesforge_refusal(error: HTTPException) -> Response:
    """What Flask refuses, a body that is too large for instance, told the same way."""
    status = error.code or 500
    kind = problem_of_status(status)
    note(problem=kind.slug)
    return _error(kind, detail_of_status(status), refusal_headers(error), status=status)


@blueprint.errorhandler(Exception)
def hermesforge_bug(error: Exception) -> Response:
    """What nobody foresaw, told the same way."""
    kind = log_bug(error)
    return _error(kind, kind.explanation)


def _error(
    kind: ProblemType,
    message: str,
    headers: Mapping[str, str] = MappingProxyType({}),
    *,
    status: int | None = None,
) -> Response:
    response = jsonify(success=False, error=kind.slug, message=message, request_id=request_id())
    response.status_code = status or kind.status
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(dict(headers))
    return response


def _own_options(given: dict[str, Any]) -> dict[str, Any]:
    if "viewport" in given:
        given["width"], given["height"] = VIEWPORTS[given.pop("viewport")]
    return given


def _image_url(spelled: Mapping[str, Any]) -> str:
    """The GET that answers the same picture from the cache, so without ``fresh``."""
    texts = {name: spell_for_query(value) for name, value in spelled.items() if name != "fresh"}
    return public_url(flask.url_for("hermesforge.hermesforge_screenshot") + "?" + urlencode(texts))
