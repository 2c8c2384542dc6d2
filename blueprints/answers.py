"""Dresses captures as HTTP answers: validators, cache headers and what keeps a browser safe."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Response

from blueprints.freshness import Freshness
from blueprints.problems import problem_of_error
from blueprints.request_log import note
from thumbnailer.model import CaptureRecord
from thumbnailer.pipeline import CacheStatus, Delivery
from thumbnailer.streaming import CaptureStream

#: The slug of a problem, where the answer is a picture and no document.
PROBLEM_HEADER = "X-Problem"

SAFETY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'",
    "Cross-Origin-Resource-Policy": "cross-origin",
}


@dataclass(frozen=True, slots=True)
class CacheAnswer:
    """What an answer says of the cache: ``X-Cache`` and ``Cache-Status`` (RFC 9211)."""

    x_cache: str
    cache_status: str


def _cache_answer(delivery: Delivery, ttl_seconds: int, age_seconds: int) -> CacheAnswer:
    if delivery.cache_status is CacheStatus.HIT:
        return CacheAnswer("HIT", f"thumbnailer; hit; ttl={ttl_seconds - age_seconds}")
    if delivery.cache_status is CacheStatus.STALE:
        detail = f"; detail={problem_of_error(delivery.trouble).slug}" if delivery.trouble else ""
        return CacheAnswer("STALE", f"thumbnailer; hit; ttl={ttl_seconds - age_seconds}{detail}")
    if delivery.was_purged:
        return CacheAnswer("MISS", "thumbnailer; fwd=miss; detail=purged")
    stored = "; stored" if delivery.is_kept else ""
    collapsed = "; collapsed" if delivery.cache_status is CacheStatus.COLLAPSED else ""
    return CacheAnswer("MISS", f"thumbnailer; fwd=miss{stored}{collapsed}")


def picture_answer(delivery: Delivery, freshness: Freshness, now: float) -> Response:
    """A whole capture."""
    record = delivery.capture.record
    age_seconds = max(0, int(now - record.captured_at))
    response = Response(delivery.capture.chunks(), content_type=record.content_type)
    response.content_length = record.size_bytes
    _dress(response, _cache_answer(delivery, freshness.ttl_seconds, age_seconds))
    if delivery.was_purged:
        response.headers["Cache-Control"] = "no-store"
    else:
        _limit_keeping(response, freshness, now, age_seconds)
    response.headers["Age"] = str(age_seconds)
    if delivery.trouble is not None:
        response.headers[PROBLEM_HEADER] = problem_of_error(delivery.trouble).slug
    validate_by(response, record)
    note(cache=delivery.cache_status.value, bytes=record.size_bytes)
    if delivery.cache_status is CacheStatus.MISS:
        note(provider=record.provider, upstream_ms=round(record.upstream_seconds * 1000, 1))
    return response


def validate_by(response: Response, record: CaptureRecord) -> None:
    """Give an answer its validators: RFC 9110, section 8.8."""
    response.set_etag(record.etag)
    response.last_modified = datetime.fromtimestamp(record.captured_at, UTC)


def stream_answer(stream: CaptureStream, freshness: Freshness, now: float) -> Response:
    """A capture that is still arriving: without validators, which only its end can give."""
    response = Response(stream, content_type=stream.content_type)
    if stream.length is not None:
        response.content_length = stream.length
    _dress(response, CacheAnswer("MISS", "thumbnailer; fwd=miss"))  # whether it is stored shows at its end
    _limit_keeping(response, freshness, now)
    response.accept_ranges = "none"
    response.headers["X-Accel-Buffering"] = "no"  # nginx would collect it first, on disk
    note(cache=CacheStatus.MISS.value, provider=stream.provider)
    return response


def _limit_keeping(response: Response, freshness: Freshness, now: float, age_seconds: int = 0) -> None:
    response.headers["Cache-Control"] = freshness.cache_control(now=now, age_seconds=age_seconds)
    accel_expires = freshness.accel_expires(now=now, age_seconds=age_seconds)
    if accel_expires is not None:
        response.headers["X-Accel-Expires"] = accel_expires


def _dress(response: Response, cache: CacheAnswer) -> None:
    response.headers["X-Cache"] = cache.x_cache
    response.headers["Cache-Status"] = cache.cache_status
    response.headers.update(SAFETY_HEADERS)
