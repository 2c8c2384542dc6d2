"""What the OpenAPI document says of answers, for all picture routes alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from flask_smorest import Blueprint

from blueprints.parsing import StrictParser
from blueprints.problems import PROBLEMS
from blueprints.schemas import Problem

API_OPTIONS = {
    "API_TITLE": "thumbnailer",
    "API_VERSION": "v1",
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
}

View = TypeVar("View", bound=Callable[..., Any])

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp")
PICTURE_TYPES = (*IMAGE_TYPES, "application/pdf")

CAPTURE_PROBLEMS = (400, 403, 422, 429, 500, 502, 503, 504)
READ_PROBLEMS = (404, 429, 500)


def _text_header(text: str) -> Mapping[str, Any]:
    return {"description": text, "schema": {"type": "string"}}


PICTURE_HEADERS = {
    "Cache-Control": _text_header("How long caches may keep the picture."),
    "ETag": _text_header("The strong entity tag of the bytes; absent from a stream."),
    "Last-Modified": _text_header("When the picture was taken; absent from a stream."),
    "Age": _text_header("Seconds since then; absent from a stream."),
    "X-Cache": _text_header("HIT or MISS."),
    "Cache-Status": _text_header("The same in the words of RFC 9211."),
    "Server-Timing": _text_header("How long each step took, in milliseconds."),
    "X-Request-ID": _text_header("Names this request in logs and problem documents."),
}


class StrictBlueprint(Blueprint):
    """A flask-smorest blueprint that reads parameters strictly."""

    ARGUMENTS_PARSER = StrictParser()


def answers_pictures(blueprint: StrictBlueprint, content_types: Iterable[str]) -> Callable[[View], View]:
    """Document that a view answers a picture, or 304, or a problem."""

    def decorate(view: View) -> View:
        return answers_problems(blueprint, CAPTURE_PROBLEMS)(
            answers_not_modified(blueprint, content_types)(view)
        )

    return decorate


def answers_not_modified(blueprint: StrictBlueprint, content_types: Iterable[str]) -> Callable[[View], View]:
    """Document that a view answers a picture, or 304 to a caller who has it."""

    def decorate(view: View) -> View:
        for content_type in content_types:
            view = blueprint.response(
                200, {}, content_type=content_type, description="The picture.", headers=PICTURE_HEADERS
            )(view)
        return blueprint.alt_response(  # type: ignore[no-any-return]  # flask-smorest carries no types
            304, description="The caller's copy is still good.", success=True
        )(view)

    return decorate


def answers_problems(blueprint: StrictBlueprint, statuses: Iterable[int]) -> Callable[[View], View]:
    """Document the problem documents that a view may answer, with their slugs."""

    def decorate(view: View) -> View:
        for status in statuses:
            slugs = sorted(kind.slug for kind in PROBLEMS.values() if kind.status == status)
            view = blueprint.alt_response(
                status,
                schema=Problem,
                content_type="application/problem+json",
                description="A problem: " + ", ".join(slugs) + ".",
            )(view)
        return view

    return decorate
