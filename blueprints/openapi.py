"""What the OpenAPI document says of answers, for all picture routes alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import Any

from blueprints.answer_schemas import PendingAnswer
from blueprints.documented_headers import (
    CAPTURE_HEADERS,
    NOT_OF_304,
    PLACEHOLDER_HEADERS,
    RETRY_AFTER,
    Headers,
    problem_headers,
    text_header,
)
from blueprints.error_problems import SLUG_OF_ERROR
from blueprints.idempotency import HEADER, KEY_PATTERN
from blueprints.problems import PROBLEMS, ProblemType
from blueprints.schemas import Problem
from blueprints.strict_blueprint import StrictBlueprint, View

#: What an integrator reads first, in Markdown.
ABOUT = """\
Pictures of web pages: `GET /thumb` for `<img>` tags, `GET /screenshot` for the capture itself,
`POST /persist` to keep a picture for good, `POST /screenshots` for those who cannot wait.

**Who may call.** A closed service wants a key (`X-API-Key`, or `Authorization: Bearer`); `GET /thumb` and
`GET /screenshot` take a signed URL as well. An open one wants nothing. A key has scopes: `render` for
pictures, jobs and signed URLs, `persist` for what is stored or kept, `purge` for purges, `script` for `js`,
`headers` and `cookies`, and `admin` for all of it and `/metrics`.

**Errors** are problem documents (RFC 9457). `type` is the path of a page that explains the problem, such as
[/problems/target-forbidden](problems/target-forbidden), `errors` names the fields at fault, `retryable`
says whether the same request may succeed later, `Retry-After` when. Below `/api` and `/v1` errors have the
format of the services whose API is spoken there.

**Every answer** has an `X-Request-ID`: yours, where you send one, else a new one. What was charged to a
limit says in `RateLimit-Policy` and `RateLimit` what is left. Every `GET` answers `HEAD` as well; other
methods are 405 with `Allow`. Pictures heed `If-None-Match` and `If-Modified-Since` (304), `Range` (206),
`If-Match` and `If-Unmodified-Since` (412).

**Requests** are read strictly: what is unknown, repeated, of the wrong type or out of range is 400. What is
no proper HTTP is refused in the same way with 408, 411, 414, 415, 417 or 431.

**Defaults** are told in the descriptions. Send only what you want otherwise: a device, a preset or the
operator may have chosen another value, and an option that you send replaces it.

**Webhooks.** Who gives a `webhook_url` is told when the work has ended, or a kept page looks different, by
the messages that stand under Webhooks below.

**Limits.** 429 comes with `RateLimit-Policy`, `RateLimit` and `Retry-After`. Answers from the cache are
counted by a far wider limit than captures.
"""
API_OPTIONS = {
    "API_TITLE": "thumbnailer",
    "API_VERSION": "v1",
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
    "PROVIDE_AUTOMATIC_OPTIONS": False,  # what is not documented is not there
    "API_SPEC_OPTIONS": {
        "info": {"description": ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        "servers": [{"url": ".", "description": "This service."}],
    },
}

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/avif")
PICTURE_TYPES = (*IMAGE_TYPES, "application/pdf")

#: What is no text, as OpenAPI 3.0 says it: generators of clients take an empty schema, as in 3.1, for JSON.
BYTES = {"type": "string", "format": "binary"}
PLAIN_TEXT = {"type": "string"}

#: What a route may answer when something goes wrong, by slug: whatever it is for, where it needs a key.
LIST_PROBLEMS = (
    "invalid-parameters",
    "unauthorized",
    "scope-missing",
    "rate-limited",
    "internal",
    "database-unavailable",
)
READ_PROBLEMS = (*LIST_PROBLEMS, "not-found")
#: The same where nobody has to say who they are.
OPEN_READ_PROBLEMS = tuple(slug for slug in READ_PROBLEMS if slug not in ("unauthorized", "scope-missing"))
METRICS_PROBLEMS = tuple(slug for slug in LIST_PROBLEMS if slug not in ("invalid-parameters", "rate-limited"))
#: Of routes that are told of a target, and ask nobody for it.
EXPLAIN_PROBLEMS = (*LIST_PROBLEMS, "target-forbidden")
PURGE_PROBLEMS = (*EXPLAIN_PROBLEMS, "cache-unavailable")
CAPTURE_PROBLEMS = (
    *EXPLAIN_PROBLEMS,
    "target-unreachable",
    "target-status",
    "option-unsupported",
    "upstream-failed",
    "upstream-auth",
    "not-an-image",
    "image-too-large",
    "upstream-busy",
    "upstream-quota",
    "overloaded",
    "upstream-timeout",
)
#: What the headers of a GET ask of its picture, and cannot have.
CONDITION_PROBLEMS = ("precondition-failed", "range-not-satisfiable")
PICTURE_PROBLEMS = (*CAPTURE_PROBLEMS, *CONDITION_PROBLEMS)
#: The same where a signature will do instead of a key.
SIGNATURE_PROBLEMS = ("signature-required", "signature-invalid", "signature-expired")
SIGNABLE_PROBLEMS = (*CAPTURE_PROBLEMS, *SIGNATURE_PROBLEMS)
SIGNABLE_PICTURE_PROBLEMS = (*PICTURE_PROBLEMS, *SIGNATURE_PROBLEMS)
BODY_PROBLEMS = (*CAPTURE_PROBLEMS, "body-too-large")
IDEMPOTENCY_PROBLEMS = ("idempotency-conflict", "idempotency-mismatch")
PERSIST_PROBLEMS = (*BODY_PROBLEMS, *IDEMPOTENCY_PROBLEMS, "not-a-real-picture", "storage-unavailable")
JOB_PROBLEMS = (
    *EXPLAIN_PROBLEMS,
    *IDEMPOTENCY_PROBLEMS,
    "option-unsupported",
    "overloaded",
    "body-too-large",
)
REDELIVER_PROBLEMS = (*READ_PROBLEMS, *IDEMPOTENCY_PROBLEMS)
SIGN_DEBUG_PROBLEMS = (*LIST_PROBLEMS, "not-found", "body-too-large")
SIGN_PROBLEMS = (*SIGN_DEBUG_PROBLEMS, "target-forbidden", "option-unsupported")
MEDIA_PROBLEMS = (*CONDITION_PROBLEMS, "not-found", "internal", "storage-unavailable")
#: Of pictures that were taken behind the answer, and may lie in the storage alone.
STORED_PROBLEMS = ("image-not-ready", "storage-unavailable")
PAGE_PROBLEMS = ("not-found", "internal")

IDEMPOTENCY_KEY = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": (
        "Sent again with the same body within 24 hours: the first answer again, as it was; nothing is done. "
        "What was accepted then may have ended since: Location leads to its present state."
    ),
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": KEY_PATTERN},
}
PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "description": "wait=N: the same as the option wait, which takes precedence (RFC 7240).",
    "schema": {"type": "string"},
    "example": "wait=10",
}


#: One for all answers: making one takes a tenth of a millisecond, and there are hundreds.
PROBLEM = Problem()


def answers_pictures(
    blueprint: StrictBlueprint,
    content_types: Iterable[str],
    headers: Headers = CAPTURE_HEADERS,
) -> Callable[[View], View]:
    """Document that a view answers a picture."""
    whole = partial(
        blueprint.alt_response, 200, schema=BYTES, description="The picture.", headers=headers, success=True
    )
    return _in_each(content_types, whole)


def answers_pictures_to_get(
    blueprint: StrictBlueprint,
    content_types: Iterable[str],
    headers: Headers = CAPTURE_HEADERS,
) -> Callable[[View], View]:
    """Document that a view answers a picture, the part of it that is asked for, or 304 to who has it."""
    part = partial(
        blueprint.alt_response,
        206,
        schema=BYTES,
        description="The part of the picture that Range asks for.",
        headers={**headers, "Content-Range": text_header("Which bytes, and of how many.")},
        success=True,
    )

    def decorate(view: View) -> View:
        view = answers_pictures(blueprint, content_types, headers)(view)
        view = _in_each(content_types, part)(view)
        return answers_not_modified(blueprint, headers)(view)

    return decorate


def answers_not_modified(blueprint: StrictBlueprint, headers: Headers) -> Callable[[View], View]:
    """Document that a view answers 304 to a caller who has what it answers, else with ``headers``."""
    return blueprint.alt_response(
        304,
        description="The caller's copy is still good.",
        headers={name: told for name, told in headers.items() if name not in NOT_OF_304},
        success=True,
    )


def answers_pending(blueprint: StrictBlueprint) -> Callable[[View], View]:
    """Document that a view answers 202 while a picture is being made."""
    told = ("Cache-Control", "X-Cache", "Cache-Status", "RateLimit-Policy", "RateLimit", "Server-Timing")
    headers = {name: CAPTURE_HEADERS[name] for name in told}
    headers |= {**RETRY_AFTER, "Vary": PLACEHOLDER_HEADERS["Vary"]}
    document: Callable[..., Callable[[View], View]] = partial(
        blueprint.alt_response,
        202,
        description="The picture is being made, and wait is over: a stand-in.",
        headers=headers,
        success=True,
    )

    def decorate(view: View) -> View:
        view = _in_each(IMAGE_TYPES, partial(document, schema=BYTES))(view)
        return document(schema=PendingAnswer, content_type="application/json")(view)

    return decorate


def _in_each(
    content_types: Iterable[str], document: Callable[..., Callable[[View], View]]
) -> Callable[[View], View]:
    """Document an answer in each of these types; readers meet the first of them first."""
    types = tuple(content_types)

    def decorate(view: View) -> View:
        for content_type in reversed(types):  # as decorators are applied
            view = document(content_type=content_type)(view)
        return view

    return decorate


def takes_idempotency_key(view: View) -> View:
    """Document that a view takes an ``Idempotency-Key``; others at the same path may not."""
    return _takes(view, IDEMPOTENCY_KEY)


def takes_prefer(view: View) -> View:
    """Document that a view heeds ``Prefer: wait=N``."""
    return _takes(view, PREFER)


def _takes(view: View, header: Mapping[str, Any]) -> View:
    documented = view.__dict__.setdefault("_apidoc", {}).setdefault("manual_doc", {})
    documented["parameters"] = [header, *documented.get("parameters", [])]
    return view


def example_of(kind: ProblemType) -> dict[str, Any]:
    """A problem document, for those who have not met one of this kind yet."""
    meant = next((error for error, slug in SLUG_OF_ERROR if slug == kind.slug), None)
    wrong = {"errors": {"width": ["Must be a whole number."]}} if kind.slug == "invalid-parameters" else {}
    return {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.explanation,
        "request_id": "a3f855c8fb84428a9f1788879bb71cef",
        "retryable": meant.retryable if meant else kind.status >= 500,
        **wrong,
    }


def problems_by_status(slugs: Iterable[str]) -> Iterator[tuple[int, list[ProblemType]]]:
    """Problem types in groups that share a status."""
    kinds = sorted((PROBLEMS[slug] for slug in slugs), key=lambda kind: (kind.status, kind.slug))
    for status, group in groupby(kinds, key=lambda kind: kind.status):
        yield status, list(group)


def answers_placeholders(
    blueprint: StrictBlueprint, slugs: Iterable[str] = SIGNABLE_PROBLEMS
) -> Callable[[View], View]:
    """Document that a view may answer a placeholder, with the status of the problem."""

    def decorate(view: View) -> View:
        for status, kinds in problems_by_status(slugs):
            drawn = partial(
                blueprint.alt_response,
                status,
                schema=BYTES,
                description=_told(kinds),
                headers={**_headers_of(status, kinds), **PLACEHOLDER_HEADERS},
            )
            view = _in_each(IMAGE_TYPES, drawn)(view)
        return view

    return decorate


def answers_problems(blueprint: StrictBlueprint, slugs: Iterable[str]) -> Callable[[View], View]:
    """Document the problem documents that a view may answer."""

    def decorate(view: View) -> View:
        for status, kinds in problems_by_status(slugs):
            view = blueprint.alt_response(
                status,
                schema=PROBLEM,
                content_type="application/problem+json",
                description=_told(kinds),
                headers=_headers_of(status, kinds),
                examples={kind.slug: {"$ref": f"#/components/examples/{kind.slug}"} for kind in kinds},
            )(view)
        return view

    return decorate


def _headers_of(status: int, kinds: Iterable[ProblemType]) -> Headers:
    """What problems of these kinds come with."""
    is_to_come = any(kind.slug == "image-not-ready" for kind in kinds)
    return {**problem_headers(status), **(RETRY_AFTER if is_to_come else {})}


def _told(kinds: Iterable[ProblemType]) -> str:
    return "A problem: " + ", ".join(kind.slug for kind in kinds) + "."
