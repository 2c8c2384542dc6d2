"""``GET /explain``: why a URL yields the picture it does. Takes no capture and looks no name up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields as fields_of
from datetime import UTC, datetime
from typing import Any

from flask import Response

from blueprints.access import ANY_KEY, needs
from blueprints.answers import document
from blueprints.capture_requests import Asked
from blueprints.error_problems import problem_of_error
from blueprints.explain_schemas import ExplainAnswer, ExplainQuery
from blueprints.openapi import EXPLAIN_PROBLEMS, answers_problems
from blueprints.pictures import complete_request, entitle, screenshot_door, thumb_door
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.errors import ThumbnailerError
from thumbnailer.explaining import Candidate, Explanation
from thumbnailer.model import (
    NEUTRAL_OPTIONS,
    CaptureRecord,
    Clip,
    Geolocation,
    StatusRange,
)
from thumbnailer.pipeline import STALE_WHILE_REVALIDATE_SECONDS
from thumbnailer.purges import Mark
from thumbnailer.setbacks import Setback

blueprint = StrictBlueprint("explain", __name__, description="Why a URL yields the picture it does.")


@blueprint.get("/explain")
@needs(ANY_KEY)
@blueprint.arguments(ExplainQuery(), location="query", error_status_code=400)
@blueprint.response(200, ExplainAnswer, description="The explanation.")
@answers_problems(blueprint, EXPLAIN_PROBLEMS)
def explain(given: dict[str, Any]) -> Response:
    """Why a URL yields the picture it does.

    Takes the query of `/thumb` or `/screenshot`, and says what that would do now. No capture is taken.
    """
    services().allowance.answer()
    route = given.pop("route", "thumb")
    asked = entitle(complete_request(given, thumb_door() if route == "thumb" else screenshot_door()))
    found = services().explainer.explain(
        asked.request, max_age_seconds=asked.max_age_seconds, wants_new=asked.is_fresh
    )
    return document(_told(asked, route, found, services().clock()))


def _told(asked: Asked, route: str, found: Explanation, now: float) -> dict[str, Any]:
    outcome = found.outcome
    return {
        "target": asked.request.capture.url,
        "route": route,
        "options": _options(asked),
        "capture_key": found.capture_key,
        "rendition_key": found.rendition_key,
        "capture": _picture(found.capture, asked.max_age_seconds, now),
        "rendition": _picture(found.rendition, asked.max_age_seconds, now),
        "failure": _failure(found.setback, now),
        "purges": [_purge(mark) for mark in found.marks],
        "tags": list(found.site.tags()),
        "providers": [_provider(each) for each in found.candidates],
        "now": {
            "action": outcome.action.value,
            "reason": outcome.reason,
            "refreshes": outcome.refreshes,
            "provider": outcome.provider,
            "problem": _slug(outcome.trouble),
            "detail": str(outcome.trouble) if outcome.trouble else None,
        },
    }


def _options(asked: Asked) -> dict[str, object]:
    """As a caller would write them in a query, but for numbers and flags."""
    capture, rendition = asked.request.capture, asked.request.rendition
    options = {name: _written(getattr(capture, name)) for name in NEUTRAL_OPTIONS}
    options["fail_on_status"] = options["fail_on_status"] or "none"
    options["ttl"] = asked.ttl_seconds
    if rendition:
        options |= {part.name: _written(getattr(rendition, part.name)) for part in fields_of(rendition)}
        options["quality"] = rendition.effective_quality
    return dict(sorted(options.items()))


def _written(value: object) -> object:
    match value:
        case Clip(x, y, width, height):
            return f"{x},{y},{width},{height}"
        case Geolocation(latitude, longitude):
            return f"{latitude},{longitude}"
        case tuple():
            ranges = [_range(one) for one in value if isinstance(one, StatusRange)]
            return ",".join(ranges) if ranges else list(value)
        case _:
            return value


def _range(statuses: StatusRange) -> str:
    if statuses.first == statuses.last:
        return str(statuses.first)
    return f"{statuses.first}-{statuses.last}"


def _picture(record: CaptureRecord | None, ttl_seconds: int, now: float) -> dict[str, object] | None:
    if record is None:
        return None
    fresh_until = record.captured_at + ttl_seconds
    return {
        "captured_at": _moment(record.captured_at),
        "age_seconds": max(0, int(now - record.captured_at)),
        "fresh_until": _moment(fresh_until),
        "stale_until": _moment(fresh_until + STALE_WHILE_REVALIDATE_SECONDS),
        "provider": record.provider,
        "content_type": record.content_type,
        "size_bytes": record.size_bytes,
        "width": record.width,
        "height": record.height,
        "etag": record.etag,
    }


def _failure(setback: Setback | None, now: float) -> dict[str, object] | None:
    if setback is None:
        return None
    return {
        "problem": _slug(setback.error),
        "detail": str(setback.error),
        "count": setback.count,
        "failed_at": _moment(setback.noted_at),
        "retry_at": _moment(setback.retry_at),
        "retry_seconds": max(0, round(setback.retry_at - now)),
    }


def _purge(mark: Mark) -> Mapping[str, str]:
    name = f" {mark.scope.name.partition('/')[0]}" if mark.scope.name else ""
    return {"scope": f"{mark.scope.extent}{name}", "before": _moment(mark.at)}


def _provider(candidate: Candidate) -> dict[str, object]:
    return {
        "name": candidate.name,
        "lacks": candidate.lacks,
        "breaker": candidate.breaker.value,
        "ready": candidate.is_ready,
    }


def _slug(error: ThumbnailerError | None) -> str | None:
    return problem_of_error(error).slug if error else None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
