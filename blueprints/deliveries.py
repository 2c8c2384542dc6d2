"""Webhook messages: how they fared, and sending them again."""

from __future__ import annotations

from flask import Response, jsonify
from werkzeug.exceptions import NotFound

from blueprints.access import RENDER, needs
from blueprints.job_answers import describe_delivery
from blueprints.job_schemas import Deliveries, DeliveryAnswer
from blueprints.jobs import owner
from blueprints.openapi import (
    LIST_PROBLEMS,
    READ_PROBLEMS,
    REDELIVER_PROBLEMS,
    answers_problems,
    takes_idempotency_key,
)
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.jobs.deliveries import Delivery

blueprint = StrictBlueprint("deliveries", __name__, description="Webhook messages and how they fared.")


@blueprint.get("/webhooks/deliveries")
@needs(RENDER)
@blueprint.response(200, Deliveries, description="The latest messages, the newest first.")
@answers_problems(blueprint, LIST_PROBLEMS)
def deliveries() -> Response:
    """The caller's latest webhook messages."""
    services().allowance.answer()
    latest = services().jobs.deliveries.latest(owner())
    return _answer({"deliveries": [describe_delivery(each) for each in latest]})


@blueprint.get("/webhooks/deliveries/<delivery_id>")
@needs(RENDER)
@blueprint.response(200, DeliveryAnswer, description="The message and its attempts.")
@answers_problems(blueprint, READ_PROBLEMS)
def delivery(delivery_id: str) -> Response:
    """One webhook message and how it fared."""
    services().allowance.answer()
    return _answer(describe_delivery(_own_delivery(delivery_id)))


@blueprint.post("/webhooks/deliveries/<delivery_id>/redeliver")
@needs(RENDER)
@takes_idempotency_key
@blueprint.response(202, DeliveryAnswer, description="It is sent again.")
@answers_problems(blueprint, REDELIVER_PROBLEMS)
def redeliver(delivery_id: str) -> Response:
    """Send a webhook message again, under the same id."""
    return services().idempotency.once(lambda: _redelivered(delivery_id))


def _redelivered(delivery_id: str) -> Response:
    services().allowance.answer()
    _own_delivery(delivery_id)
    services().jobs.redeliver(delivery_id)
    return _answer(describe_delivery(_own_delivery(delivery_id)), 202)


def _own_delivery(delivery_id: str) -> Delivery:
    """A message of the current caller. Raises NotFound for others' as well."""
    found = services().jobs.deliveries.find(delivery_id)
    if found is None or found.owner != owner():
        raise NotFound
    return found


def _answer(document: dict[str, object], status: int = 200) -> Response:
    response = jsonify(document)
    response.status_code = status
    response.headers["Cache-Control"] = "no-store"
    return response
