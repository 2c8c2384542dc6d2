"""``GET /v1/usage``: what the calling key has had, in the shapes that both APIs answer at once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any

from flask import Response, jsonify
from marshmallow import Schema, fields

from blueprints.access import ANY_ACCESS_KEY, needs
from blueprints.answer_fields import moment, nested, number, text, whole_number
from blueprints.callers import caller
from blueprints.openapi import LIST_PROBLEMS
from blueprints.schemas import StrictSchema, described
from blueprints.services import services
from blueprints.vendor_answers import QUOTA_HEADERS, answers_vendor_errors, rate_headers
from blueprints.vendors import blueprint
from thumbnailer.budgets import DAY_SECONDS
from thumbnailer.usage import Counted


class VendorUsageQuery(StrictSchema):
    """``GET /v1/usage`` takes nothing but a key, which the gate has read."""

    access_key = fields.String(
        metadata=described("The key, as SnapAPI takes it. A header keeps it out of URLs.")
    )


class VendorPeriod(Schema):
    """The time that is counted: this day, UTC."""

    start = moment("Its beginning.")
    end = moment("Its end.")


class VendorCounts(Schema):
    """SnapSharp's figures."""

    requests = whole_number("The same as used.")
    limit = whole_number("The same as limit.", allow_none=True)
    remaining = whole_number("The same as remaining.", allow_none=True)
    percentage = number("Used of limit; 0 without one.")


class VendorBreakdown(Schema):
    """SnapSharp's figures by kind of picture; there is but one."""

    screenshot = whole_number("The same as used.")


class VendorUsage(Schema):
    """What ``GET /v1/usage`` answers: SnapAPI's members, then SnapSharp's."""

    used = whole_number("Captures taken on this day, UTC.")
    limit = whole_number("The key's budget of a day; null: none.", allow_none=True)
    remaining = whole_number("What is left of it; null: no budget.", allow_none=True)
    resetAt = moment("When the day ends.")  # noqa: N815  as SnapAPI spells it
    plan = text("The key's plan, if it has one.", allow_none=True)
    period = nested(VendorPeriod, "The day.")
    usage = nested(VendorCounts, "The figures.")
    breakdown = nested(VendorBreakdown, "By kind of picture.")
    cache_hit_rate = number("The part of this day's pictures that needed no capture, 0 to 1.")


@blueprint.get("/v1/usage")
@needs(ANY_ACCESS_KEY)
@blueprint.arguments(VendorUsageQuery(), location="query")
@blueprint.response(200, VendorUsage, description="What was had on this day.", headers=QUOTA_HEADERS)
@answers_vendor_errors(blueprint, LIST_PROBLEMS)
def vendor_usage(_given: dict[str, Any]) -> Response:
    """How much the calling key has used today (UTC), as SnapSharp and SnapAPI answer it."""
    services().allowance.answer()
    account, accounts = caller().account, services().accounts
    today = accounts.meter.today()
    counts = next((day.counts for day in accounts.meter.read(today, account)), {})
    start = datetime.combine(today, time(), UTC)
    end = start + timedelta(seconds=DAY_SECONDS)
    used, quota = counts.get(Counted.CAPTURES, 0), accounts.budgets.own_quota(account)
    limit = remaining = None
    if quota is not None:  # which knows at once what other processes have taken
        used, limit = max(used, quota.amount - quota.remaining), quota.amount
        remaining = max(0, limit - used)
    response = jsonify(
        used=used,
        limit=limit,
        remaining=remaining,
        resetAt=end.isoformat(),
        plan=_plan(),
        period={"start": start.isoformat(), "end": end.isoformat()},
        usage={
            "requests": used,
            "limit": limit,
            "remaining": remaining,
            "percentage": round(100 * used / limit, 1) if limit else 0,
        },
        breakdown={"screenshot": used},
        cache_hit_rate=_hit_rate(counts),
    )
    if quota is not None and remaining is not None:
        response.headers.update(rate_headers(replace(quota, remaining=remaining)))
    return response


def _plan() -> str | None:
    key = caller().key
    return None if key is None else key.terms.plan


def _hit_rate(counts: Any) -> float:
    hits = counts.get(Counted.HITS, 0) + counts.get(Counted.STALE, 0)
    answers = hits + counts.get(Counted.MISSES, 0)
    return round(hits / answers, 4) if answers else 0.0
