"""``GET /metrics``: what Prometheus scrapes, and the counting of each answer for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import flask
from flask import Response

from blueprints.access import ADMIN, needs
from blueprints.openapi import READ_PROBLEMS, answers_problems
from blueprints.request_log import elapsed_seconds, noted
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.circuits import BreakerState
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.metrics import CONTENT_TYPE, Metrics, Reading

blueprint = StrictBlueprint("metrics", __name__, description="For Prometheus.")

#: Methods are the caller's own text, and there is no end to what callers may write.
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"})


@blueprint.get("/metrics")
@needs(ADMIN)
@blueprint.response(200, {}, content_type="text/plain", description="Prometheus' text format.")
@answers_problems(blueprint, READ_PROBLEMS)
def metrics() -> Response:
    """Counters, durations and gauges of all worker processes, for Prometheus."""
    response = Response(services().metrics.exposition(_readings()), content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response


def _readings() -> Iterator[Reading]:
    """How things stand now; the queue's gauges are missing while the database does not answer."""
    with contextlib.suppress(DatabaseUnavailable):
        backlog = services().jobs.backlog()
        states = ((("pending",), backlog.pending), (("processing",), backlog.processing))
        yield "thumbnailer_jobs", "Jobs that have not ended, by state.", ("state",), states
        age = (((), backlog.oldest_seconds),)
        yield "thumbnailer_oldest_job_seconds", "Age of the oldest job that has not ended.", (), age
        messages = [
            ((state.value,), float(number)) for state, number in services().jobs.deliveries.count().items()
        ]
        yield (
            "thumbnailer_webhook_messages",
            "Webhook messages that are kept, by state.",
            ("state",),
            messages,
        )
        yield "thumbnailer_job_workers", "Processes that do jobs.", (), (((), backlog.workers),)
    breakers = [
        ((each.name, state.value), float(each.breaker is state))
        for each in services().providers()
        for state in BreakerState
    ]
    yield (
        "thumbnailer_breaker",
        "1 for the state of each provider's breaker.",
        ("provider", "state"),
        breakers,
    )


def register_metrics(app: flask.Flask, metrics: Metrics) -> None:
    """Count every answer of ``app``."""
    app.after_request(partial(_count, metrics))


def _count(metrics: Metrics, response: Response) -> Response:
    request = flask.request
    route = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in METHODS else "other"
    cache = str(noted().get("cache", "none"))
    metrics.count_request(route, method, response.status_code, cache, elapsed_seconds())
    return response
