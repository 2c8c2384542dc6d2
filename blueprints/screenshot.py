"""Pictures of pages: to embed, to fetch, to stream, to keep."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import flask
from flask import Response

from blueprints.access import EMBEDDABLE, PERSIST, RENDER, SIGNABLE, needs
from blueprints.answer_schemas import StoredImageAnswer
from blueprints.answers import ask_storage, document
from blueprints.capture_requests import Asked
from blueprints.documented_headers import made_headers
from blueprints.errors import answer_failure
from blueprints.idempotency import KEPT_SECONDS
from blueprints.job_answers import whole_url
from blueprints.openapi import (
    BODY_PROBLEMS,
    IMAGE_TYPES,
    PERSIST_PROBLEMS,
    PICTURE_TYPES,
    SIGNABLE_PICTURE_PROBLEMS,
    answers_pending,
    answers_pictures,
    answers_pictures_to_get,
    answers_placeholders,
    answers_problems,
    takes_idempotency_key,
)
from blueprints.pictures import (
    answer_patiently,
    answer_picture,
    answer_stream,
    deliver,
    persist_door,
    screenshot_door,
    thumb_door,
)
from blueprints.placeholders import NEGOTIATED_BY, placeholder_answer, wants_placeholder
from blueprints.request_log import note, request_deadline, timings
from blueprints.schemas import (
    CaptureQuery,
    PersistBody,
    ScreenshotBody,
    ScreenshotQuery,
    ThumbQuery,
)
from blueprints.services import public_url, services
from blueprints.strict_blueprint import StrictBlueprint
from blueprints.waiting import line_up
from thumbnailer.errors import OptionUnsupported, ThumbnailerError
from thumbnailer.keeping import Kept, keep, refuse_old
from thumbnailer.local_storage import LocalStorage
from thumbnailer.storage import StoredImage
from thumbnailer.terms import Delivery

STORED_ANSWER_HEADERS = made_headers("the stored image")

LOCAL_PRESIGN = "The local storage cannot honour the option presign: its images are public."

blueprint = StrictBlueprint("screenshot", __name__, description="Pictures of web pages.")


@blueprint.errorhandler(ThumbnailerError)
def picture_failure(error: ThumbnailerError) -> Response:
    """A placeholder for an ``<img>``, a problem document for a program."""
    is_picture_route = flask.request.method in ("GET", "HEAD")
    return placeholder_answer(error) if is_picture_route and wants_placeholder() else answer_failure(error)


@blueprint.after_request
def vary_failures(response: Response) -> Response:
    """Say that a failure looks otherwise to others: RFC 9110, section 12.5.5."""
    if response.status_code >= 400 and flask.request.method in ("GET", "HEAD"):
        response.vary.update(NEGOTIATED_BY)
    return response


@blueprint.get("/thumb")
@needs(EMBEDDABLE)
@blueprint.arguments(ThumbQuery(), location="query")
@answers_pictures_to_get(blueprint, IMAGE_TYPES)
@answers_pending(blueprint)
@answers_problems(blueprint, SIGNABLE_PICTURE_PROBLEMS)
@answers_placeholders(blueprint)
def thumb(given: Mapping[str, Any]) -> Response:
    """The embeddable thumbnail of a page.

    Without `thumb_width` and `thumb_height` it is as large as the capture. Where there is no picture, an
    `<img>` gets a placeholder of the size asked for, and a program a problem document, both with the
    status of the problem.
    """
    return answer_patiently(given, thumb_door())


@blueprint.get("/screenshot")
@needs(SIGNABLE)
@blueprint.arguments(ScreenshotQuery(), location="query")
@answers_pictures_to_get(blueprint, PICTURE_TYPES)
@answers_problems(blueprint, SIGNABLE_PICTURE_PROBLEMS)
@answers_placeholders(blueprint)
def screenshot(given: dict[str, Any]) -> Response:
    """The capture of a page.

    As large as the viewport, unless a size is asked for; `pdf` is a format, too.
    """
    answer = answer_stream if given.pop("stream", False) else answer_picture
    return answer(given, screenshot_door())


@blueprint.get("/screenshot/stream")
@needs(SIGNABLE)
@blueprint.arguments(CaptureQuery(), location="query")
@answers_pictures_to_get(blueprint, PICTURE_TYPES)
@answers_problems(blueprint, SIGNABLE_PICTURE_PROBLEMS)
@answers_placeholders(blueprint)
def screenshot_stream(given: Mapping[str, Any]) -> Response:
    """The capture of a page, passed on as it arrives.

    The answer begins with the first bytes that have proved to be a picture. If the picture breaks off or
    turns out to be damaged, so does the connection: check that the transfer was complete. What has to be
    whole first (thumbnails, AVIF) is answered then, and a picture from the cache at once.
    """
    return answer_stream(given, screenshot_door())


@blueprint.post("/screenshot")
@needs(RENDER)
@blueprint.arguments(
    ScreenshotBody(),
    location="json",
    example={"url": "https://example.com/", "full_page": True, "format": "webp"},
)
@answers_pictures(blueprint, PICTURE_TYPES)
@answers_problems(blueprint, BODY_PROBLEMS)
def screenshot_from_json(given: Mapping[str, Any]) -> Response:
    """The capture of a page, asked for in JSON."""
    return answer_picture(given, screenshot_door())


@blueprint.post("/persist")
@needs(PERSIST)
@takes_idempotency_key
@blueprint.arguments(
    PersistBody(),
    location="json",
    example={"url": "https://example.com/", "thumb_width": 400, "format": "webp"},
)
@blueprint.response(
    201, StoredImageAnswer, description="The picture has been stored.", headers=STORED_ANSWER_HEADERS
)
@blueprint.alt_response(
    200,
    schema=StoredImageAnswer,
    description="This very picture was stored before.",
    headers=STORED_ANSWER_HEADERS,
    success=True,
)
@answers_problems(blueprint, PERSIST_PROBLEMS)
def persist(given: dict[str, Any]) -> Response:
    """Store the picture of a page for good and say where it is.

    A stored picture never changes: once the page looks different, the next call stores another one, at
    another URL.
    """
    kept_seconds = min(KEPT_SECONDS, given.get("presign", KEPT_SECONDS))
    return services().idempotency.once(lambda: _persisted(given), kept_seconds=kept_seconds)


def _persisted(given: dict[str, Any]) -> Response:
    recapture, presign = given.pop("force", False), given.pop("presign", None)
    if presign and isinstance(services().storage, LocalStorage):
        raise OptionUnsupported("presign", "local storage", LOCAL_PRESIGN)
    asked, delivery = deliver(given, persist_door(), recapture=recapture)
    refuse_old(delivery)
    line_up()
    deadline = request_deadline(services().bounds.deadline_seconds)
    with timings().step("storage"):
        kept, url = ask_storage(_keeping(asked, delivery, presign), deadline.remaining_seconds())
    stored = kept.image
    url = whole_url(url or stored.url, public_url(""))
    note(cache=delivery.cache_status.value, object_key=stored.key, stored=not kept.was_there)
    response = document(_described(stored, url, cached=kept.was_there), 200 if kept.was_there else 201)
    response.headers["Location"] = url
    return response


def _keeping(asked: Asked, delivery: Delivery, presign: int | None) -> Callable[[], tuple[Kept, str | None]]:
    """Stores the picture and signs a URL of it for so many seconds; needs no request around it."""
    storage, key_template = services().storage, services().key_template

    def kept_and_signed() -> tuple[Kept, str | None]:
        kept = keep(storage, key_template, asked.request, delivery)
        return kept, storage.presigned_url(kept.image.key, presign) if presign else None

    return kept_and_signed


def _described(stored: StoredImage, url: str, *, cached: bool) -> dict[str, Any]:
    return {
        "url": url,
        "cached": cached,
        "key": stored.key,
        "etag": stored.etag,
        "sha256": stored.sha256,
        "content_type": stored.content_type,
        "size_bytes": stored.size_bytes,
        "width": stored.width,
        "height": stored.height,
        "captured_at": datetime.fromtimestamp(stored.captured_at, UTC).isoformat(),
    }
