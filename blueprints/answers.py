"""Dresses captures as HTTP answers: validators, cache headers and what keeps a browser safe."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import structlog
from flask import Response, jsonify

from blueprints.conditions import answer_conditionally
from blueprints.error_problems import problem_of_error
from blueprints.freshness import Freshness
from blueprints.job_answers import whole_url
from blueprints.request_log import note
from blueprints.services import public_url, services
from thumbnailer.errors import Overloaded, ThumbnailerError
from thumbnailer.model import Capture
from thumbnailer.storage import storage_unavailable
from thumbnailer.streaming import CaptureStream
from thumbnailer.terms import CacheStatus, Delivery

T = TypeVar("T")

log = structlog.get_logger(__name__)

#: The slug of a problem, where the answer is a picture and no document.
PROBLEM_HEADER = "X-Problem"

#: How long a URL works that opens a private object, in seconds.
OPENED_SECONDS = 300

#: How long is waited for such a URL, in seconds.
OPENING_SECONDS = 5.0

SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


def document(content: Mapping[str, Any], status: int = 200) -> Response:
    """A JSON document; nobody keeps it."""
    response = jsonify(content)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response


def _cache_headers(delivery: Delivery, ttl_seconds: int, age_seconds: int) -> dict[str, str]:
    """What an answer says of the cache: ``X-Cache`` and ``Cache-Status`` (RFC 9211)."""
    x_cache, status = "MISS", delivery.cache_status
    if status in (CacheStatus.HIT, CacheStatus.STALE):
        detail = f"; detail={problem_of_error(delivery.trouble).slug}" if delivery.trouble else ""
        x_cache, told = status.name, f"hit; ttl={ttl_seconds - age_seconds}{detail}"
    elif delivery.was_purged:
        told = "fwd=miss; detail=purged"
    else:
        collapsed = "; collapsed" if status is CacheStatus.COLLAPSED else ""
        told = f"fwd=miss{'; stored' if delivery.is_kept else ''}{collapsed}"
    return {"X-Cache": x_cache, "Cache-Status": f"thumbnailer; {told}"}


def picture_answer(delivery: Delivery, freshness: Freshness, now: float) -> Response:
    """A whole capture."""
    record, response = delivery.capture.record, _whole(delivery.capture)
    response.headers.update(dated_headers(delivery, freshness, now))
    if delivery.trouble is not None:
        response.headers[PROBLEM_HEADER] = problem_of_error(delivery.trouble).slug
    note(cache=delivery.cache_status.value, bytes=record.size_bytes)
    if delivery.cache_status is CacheStatus.MISS:
        note(provider=record.provider, upstream_ms=round(record.upstream_seconds * 1000, 1))
    return response


def dated_headers(delivery: Delivery, freshness: Freshness, now: float) -> dict[str, str]:
    """What the answer with a whole capture says of its age, at ``now``, Unix time in seconds."""
    overdue_seconds = delivery.capture.record.overdue_seconds(now, freshness.ttl_seconds)
    age_seconds = max(0, int(overdue_seconds + freshness.ttl_seconds))
    headers = _cache_headers(delivery, freshness.ttl_seconds, age_seconds) | {"Age": str(age_seconds)}
    if delivery.was_purged:
        return headers | {"Cache-Control": "no-store"}
    return headers | _keeping_headers(freshness, now, age_seconds)


def cached_answer(capture: Capture, cache_control: str) -> Response:
    """A capture that the cache has, or what of it the current request wants."""
    response = _whole(capture)
    response.headers["Cache-Control"] = cache_control
    return answer_conditionally(response, capture.record.size_bytes)


def ask_storage(ask: Callable[[], T], seconds: float) -> T:
    """What ``ask`` returns, if it does within ``seconds``: a storage knows no deadline.

    It is called in another thread, without a request around it. Raises StorageUnavailable where the time is
    up, and what it raises.
    """
    try:
        return services().storage_calls.run(ask, seconds)
    except (TimeoutError, Overloaded):
        log.warning("storage_too_slow")
        raise storage_unavailable() from None


def stored_answer(object_key: str, stored_url: str) -> Response:
    """Sends the caller to where a picture is stored; raises as ``ask_storage`` does.

    Those who wait for this stand in no line: it takes no time, unless credentials have to be renewed.
    """
    storage = services().storage
    url = ask_storage(lambda: storage.presigned_url(object_key, OPENED_SECONDS), OPENING_SECONDS)
    url = url or stored_url
    response = Response(status=302, headers={"Location": whole_url(url, public_url(""))})
    response.headers["Cache-Control"] = "no-store"
    return response


def _whole(capture: Capture) -> Response:
    """All bytes of a capture, and its validators: RFC 9110, section 8.8."""
    record = capture.record
    response = Response(capture.chunks(), content_type=record.content_type)
    response.content_length = record.size_bytes
    response.headers.update(SAFETY_HEADERS)
    response.set_etag(record.etag)
    # A clock may have been set back: no date lies ahead of the answer (RFC 9110, section 8.8.2.1).
    response.last_modified = datetime.fromtimestamp(min(record.captured_at, services().clock()), UTC)
    return response


def stream_answer(stream: CaptureStream, freshness: Freshness, now: float) -> Response:
    """A capture that is still arriving: without validators, which only its end can give."""
    response = Response(_passed_on(stream), content_type=stream.content_type)
    response.call_on_close(stream.close)
    if stream.length is not None:
        response.content_length = stream.length
    response.headers.update(SAFETY_HEADERS)
    response.headers["X-Cache"] = "MISS"
    response.headers["Cache-Status"] = "thumbnailer; fwd=miss"  # whether it is stored shows at its end
    response.headers.update(_keeping_headers(freshness, now))
    response.accept_ranges = "none"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would collect it first, on disk
    note(cache=CacheStatus.MISS.value, provider=stream.provider)
    return response


def _passed_on(stream: CaptureStream) -> Iterator[bytes]:
    """The pieces of a capture. One that breaks off takes the connection with it, and is no bug for the log.

    The server lets a connection end without a word that is said to have been reset.
    """
    is_begun = False
    try:
        for piece in stream:
            yield piece
            is_begun = True
    except ThumbnailerError as error:
        if not is_begun:
            raise
        log.warning("stream_broken_off", provider=stream.provider, error=type(error).__name__)
        raise ConnectionResetError(errno.ECONNRESET, str(error)) from error


def _keeping_headers(freshness: Freshness, now: float, age_seconds: int = 0) -> dict[str, str]:
    headers = {"Cache-Control": freshness.cache_control(now=now, age_seconds=age_seconds)}
    accel_expires = freshness.accel_expires(now=now, age_seconds=age_seconds)
    return headers if accel_expires is None else headers | {"X-Accel-Expires": accel_expires}
