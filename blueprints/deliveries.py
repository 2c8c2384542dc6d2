"""Webhook messages: how they fared, and sending them again."""

from __future__ import annotations

from typing import Any

from flask import Response

from blueprints.access import RENDER, needs
from blueprints.answers import document
from blueprints.callers import caller, own
from blueprints.cursors import ListQuery, listed
from blueprints.documented_headers import REPLAYED_HEADERS
from blueprints.job_answers import describe_delivery
from blueprints.job_schemas import Deliveries, DeliveryAnswer
from blueprints.openapi import (
    LIST_PROBLEMS,
    READ_PROBLEMS,
    REDELIVER_PROBLEMS,
    answers_problems,
    takes_idempotency_key,
)
from blueprints.parsing import takes_no_parameters
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint

blueprint = StrictBlueprint("deliveries", __name__, description="Webhook messages and their attempts.")


@blueprint.get("/webhooks/deliveries")
@needs(RENDER)
@blueprint.arguments(ListQuery(), location="query")
@blueprint.response(200, Deliveries, description="The latest messages, the newest first, a hundred at most.")
@answers_problems(blueprint, LIST_PROBLEMS)
def deliveries(given: dict[str, Any]) -> Response:
    """The caller's webhook messages, the newest first, a hundred at most.

    For the next hundred, give the `next_cursor` of the answer as `cursor`.
    """
    services().allowance.answer()
    found, rest = listed(services().jobs.deliveries.latest, caller().owner, given.get("cursor"))
    return document({"deliveries": [describe_delivery(each) for each in found], "next_cursor": rest})


@blueprint.get("/webhooks/deliveries/<delivery_id>")
@needs(RENDER)
@blueprint.response(200, DeliveryAnswer, description="The message and its attempts.")
@answers_problems(blueprint, READ_PROBLEMS)
@takes_no_parameters
def delivery(delivery_id: str) -> Response:
    """One webhook message and its attempts."""
    services().allowance.answer()
    return _described(delivery_id)


@blueprint.post("/webhooks/deliveries/<delivery_id>/redeliver")
@needs(RENDER)
@takes_idempotency_key
@blueprint.response(202, DeliveryAnswer, description="It is sent again.", headers=REPLAYED_HEADERS)
@answers_problems(blueprint, REDELIVER_PROBLEMS)
@takes_no_parameters
def redeliver(delivery_id: str) -> Response:
    """Send a webhook message again, under the same id."""
    return services().idempotency.once(lambda: _redelivered(delivery_id))


def _redelivered(delivery_id: str) -> Response:
    services().allowance.answer()
    own(services().jobs.deliveries.find(delivery_id))
    services().jobs.redeliver(delivery_id)
    return _described(delivery_id, 202)


def _described(delivery_id: str, status: int = 200) -> Response:
    return document(describe_delivery(own(services().jobs.deliveries.find(delivery_id))), status)
