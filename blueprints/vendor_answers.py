"""What SnapSharp's and SnapAPI's clients are told, and what the OpenAPI document says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import Flask, Response, request
from marshmallow import Schema, fields

from blueprints.answer_fields import flag, nested, pixels, text, whole_number
from blueprints.documented_headers import RETRY_AFTER, problem_headers, text_header
from blueprints.schemas import described
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint, View
from blueprints.vendor_errors import ROOT, SNAPAPI, SNAPSHARP, Dialect, VendorError
from thumbnailer.budgets import OWN_NAME, TOTAL_NAME
from thumbnailer.quotas import Quota, read_quotas

RATE_HEADERS = {
    "X-RateLimit-Limit": text_header("Captures in each window; where one was charged or refused."),
    "X-RateLimit-Remaining": text_header("What is left of them."),
    "X-RateLimit-Reset": text_header("When the window ends, in unix seconds."),
    "X-Quota-Used": text_header("Captures of this day, where the key has a budget."),
    "X-Quota-Limit": text_header("The budget."),
    "X-Quota-Reset": text_header("When the day ends, in unix seconds."),
}


QUOTA_HEADERS = {name: told for name, told in RATE_HEADERS.items() if name.startswith("X-Quota-")}


class SnapSharpError(Schema):
    """How SnapSharp tells of an error."""

    error = text("What kind of error.")
    message = text("What is wrong with this request.")
    request_id = text("Names this request in the logs.")


class SnapApiFault(Schema):
    """What SnapAPI's errors hold."""

    code = text("What kind of error.")
    message = text("What is wrong with this request.")
    details = fields.Dict(
        required=True,
        metadata=described("requestId; retryAfter in seconds, where known; faults by parameter."),
    )


class SnapApiError(Schema):
    """How SnapAPI tells of an error."""

    error = nested(SnapApiFault, "The error.")
    statusCode = whole_number("The HTTP status.")  # noqa: N815  as SnapAPI spells it
    message = text("The same as that of error.")


class SnapApiPicture(Schema):
    """What ``"responseType": "json"`` is answered with."""

    success = flag("Always true here.")
    format = text("How data is encoded.")
    width = pixels()
    height = pixels()
    fileSize = whole_number("The number of bytes.")  # noqa: N815  as SnapAPI spells it
    took = whole_number("Milliseconds that this answer took.")
    cached = flag("Whether the cache had it.")
    data = text("The bytes in base64.")


EITHER_ERROR = {"anyOf": [SnapSharpError, SnapApiError]}


def answers_vendor_errors(
    blueprint: StrictBlueprint, slugs: Iterable[str], schema: Any = EITHER_ERROR
) -> Callable[[View], View]:
    """Document what a view may answer when something goes wrong, in both dialects unless told otherwise."""
    dialects = (SNAPSHARP,) if schema is SnapSharpError else (SNAPSHARP, SNAPAPI)
    codes: dict[int, set[str]] = {}
    slugs = set(slugs)
    for found in (found for dialect in dialects for found in _possible(dialect, slugs)):
        codes.setdefault(found.status, set()).add(found.code)

    def decorate(view: View) -> View:
        for status, found in sorted(codes.items()):
            view = blueprint.alt_response(
                status,
                schema=schema,
                description=f"Refused or failed: {', '.join(sorted(found))}.",
                headers={
                    **problem_headers(status),
                    **(RATE_HEADERS if status in (402, 429) else {}),
                    **(RETRY_AFTER if status == 500 else {}),  # SnapAPI's, of what others call 502
                    "X-Problem": text_header("The slug of the problem."),
                },
            )(view)
        return view

    return decorate


def _possible(dialect: Dialect, slugs: set[str]) -> Iterable[VendorError]:
    yield from (found for slug, found in dialect.by_slug.items() if slug in slugs)
    if "target-unreachable" not in slugs:
        return  # nothing is captured there, and no option is read
    yield from dialect.by_class.values()
    yield from (VendorError(400, code) for code in dialect.by_field.values())


def register_rate_headers(app: Flask) -> None:
    """Let answers say what is left the way SnapAPI's clients read it.

    To be registered before ``register_quota_headers``: what is registered later, Flask calls earlier.
    """
    app.after_request(_say_what_is_left)


def _say_what_is_left(response: Response) -> Response:
    # What others may be given as well would tell them of this caller's allowance.
    if not request.path.startswith(ROOT) or "public" in response.headers.get("Cache-Control", ""):
        return response
    for quota in read_quotas(dict(response.headers)):
        response.headers.update(rate_headers(quota))
    return response


def rate_headers(quota: Quota) -> Mapping[str, str]:
    """What SnapAPI says of a limit, or of a budget."""
    reset = str(int(services().clock()) + quota.reset_seconds)
    if quota.name in (OWN_NAME, TOTAL_NAME):
        used = str(quota.amount - quota.remaining)
        return {"X-Quota-Used": used, "X-Quota-Limit": str(quota.amount), "X-Quota-Reset": reset}
    left = str(quota.remaining)
    return {"X-RateLimit-Limit": str(quota.amount), "X-RateLimit-Remaining": left, "X-RateLimit-Reset": reset}
