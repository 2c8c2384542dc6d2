"""``GET /metrics``: what Prometheus scrapes, and the counting of each answer for it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import flask
from flask import Response

from blueprints.access import ADMIN, needs
from blueprints.openapi import METRICS_PROBLEMS, PLAIN_TEXT, answers_problems
from blueprints.problems import PROBLEMS
from blueprints.readiness import standing
from blueprints.request_log import elapsed_seconds, noted
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.circuits import BreakerState
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs import Backlog
from thumbnailer.metrics import CONTENT_TYPE, Metrics, Reading
from thumbnailer.process_memory import process_tree, used_bytes

blueprint = StrictBlueprint("metrics", __name__, description="For Prometheus.")

#: Methods are the caller's own text, and there is no end to what callers may write.
METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS"})


@blueprint.get("/metrics")
@needs(ADMIN)
@blueprint.response(200, PLAIN_TEXT, content_type="text/plain", description="Prometheus' text format.")
@answers_problems(blueprint, METRICS_PROBLEMS)
def metrics() -> Response:
    """Counters, durations and gauges of all worker processes, for Prometheus."""
    response = Response(services().metrics.exposition(_readings()), content_type=CONTENT_TYPE)
    response.headers["Cache-Control"] = "no-store"
    return response


def _readings() -> Iterator[Reading]:
    """How things stand now; the queue's gauges are missing while the database does not answer."""
    found = standing()
    parts = [((name,), float(works)) for name, works in found.parts.items()]
    yield "thumbnailer_part_up", "Whether each part works now: 1 or 0.", ("part",), parts
    if found.backlog is not None:
        yield from _queue(found.backlog)
    yield from _budget()
    yield from _memory()
    breakers = [
        ((each.name, state.value), float(each.breaker is state))
        for each in found.providers
        for state in BreakerState
    ]
    yield (
        "thumbnailer_breaker",
        "1 for the state of each provider's breaker.",
        ("provider", "state"),
        breakers,
    )


def _queue(backlog: Backlog) -> Iterator[Reading]:
    with contextlib.suppress(DatabaseUnavailable):
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


def _budget() -> Iterator[Reading]:
    """What `CAPTURE_BUDGET` leaves; missing where there is none."""
    quota = services().accounts.budgets.total_quota()
    if quota is not None:
        total, left = (((), float(quota.amount)),), (((), float(quota.remaining)),)
        yield "thumbnailer_capture_budget", "Captures that a day may bring, UTC.", (), total
        yield "thumbnailer_capture_budget_left", "Captures that are left today, UTC.", (), left


def _memory() -> Iterator[Reading]:
    """Of the service's own processes, and of what they have started: drivers and browsers."""
    own = set(services().metrics.processes())
    others = {each for process in own for each in process_tree(process)} - own
    rows = [
        ((name,), float(sum(map(used_bytes, processes))))
        for name, processes in (("service", own), ("browsers", others))
    ]
    yield "thumbnailer_memory_bytes", "Memory in use that is no copy of a file.", ("of",), rows


def register_metrics(app: flask.Flask, metrics: Metrics) -> None:
    """Count every answer of ``app``, and problems from zero on, so that the first is seen to be one more."""
    for slug in PROBLEMS:
        metrics.expect_problem(slug)
    app.after_request(partial(_count, metrics))


def _count(metrics: Metrics, response: Response) -> Response:
    request = flask.request
    route = request.url_rule.rule if request.url_rule else "none"
    method = request.method if request.method in METHODS else "other"
    cache = str(noted().get("cache", "none"))
    metrics.count_request(route, method, response.status_code, cache, elapsed_seconds())
    problem = noted().get("problem")
    if problem is not None and response.status_code >= 400:
        metrics.count_problem(str(problem))
    return response
