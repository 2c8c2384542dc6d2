"""Errors as SnapSharp and SnapAPI tell of them, and which of the two is spoken.

Their codes say more of whose fault it is than of what happened; the slug of the problem goes beside them,
in ``X-Problem``. What is the page's fault is never a 5xx: a caching tier that has this service for its
provider must not take it for a broken one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import flask
from flask import Response, g, jsonify
from werkzeug.exceptions import HTTPException

from blueprints.access import ACCESS_KEY, BEARER
from blueprints.answers import PROBLEM_HEADER
from blueprints.error_problems import PAGE_FAULTS, problem_of_error, problem_of_status
from blueprints.errors import (
    detail_of_status,
    faults_in_words,
    log_bug,
    log_failure,
    refusal_headers,
    retry_headers,
)
from blueprints.problems import ProblemType
from blueprints.request_log import note, request_id
from blueprints.vendor_schemas import SNAPAPI_BODY, SNAPSHARP_BODY
from thumbnailer.errors import (
    BudgetSpent,
    InvalidParameters,
    OptionUnsupported,
    ScopeMissing,
    ThumbnailerError,
    Unauthorized,
)

#: What every address of the two begins with.
ROOT = "/v1/"


@dataclass(frozen=True, slots=True)
class VendorError:
    """How an API tells of one kind of problem."""

    status: int
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """An API as its clients know it.

    ``by_slug`` and ``by_class`` tell what becomes of a problem: the class of an error goes first.
    ``by_field`` are codes for faults of a single parameter. ``spellings`` are the names of parameters by
    those of this service. ``describe`` makes the body of code, status, message and details.
    """

    by_slug: Mapping[str, VendorError]
    by_class: Mapping[type[ThumbnailerError], VendorError]
    by_field: Mapping[str, str]
    spellings: Mapping[str, str]
    describe: Callable[[VendorError, str, Mapping[str, Any]], dict[str, Any]]


def _by_slug(**groups: tuple[VendorError, Iterable[str]]) -> Mapping[str, VendorError]:
    return MappingProxyType({slug: found for found, slugs in groups.values() for slug in slugs})


_FAILURES = ("upstream-failed", "upstream-auth", "not-an-image", "image-too-large")
_BUSY = ("upstream-busy", "upstream-quota", "overloaded", "database-unavailable")


def _snapsharp_body(found: VendorError, message: str, _details: Mapping[str, Any]) -> dict[str, Any]:
    return {"error": found.code, "message": message, "request_id": request_id()}


def _snapapi_body(found: VendorError, message: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """The nested shape; status and message stand outside as well, where some of its clients look."""
    error = {"code": found.code, "message": message, "details": {**details, "requestId": request_id()}}
    return {"error": error, "statusCode": found.status, "message": message}


SNAPSHARP = Dialect(
    by_slug=_by_slug(
        parameters=(VendorError(400, "validation_error"), ["invalid-parameters", "target-forbidden"]),
        option=(VendorError(422, "validation_error"), ["option-unsupported"]),
        key=(VendorError(401, "unauthorized"), ["unauthorized"]),
        scope=(VendorError(403, "plan_required"), ["scope-missing"]),
        address=(VendorError(404, "not_found"), ["not-found"]),
        method=(VendorError(405, "method_not_allowed"), ["method-not-allowed"]),
        version=(VendorError(412, "precondition_failed"), ["precondition-failed"]),
        body=(VendorError(413, "payload_too_large"), ["body-too-large"]),
        part=(VendorError(416, "range_not_satisfiable"), ["range-not-satisfiable"]),
        unreachable=(VendorError(422, "target_unreachable"), ["target-unreachable"]),
        status=(VendorError(422, "target_status"), ["target-status"]),
        limit=(VendorError(429, "rate_limited"), ["rate-limited"]),
        bug=(VendorError(500, "internal_error"), ["internal"]),
        failure=(VendorError(502, "screenshot_failed"), _FAILURES),
        busy=(VendorError(503, "queue_unavailable"), _BUSY),
        timeout=(VendorError(504, "timeout"), ["upstream-timeout"]),
    ),
    by_class=dict.fromkeys(PAGE_FAULTS, VendorError(422, "screenshot_failed")),
    by_field={},
    spellings=SNAPSHARP_BODY.spellings(),
    describe=_snapsharp_body,
)

SNAPAPI = Dialect(
    by_slug=_by_slug(
        parameters=(VendorError(400, "INVALID_REQUEST"), ["invalid-parameters"]),
        option=(VendorError(422, "INVALID_REQUEST"), ["option-unsupported"]),
        target=(VendorError(400, "INVALID_URL"), ["target-forbidden"]),
        key=(VendorError(401, "INVALID_API_KEY"), ["unauthorized"]),
        scope=(VendorError(403, "FORBIDDEN"), ["scope-missing"]),
        address=(VendorError(404, "NOT_FOUND"), ["not-found"]),
        method=(VendorError(405, "METHOD_NOT_ALLOWED"), ["method-not-allowed"]),
        version=(VendorError(412, "PRECONDITION_FAILED"), ["precondition-failed"]),
        body=(VendorError(413, "PAYLOAD_TOO_LARGE"), ["body-too-large"]),
        part=(VendorError(416, "RANGE_NOT_SATISFIABLE"), ["range-not-satisfiable"]),
        unreachable=(VendorError(422, "TARGET_UNREACHABLE"), ["target-unreachable"]),
        status=(VendorError(422, "CONTENT_CHECK_FAILED"), ["target-status"]),
        limit=(VendorError(429, "RATE_LIMITED"), ["rate-limited"]),
        failure=(VendorError(500, "SCREENSHOT_FAILED"), [*_FAILURES, "internal"]),
        busy=(VendorError(503, "SERVICE_UNAVAILABLE"), _BUSY),
        timeout=(VendorError(504, "TIMEOUT"), ["upstream-timeout"]),
    ),
    by_class={
        **dict.fromkeys(PAGE_FAULTS, VendorError(422, "CONTENT_CHECK_FAILED")),
        BudgetSpent: VendorError(402, "QUOTA_EXCEEDED"),
    },
    by_field={"url": "INVALID_URL", "format": "INVALID_FORMAT"},
    spellings=SNAPAPI_BODY.spellings(),
    describe=_snapapi_body,
)


def speak(found: Dialect) -> None:
    """Answer the current request in this dialect, whatever its headers say."""
    g.dialect = found


def spell(found: Dialect) -> None:
    """Tell errors from here on, which name options of this service, by the names of the vendor."""
    g.spellings = found.spellings


def spoken() -> Dialect:
    """The dialect of the current request: its body's, else that of the way in which it gives its key."""
    if "dialect" in g:
        chosen: Dialect = g.dialect
        return chosen
    request = flask.request
    is_reading = request.method in ("GET", "HEAD")
    if is_reading and request.path == f"{ROOT}screenshot":
        return SNAPSHARP
    if "X-Api-Key" in request.headers or ACCESS_KEY in request.args:
        return SNAPAPI
    if BEARER.fullmatch(request.headers.get("Authorization", "")):  # a proxy in front may have its own scheme
        return SNAPSHARP
    return SNAPAPI if request.method == "POST" else SNAPSHARP


def vendor_failure(error: ThumbnailerError) -> Response:
    """A failure that the service knows, told the vendor's way."""
    kind, dialect = problem_of_error(error), spoken()
    log_failure(error, kind)
    found = next((known for of, known in dialect.by_class.items() if isinstance(error, of)), None)
    found = found or dialect.by_slug[kind.slug]
    details: dict[str, Any] = {}
    if isinstance(error, InvalidParameters):
        spelled = _spellings()
        details = {spelled.get(name, name): " ".join(texts) for name, texts in error.fields.items()}
        codes = {dialect.by_field.get(name, found.code) for name in details}
        if len(codes) == 1:
            found = VendorError(found.status, *codes)
    return _error(kind, found, _message(error), retry_headers(error, kind), details)


def vendor_refusal(error: HTTPException) -> Response | HTTPException:
    """What Flask refuses, told the same way."""
    if error.response is not None:
        return error
    status = error.code or 500
    kind = problem_of_status(status)
    note(problem=kind.slug)
    found = VendorError(status, spoken().by_slug[kind.slug].code)
    return _error(kind, found, detail_of_status(status), refusal_headers(error))


def vendor_bug(error: Exception) -> Response:
    """What nobody foresaw, told the same way."""
    kind = log_bug(error)
    return _error(kind, spoken().by_slug[kind.slug], kind.explanation, {})


def _spellings() -> Mapping[str, str]:
    found: Mapping[str, str] = g.get("spellings", {})
    return found


def _message(error: ThumbnailerError) -> str:
    """What is wrong, with parameters called as the caller calls them."""
    message, spelled = str(error), _spellings()
    if isinstance(error, InvalidParameters):
        return faults_in_words(error, spelled)
    if isinstance(error, OptionUnsupported):
        name = spelled.get(error.option, error.option)
        return message.replace(f"the option {error.option}", f"the option {name}")
    if isinstance(error, ScopeMissing | Unauthorized):
        first, blank, rest = message.partition(" ")
        return spelled.get(first, first) + blank + rest
    return message


def _error(
    kind: ProblemType,
    found: VendorError,
    message: str,
    headers: Mapping[str, str],
    details: Mapping[str, Any] = MappingProxyType({}),
) -> Response:
    if "Retry-After" in headers:
        details = {**details, "retryAfter": int(headers["Retry-After"])}
    response = jsonify(spoken().describe(found, message, details))
    response.status_code = found.status
    response.headers[PROBLEM_HEADER] = kind.slug
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(dict(headers))
    return response
