"""The web application: build, register, return."""

from __future__ import annotations

import atexit
import contextlib
from collections.abc import Mapping
from functools import partial

import structlog
from flask import Flask

from blueprints import (
    batches,
    deliveries,
    dialects,
    explain,
    jobs,
    metrics,
    ops,
    pages,
    purge,
    screenshot,
    signing,
    usage,
    vendor_usage,
)
from blueprints.access import SECURITY_SCHEMES, register_gate
from blueprints.documented_webhooks import described_webhooks
from blueprints.edge import register_edge
from blueprints.entrance import register_entrance
from blueprints.errors import Api, register_errors
from blueprints.freshness import register_default_freshness
from blueprints.limits import register_quota_headers
from blueprints.media import media_blueprint
from blueprints.metering import register_metering
from blueprints.metrics import register_metrics
from blueprints.nowhere import register_nowhere
from blueprints.openapi import API_OPTIONS, example_of
from blueprints.playground import playground_blueprint
from blueprints.problems import PROBLEMS
from blueprints.request_log import register_request_log
from blueprints.services import EXTENSION, Services
from blueprints.vendor_answers import register_rate_headers
from blueprints.waiting import register_waiting
from config import Settings, load_settings, read_settings
from settings.serving import DoorSettings
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.local_storage import LocalStorage
from thumbnailer.telemetry import configure_logging
from wiring.access import is_to_serve, refuse_unmeant_openness
from wiring.command_line import add_commands, is_for_a_command
from wiring.web import build_services

OPENNESS = "Everyone may use this service, within the rate limits (docs/configuration.md#allow_anonymous)."

log = structlog.get_logger(__name__)


def create_app(profile: str | None = None, environ: Mapping[str, str] | None = None) -> Flask:
    """Make the application for ``development``, ``testing`` or ``production``.

    Without a ``profile``, ``APP_ENV`` names it; ``environ`` stands in for the process's environment
    variables. Raises ``ConfigurationError``, which names every fault at once; for a command of ``flask``
    there is an application all the same, so that ``flask doctor`` can say what is wrong.
    """
    failure: Exception | None = None
    try:
        app = _make_app(profile, environ)
    except Exception as error:
        if not is_for_a_command():
            raise
        failure, app = error, Flask(__name__)
    add_commands(app, partial(read_settings, profile, environ), failure)
    return app


def _make_app(profile: str | None, environ: Mapping[str, str] | None) -> Flask:
    settings = load_settings(profile, environ)
    configure_logging(settings.logs.level, is_json=settings.logs.format == "json")
    if is_to_serve():
        refuse_unmeant_openness(settings)
    app = Flask(__name__, static_folder="blueprints/static", template_folder="blueprints/templates")
    app.config.update(API_OPTIONS, MAX_CONTENT_LENGTH=settings.doors.max_body_bytes)
    services = build_services(app, settings)
    app.extensions[EXTENSION] = services
    atexit.register(services.close)
    register_edge(app, settings.doors.trusted_proxies)
    register_request_log(app)
    register_metering(app, services.accounts.meter)
    register_metrics(app, services.metrics)
    register_rate_headers(app)
    register_quota_headers(app)
    register_waiting(app)
    register_entrance(app)
    register_errors(app)
    register_nowhere(app)
    register_default_freshness(app)
    register_routes(app, services, settings.doors)
    register_gate(app, services.gate)
    if is_to_serve():
        _tell_doubts(settings, services)
    return app


def _tell_doubts(settings: Settings, services: Services) -> None:
    """The database is let go of again, for no connection may be carried over a fork."""
    for warning in settings.warnings:
        log.warning("configuration_doubt", detail=warning)
    with contextlib.suppress(DatabaseUnavailable):
        if services.gate.is_open():
            log.warning("configuration_doubt", detail=OPENNESS)
    services.database.disconnect()


def register_routes(app: Flask, services: Services, doors: DoorSettings) -> None:
    """Open the doors."""
    api = Api(app)
    api.describe_security(SECURITY_SCHEMES)
    api.describe_problems({slug: example_of(kind) for slug, kind in PROBLEMS.items()})
    api.describe_webhooks(described_webhooks())
    api.register_blueprint(screenshot.blueprint)
    for each in (jobs, batches, pages, deliveries, dialects, vendor_usage):
        api.register_blueprint(each.blueprint)
    for each in (purge, explain, signing, usage, metrics):
        api.register_blueprint(each.blueprint)
    api.register_blueprint(ops.blueprint)
    if isinstance(services.storage, LocalStorage):
        api.register_blueprint(media_blueprint(services.storage))
    if doors.has_playground:
        api.register_blueprint(playground_blueprint(doors.thumb_defaults))
    ops.register_swagger_ui(app)
