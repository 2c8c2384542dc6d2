"""The APIs of SnapSharp and SnapAPI, spoken by this service: their programs only change their base URL.

Both have ``/v1/screenshot``. A ``GET`` is SnapSharp's. A ``POST`` is told apart by the names in its body, and
where those belong to both, by the headers that give the key.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import flask
from flask import Response, jsonify
from werkzeug.exceptions import HTTPException

from blueprints.access import ACCESS_KEY, RENDER, RENDER_BY_ACCESS_KEY, needs
from blueprints.capture_requests import Asked
from blueprints.documented_headers import CAPTURE_HEADERS
from blueprints.openapi import (
    BODY_PROBLEMS,
    PICTURE_PROBLEMS,
    PICTURE_TYPES,
    PLAIN_TEXT,
    answers_pictures,
    answers_pictures_to_get,
)
from blueprints.parsing import load, refuse_query
from blueprints.pictures import (
    answer_delivery,
    answer_picture,
    deliver,
    deliver_within,
    snapapi_door,
    snapsharp_door,
)
from blueprints.request_log import elapsed_seconds, note
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint
from blueprints.vendor_answers import RATE_HEADERS, SnapApiPicture, SnapSharpError, answers_vendor_errors
from blueprints.vendor_errors import (
    SNAPAPI,
    SNAPSHARP,
    speak,
    spell,
    spoken,
    vendor_bug,
    vendor_failure,
    vendor_refusal,
)
from blueprints.vendor_options import snapapi_options, snapsharp_options
from blueprints.vendor_schemas import (
    ONLY_SNAPAPI,
    ONLY_SNAPSHARP,
    SNAPAPI_BODY,
    SNAPSHARP_BODY,
    SnapApiBody,
    SnapSharpBody,
    SnapSharpQuery,
)
from thumbnailer.errors import InvalidParameters, ThumbnailerError, UpstreamTimeout
from thumbnailer.terms import CacheStatus, Delivery

blueprint = StrictBlueprint("vendors", __name__, description="The APIs of SnapSharp and SnapAPI.")

blueprint.register_error_handler(ThumbnailerError, vendor_failure)
blueprint.register_error_handler(HTTPException, vendor_refusal)
blueprint.register_error_handler(Exception, vendor_bug)

TEXT = "text/plain; charset=utf-8"

SNAPSHARP_TYPES = tuple(each for each in PICTURE_TYPES if each != "image/avif")

IN_OTHER_SHAPES = "The picture; with responseType of SnapAPI described in JSON, or in base64."

#: One body or the other, as the document says it.
EITHER_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"anyOf": [SnapApiBody, SnapSharpBody]},
            "examples": {
                "SnapAPI": {"value": {"url": "https://example.com/", "fullPage": True}},
                "SnapSharp": {"value": {"url": "https://example.com/", "full_page": True}},
            },
        }
    },
}


@blueprint.get("/v1/screenshot")
@needs(RENDER)
@blueprint.arguments(SnapSharpQuery(), location="query")
@answers_pictures_to_get(blueprint, SNAPSHARP_TYPES, {**CAPTURE_HEADERS, **RATE_HEADERS})
@answers_vendor_errors(blueprint, PICTURE_PROBLEMS, SnapSharpError)
def vendor_screenshot(given: dict[str, Any]) -> Response:
    """The capture of a page, as SnapSharp answers it."""
    return _snapsharp_answer(given)


@blueprint.post("/v1/screenshot")
@needs(RENDER_BY_ACCESS_KEY)
@blueprint.doc(requestBody=EITHER_BODY)
@answers_pictures(blueprint, PICTURE_TYPES, {**CAPTURE_HEADERS, **RATE_HEADERS})
@blueprint.alt_response(
    200, schema=SnapApiPicture, content_type="application/json", description=IN_OTHER_SHAPES, success=True
)
@blueprint.alt_response(
    200, schema=PLAIN_TEXT, content_type="text/plain", description=IN_OTHER_SHAPES, success=True
)
@answers_vendor_errors(blueprint, BODY_PROBLEMS)
def vendor_screenshot_from_json() -> Response:
    """The capture of a page, as SnapAPI or SnapSharp answers it.

    Names that one of the two has alone (`fullPage`, `full_page`) say whose the request is. Where there
    are none, it is SnapSharp's if the key comes as `Authorization` alone, else SnapAPI's.
    """
    body = blueprint.ARGUMENTS_PARSER.load_body(flask.request)
    tell_apart(body)
    refuse_query(flask.request, ACCESS_KEY)
    if spoken() is SNAPAPI:
        response = _snapapi_answer(load(body, SNAPAPI_BODY))
    else:
        response = _snapsharp_answer(load(body, SNAPSHARP_BODY))
    response.headers["Cache-Control"] = "no-store"
    return response


def tell_apart(body: Mapping[str, Any]) -> None:
    """Find out which API a body is written for, and answer in its way; the headers say it where names do not.

    Raises:
        InvalidParameters: it has names of both.
    """
    of_snapsharp, of_snapapi = sorted(body.keys() & ONLY_SNAPSHARP), sorted(body.keys() & ONLY_SNAPAPI)
    if of_snapsharp and of_snapapi:
        mixed = f"{of_snapsharp[0]} is SnapSharp's name, and {of_snapapi[0]} is SnapAPI's."
        raise InvalidParameters({}, f"The names of two APIs are mixed: {mixed} Use those of one.")
    if of_snapsharp or of_snapapi:
        speak(SNAPSHARP if of_snapsharp else SNAPAPI)
    else:
        speak(spoken())


def _snapsharp_answer(given: Mapping[str, Any]) -> Response:
    spell(SNAPSHARP)
    return answer_picture(snapsharp_options(given, services().guard), snapsharp_door())


def _snapapi_answer(given: Mapping[str, Any]) -> Response:
    spell(SNAPAPI)
    asked, delivery = _deliver_in_time(snapapi_options(given, services().guard), given.get("timeout"))
    wanted = given.get("response_type", "binary")
    if wanted == "binary":
        return answer_delivery(asked, delivery)
    record = delivery.capture.record
    note(cache=delivery.cache_status.value, bytes=record.size_bytes, provider=record.provider)
    encoded = b64encode(delivery.capture.body()).decode()
    if wanted == "base64":
        return Response(encoded, content_type=TEXT)
    return jsonify(
        success=True,
        format=record.content_type.rpartition("/")[2],
        width=record.width,
        height=record.height,
        fileSize=record.size_bytes,
        took=round(elapsed_seconds() * 1000),
        cached=delivery.cache_status in (CacheStatus.HIT, CacheStatus.STALE),
        data=encoded,
    )


def _deliver_in_time(options: Mapping[str, Any], timeout_milliseconds: int | None) -> tuple[Asked, Delivery]:
    """What is asked for, or an error after the caller's own time; the picture is made all the same.

    So a caller in a hurry fails nobody who waits for the same picture, and has it at the next try.
    """
    if timeout_milliseconds is None or timeout_milliseconds >= services().bounds.deadline_seconds * 1000:
        return deliver(options, snapapi_door())
    asked, delivery = deliver_within(options, snapapi_door(), timeout_milliseconds / 1000)
    if delivery is None:
        raise UpstreamTimeout(f"The picture was not there within {timeout_milliseconds} ms.")
    return asked, delivery
