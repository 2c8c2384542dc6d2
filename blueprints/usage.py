"""What the caller has had, by day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import groupby
from typing import Any

from flask import Response
from marshmallow import Schema, validate

from blueprints.access import ANY_KEY, needs
from blueprints.answer_fields import nested, nested_list, text, whole_number
from blueprints.answers import document
from blueprints.callers import caller
from blueprints.fields import WholeNumber
from blueprints.openapi import LIST_PROBLEMS, answers_problems
from blueprints.schemas import StrictSchema, described
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.accounts import key_id_of
from thumbnailer.keys import Scope
from thumbnailer.usage import NAMES, DayOfUsage

DAYS = 30

blueprint = StrictBlueprint("usage", __name__, description="How much callers have used.")


class UsageQuery(StrictSchema):
    """``GET /usage``."""

    days = WholeNumber(
        validate=validate.Range(1, 400),
        metadata=described("So many days, today (UTC) included.", default=DAYS),
    )


class UsageCounts(Schema):
    """What was had."""

    captures = whole_number("Captures taken, those of jobs and behind old pictures included.")
    hits = whole_number("Answers with a picture that was there, or that another took.")
    stale = whole_number("Answers with an old picture.")
    misses = whole_number("Answers with a new picture.")
    refusals = whole_number("Answers with the status 401, 402, 403 or 429.")
    size_bytes = whole_number("Bytes of the pictures in these answers.")


class UsageDay(UsageCounts):
    """The same of one day."""

    day = text("A day, UTC.", format="date")


class UsageAccount(Schema):
    """What one account had."""

    account = text(
        "key: and the key's id; signed for signed URLs; operator for commands; anonymous for all others."
    )
    name = text("The key's name.", allow_none=True)
    days = nested_list(UsageDay, "Days on which there was something.")
    total = nested(UsageCounts, "All of them together.")


class UsageAnswer(Schema):
    """What ``GET /usage`` answers."""

    first_day = text("From this day on, UTC.", format="date")
    last_day = text("To this day, UTC.", format="date")
    accounts = nested_list(
        UsageAccount, "The caller's own account; for the scope admin all that had something."
    )


@blueprint.get("/usage")
@needs(ANY_KEY)
@blueprint.arguments(UsageQuery(), location="query")
@blueprint.response(200, UsageAnswer, description="What was had, by day.")
@answers_problems(blueprint, LIST_PROBLEMS)
def usage(given: dict[str, Any]) -> Response:
    """How much the caller has used, by day; with the scope admin, how much all have used."""
    services().allowance.answer()
    meter = services().accounts.meter
    last = meter.today()
    first = last - timedelta(given.get("days", DAYS) - 1)
    own = caller().account
    is_for_all = caller().key is not None and caller().may(Scope.ADMIN)
    found = meter.read(first, None if is_for_all else own)
    by_account = {account: tuple(days) for account, days in groupby(found, lambda day: day.account)}
    accounts: dict[str, Sequence[DayOfUsage]] = {own: (), **by_account}
    described = [_described(account, days) for account, days in sorted(accounts.items())]
    return document({"first_day": first.isoformat(), "last_day": last.isoformat(), "accounts": described})


def _described(account: str, days: Sequence[DayOfUsage]) -> dict[str, Any]:
    return {
        "account": account,
        "name": _name_of(account),
        "days": [{"day": each.day.isoformat(), **each.counts} for each in days],
        "total": {name: sum(each.counts[name] for each in days) for name in NAMES},
    }


def _name_of(account: str) -> str | None:
    key_id = key_id_of(account)
    return None if key_id is None else services().keyring.name_of(key_id)
