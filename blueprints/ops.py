"""What operators and their probes ask: does it live, can it work, what is it."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import flask
import flask_swagger_ui
from flask import Response, render_template
from marshmallow import Schema, fields
from werkzeug.exceptions import NotFound

from blueprints.access import OPEN, needs
from blueprints.answer_fields import flag, nested, nested_list, number, text, whole_number
from blueprints.answers import document
from blueprints.openapi import PAGE_PROBLEMS, PLAIN_TEXT, answers_problems
from blueprints.problems import PROBLEMS
from blueprints.readiness import standing
from blueprints.schemas import described
from blueprints.strict_blueprint import StrictBlueprint
from blueprints.web_pages import web_page
from thumbnailer.circuits import BreakerState
from thumbnailer.providers.fallback import ProviderHealth

blueprint = StrictBlueprint("ops", __name__, description="For operators and their probes.")

SWAGGER_UI_FOLDER = Path(flask_swagger_ui.__file__).parent / "dist"
#: Swagger UI sets styles of its own, draws icons as data URLs, and shows pictures that it asked for as blobs.
PAGE_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
#: Parts without which no new picture can be made; the others only make it slower or impermanent.
VITAL_PARTS = frozenset({"provider"})


class Health(Schema):
    """What ``GET /health`` answers."""

    ok = flag("Always true: the process lives.")


class ProviderReadiness(Schema):
    """How one provider does."""

    name = text("Its name in PROVIDERS.")
    breaker = text(
        "closed: it is called. open: it failed several times in a row and is left alone. "
        "half-open: the next capture tries it.",
        enum=[state.value for state in BreakerState],
    )
    ready = flag("Whether it could start a capture.")
    in_charge = flag("Whether it is the one called first now.")
    answered_at = fields.DateTime(
        required=True,
        allow_none=True,
        metadata=described("When it last delivered a picture; null where that is not known."),
    )


class JobReadiness(Schema):
    """How the work behind the answers does."""

    pending = whole_number("Jobs that wait for a worker.")
    processing = whole_number("Jobs that are being done.")
    oldest_seconds = number("For how long the oldest of them has waited for its end.")
    workers = whole_number("Processes that do jobs now; without Redis they start with the first one.")


class Readiness(Schema):
    """What ``GET /ready`` answers."""

    status = text("ready, degraded or down.", enum=["ready", "degraded", "down"])
    parts = fields.Dict(
        keys=fields.String(),
        values=fields.String(),
        required=True,
        metadata=described("Each part, ok or down."),
    )
    providers = nested_list(ProviderReadiness, "Each provider, in the order of PROVIDERS.")
    jobs = nested(JobReadiness, "The work behind the answers; null without a database.", allow_none=True)


@blueprint.get("/health")
@needs(OPEN)
@blueprint.response(200, Health, description="It lives.")
def health() -> dict[str, bool]:
    """Whether the process lives; checks nothing else."""
    return {"ok": True}


@blueprint.get("/ready")
@needs(OPEN)
@blueprint.response(200, Readiness, description="Pictures can be made, perhaps with less comfort.")
@blueprint.alt_response(503, schema=Readiness, description="No picture can be made.", success=True)
def ready() -> Response:
    """Whether cache, limiter, storage, database, providers and jobs work; degraded is not down.

    Open breakers degrade and no more: old pictures are still answered, and only traffic closes them again.
    """
    found = standing()
    is_down = any(not works and name in VITAL_PARTS for name, works in found.parts.items())
    is_whole = all(found.parts.values()) and all(
        each.breaker is BreakerState.CLOSED for each in found.providers
    )
    state = {
        "status": "down" if is_down else "ready" if is_whole else "degraded",
        "parts": {name: "ok" if works else "down" for name, works in found.parts.items()},
        "providers": [_described(each) for each in found.providers],
        "jobs": found.backlog and asdict(found.backlog),
    }
    return document(state, 503 if is_down else 200)


def _described(provider: ProviderHealth) -> dict[str, object]:
    at = provider.answered_at
    return {
        "name": provider.name,
        "breaker": provider.breaker.value,
        "ready": provider.is_ready,
        "in_charge": provider.is_in_charge,
        "answered_at": None if at is None else datetime.fromtimestamp(at, UTC).isoformat(),
    }


@blueprint.get("/problems/<slug>")
@needs(OPEN)
@blueprint.response(200, PLAIN_TEXT, content_type="text/html", description="The page.")
@answers_problems(blueprint, PAGE_PROBLEMS)
def problem(slug: str) -> Response:
    """The page that explains one kind of problem."""
    if slug not in PROBLEMS:
        raise NotFound
    return _page("problem.html", problem=PROBLEMS[slug])


@blueprint.get("/docs")
@needs(OPEN)
@blueprint.response(200, PLAIN_TEXT, content_type="text/html", description="The page.")
def docs() -> Response:
    """The interactive page for the OpenAPI document."""
    return _page("docs.html")


def _page(template: str, **shown: object) -> Response:
    """A page for people, which leads to the playground where there is one."""
    has_playground = "playground" in flask.current_app.blueprints
    return web_page(render_template(template, has_playground=has_playground, **shown), PAGE_POLICY)


def swagger_ui_file(name: str) -> Response:
    """One of Swagger UI's own files."""
    return flask.send_from_directory(SWAGGER_UI_FOLDER, name, max_age=86_400)


def register_swagger_ui(app: flask.Flask) -> None:
    """Serve Swagger UI from this service: no page of it loads anything from elsewhere."""
    app.add_url_rule("/docs/assets/<path:name>", "swagger_ui_file", swagger_ui_file)
