"""A name for every request, and one log line about each."""

from __future__ import annotations

import re
import time
import uuid

import flask
import structlog
from flask import Response, g

from thumbnailer.model import Deadline
from thumbnailer.telemetry import REQUEST_LOGGER, Timings

log = structlog.get_logger(REQUEST_LOGGER)

#: In the WSGI environment: when a request came that was held before it reached the application, on the
#: monotonic clock. Without it, the request begins when the application hears of it.
BEGUN_AT = "thumbnailer.begun_at"
#: There as well: for how many seconds it was held behind others who had sent the same.
HELD_SECONDS = "thumbnailer.held_seconds"

SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{8,128}", re.ASCII)


def request_id() -> str:
    """The name of the current request: the caller's where it is sane, else a new one."""
    if "request_id" not in g:
        g.request_id = request_id_of(flask.request.headers.get("X-Request-ID", ""))
    return str(g.request_id)


def request_id_of(given: str) -> str:
    """The name of a request that came with this one: ``given`` where it is sane, else a new one."""
    return given if SANE_REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def timings() -> Timings:
    """The stop-watch of the current request."""
    if "timings" not in g:
        g.timings = Timings()
    found: Timings = g.timings
    return found


def elapsed_seconds() -> float:
    """How long the current request has taken, counted from its very beginning."""
    return time.monotonic() - _begun_at()


def request_deadline(seconds: float) -> Deadline:
    """The moment when the current request will have taken ``seconds``, counted from its very beginning."""
    return Deadline(_begun_at() + seconds)


def note(**facts: object) -> None:
    """Add facts to the current request's log line."""
    g.setdefault("facts", {}).update(facts)


def noted() -> dict[str, object]:
    """The facts that the current request's log line has so far."""
    return dict(g.get("facts", {}))


def register_request_log(app: flask.Flask) -> None:
    """Name, time and log every request of ``app``."""
    app.before_request(_begin)
    app.after_request(_finish)


def _begin() -> None:
    g.begun_at = flask.request.environ.get(BEGUN_AT, time.monotonic())
    if HELD_SECONDS in flask.request.environ:
        timings().add("wait", flask.request.environ[HELD_SECONDS])
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=request_id())


def _finish(response: Response) -> Response:
    response.headers["X-Request-ID"] = request_id()
    server_timing = timings().server_timing()
    if server_timing:
        response.headers["Server-Timing"] = server_timing
    begun_at = _begun_at()
    line = {
        "request_id": request_id(),
        "method": flask.request.method,
        "path": flask.request.path,
        "status": response.status_code,
        **g.get("facts", {}),
    }
    response.call_on_close(lambda: _write(line, begun_at))
    return response


def _begun_at() -> float:
    return float(g.get("begun_at", time.monotonic()))


def _write(line: dict[str, object], begun_at: float) -> None:
    log.info("request", duration_ms=round((time.monotonic() - begun_at) * 1000, 1), **line)
