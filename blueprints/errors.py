"""Turns every failure into a problem document (RFC 9457), and says nothing that a caller must not know."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import flask
import flask_smorest
import structlog
from flask import Response
from werkzeug.exceptions import (
    HTTPException,
    MethodNotAllowed,
    RequestedRangeNotSatisfiable,
    UnsupportedMediaType,
)
from werkzeug.routing import RequestRedirect

from blueprints.documented_fields import alternatives_alone, default_in_words
from blueprints.error_problems import STATUS_DETAILS, problem_of_error, problem_of_status
from blueprints.problems import ProblemType
from blueprints.request_log import note, request_id
from blueprints.schemas import Problem
from blueprints.waiting import IS_TURNED_AWAY
from thumbnailer.errors import (
    CallerLimited,
    InvalidParameters,
    OptionUnsupported,
    Overloaded,
    TargetForbidden,
    ThumbnailerError,
    Unauthorized,
    UpstreamAuth,
)

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"
DEFAULT_RETRY_AFTER_SECONDS = 30.0
#: What is answered to callers who came too often, or when too many were there; nothing was tried for them.
TURNED_AWAY = (CallerLimited, Overloaded)


class Api(flask_smorest.Api):
    """flask-smorest, speaking of errors in problem documents.

    What it documents is put together when somebody first asks for it: nothing else at a start takes nearly
    as much time and memory.
    """

    ERROR_SCHEMA = Problem
    DEFAULT_ERROR_RESPONSE_NAME = None  # every route says what it may answer

    def __init__(self, app: flask.Flask) -> None:
        self._documenting = threading.RLock()
        self._undocumented: list[Callable[[], None]] = []
        self._written: bytes | None = None
        super().__init__(app)
        for told in (default_in_words, alternatives_alone):
            self.ma_plugin.converter.add_attribute_function(told)

    def register_blueprint(self, blp: flask_smorest.Blueprint) -> None:
        """Open the doors of a blueprint."""
        self._app.extensions["flask-smorest"]["blp_name_to_api"][blp.name] = self
        self._app.register_blueprint(blp)
        self._undocumented.append(partial(self._document, blp))

    def describe_security(self, schemes: Mapping[str, Mapping[str, Any]]) -> None:
        """Say by which means callers identify themselves."""
        for name, scheme in schemes.items():
            self._undocumented.append(partial(self._spec.components.security_scheme, name, dict(scheme)))

    def describe_problems(self, examples: Mapping[str, Mapping[str, Any]]) -> None:
        """Show a document of each kind, by its slug."""
        for slug, example in examples.items():
            shown = {"summary": example["title"], "value": example}
            self._undocumented.append(partial(self._spec.components.example, slug, shown))

    def describe_webhooks(self, webhooks: Mapping[str, Mapping[str, Any]]) -> None:
        """Say what this service sends by itself, in OpenAPI's words; schemas may be marshmallow's."""
        self._undocumented.append(partial(self._document_webhooks, webhooks))

    @property
    def spec(self) -> Any:
        """What is documented, all of it."""
        with self._documenting:
            steps, self._undocumented = self._undocumented, []
            for document in steps:
                document()
            return self._spec

    @spec.setter
    def spec(self, spec: Any) -> None:
        self._spec = spec

    def _document(self, blp: flask_smorest.Blueprint) -> None:
        blp.register_views_in_doc(self, self._app, self._spec, name=blp.name, parameters=None)
        self._spec.tag({"name": blp.name, "description": blp.description})

    def _document_webhooks(self, webhooks: Mapping[str, Mapping[str, Any]]) -> None:
        for methods in webhooks.values():
            self.ma_plugin.resolver.resolve_operations(methods)
        self._spec.options["webhooks"] = webhooks

    def _openapi_json(self) -> Response:
        """The document, written once: it takes thirty times as long as other answers, and anybody may ask."""
        with self._documenting:
            if self._written is None:
                self._written = super()._openapi_json().get_data()
        return Response(self._written, content_type="application/json")

    def _register_responses(self) -> None:
        self._undocumented.append(super()._register_responses)

    def _register_etag_headers(self) -> None:
        self._undocumented.append(super()._register_etag_headers)

    def _register_pagination_header(self) -> None:
        """Nothing here comes in numbered pages."""

    def handle_http_exception(self, error: HTTPException) -> Response | HTTPException:
        """Answer what Flask and Werkzeug raise: 404, 405, 413 and their like."""
        return answer_refusal(error)


def answer_refusal(error: HTTPException) -> Response | HTTPException:
    """What Flask and Werkzeug refuse, as a problem document."""
    if isinstance(error, RequestRedirect) or error.response is not None:
        return error
    status = error.code or 500
    kind = problem_of_status(status)
    note(problem=kind.slug)
    return problem_response(kind, detail_of_status(status), status=status, headers=refusal_headers(error))


def detail_of_status(status: int) -> str:
    """What is said of an HTTP error that Flask or Werkzeug raised; their own words are for browsers."""
    return STATUS_DETAILS.get(status, problem_of_status(status).explanation)


def register_errors(app: flask.Flask) -> None:
    """Let no exception out of the service as anything but a problem document."""
    app.register_error_handler(ThumbnailerError, answer_failure)
    app.register_error_handler(Exception, answer_bug)


def answer_failure(error: ThumbnailerError) -> Response:
    """A failure that the service knows."""
    kind = problem_of_error(error)
    log_failure(error, kind)
    return problem_response(
        kind,
        str(error),
        retryable=error.retryable,
        fields=_fields_of(error),
        headers=retry_headers(error, kind),
    )


def answer_bug(error: Exception) -> Response | HTTPException:
    """A failure that nobody foresaw: told in full to the log, and to nobody else."""
    if isinstance(error, HTTPException):
        return error
    kind = log_bug(error)
    return problem_response(kind, kind.explanation)


def log_bug(error: Exception) -> ProblemType:
    """Log a failure that nobody foresaw, and say what a caller is told of it."""
    log.error("unexpected_error", exc_info=error)
    kind = problem_of_status(500)
    note(problem=kind.slug)
    return kind


def log_failure(error: ThumbnailerError, kind: ProblemType) -> None:
    """An operator's fault is an error in the log, everything else is news; the server hears of some, too."""
    if isinstance(error, TURNED_AWAY):
        flask.request.environ[IS_TURNED_AWAY] = True
    note(problem=kind.slug)
    level = log.error if isinstance(error, UpstreamAuth) else log.info
    level("request_failed", problem=kind.slug, detail=str(error), provider=getattr(error, "provider", None))


def refusal_headers(error: HTTPException) -> dict[str, str]:
    """What a refusal of Flask or Werkzeug has to say besides its status: RFC 9110, section 15.5."""
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        return {"Allow": ", ".join(sorted(error.valid_methods))}
    if isinstance(error, RequestedRangeNotSatisfiable) and error.length is not None:
        return {"Content-Range": f"{error.units} */{error.length}"}
    if isinstance(error, UnsupportedMediaType):
        return {"Accept-Encoding": "identity"}
    return {}


def retry_headers(error: ThumbnailerError, kind: ProblemType) -> dict[str, str]:
    """What helps with the next try: ``Retry-After`` (RFC 9110, section 10.2.3) and their like."""
    headers = dict(error.headers) if isinstance(error, CallerLimited) else {}
    if isinstance(error, Unauthorized):
        headers["WWW-Authenticate"] = error.challenge  # RFC 9110, section 11.6.1
    seconds = error.retry_after_seconds
    if seconds is None and kind.status == 503:
        seconds = DEFAULT_RETRY_AFTER_SECONDS
    if seconds is not None:
        headers["Retry-After"] = str(max(1, math.ceil(seconds)))
    return headers


def in_words(error: ThumbnailerError) -> str:
    """What is wrong, where an answer has no place for fields."""
    return faults_in_words(error) if isinstance(error, InvalidParameters) else str(error)


def faults_in_words(error: InvalidParameters, spelled: Mapping[str, str] = MappingProxyType({})) -> str:
    """All faults in one text, where an answer has no place for fields; ``spelled`` renames those."""
    faults = (f"{spelled.get(name, name)}: {' '.join(texts)}" for name, texts in error.fields.items())
    return "; ".join(faults) or str(error)


def _fields_of(error: ThumbnailerError) -> dict[str, list[str]]:
    if isinstance(error, InvalidParameters):
        return error.fields
    named = error.option if isinstance(error, OptionUnsupported) else None
    named = error.parameter if isinstance(error, TargetForbidden) else named
    return {named: [str(error)]} if named else {}


def problem_response(
    kind: ProblemType,
    detail: str,
    *,
    status: int | None = None,
    retryable: bool | None = None,
    fields: Mapping[str, list[str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document; nobody keeps it."""
    status = status or kind.status
    document: dict[str, Any] = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": status,
        "detail": detail,
        "request_id": request_id(),
        "retryable": status >= 500 if retryable is None else retryable,
    }
    if fields:
        document["errors"] = dict(fields)
    response = flask.jsonify(document)
    response.status_code = status
    response.content_type = CONTENT_TYPE
    response.headers["Cache-Control"] = "no-store"
    response.headers.update(dict(headers or {}))
    return response
