"""A worker process of its own, from the settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import ExitStack

import structlog
from celery import Celery
from celery.signals import worker_ready, worker_shutdown
from flask import Flask
from flask_caching import Cache

from config import Settings
from settings.reading import ConfigurationError, Fault
from thumbnailer.metrics import Metrics
from thumbnailer.telemetry import configure_logging
from wiring.access import build_keyring
from wiring.accounts import build_accounts
from wiring.databases import build_database
from wiring.jobs import build_office, build_workshop
from wiring.queue import SWEEP_TASK, register_tasks
from wiring.trip import build_storage, build_trip, cache_config

log = structlog.get_logger(__name__)

WITHOUT_REDIS = (
    "is needed by a worker of its own: without it the web processes do the jobs themselves, "
    "and nothing has to be started"
)


#: Whose lines tell that a task has come, and how it ended, or that it came too late.
TASK_LOGGERS = ("celery.worker.strategy", "celery.app.trace", "celery.worker.request")


def build_worker(settings: Settings) -> Celery:
    """Celery with all that its tasks need. Raises ``ConfigurationError``."""
    if settings.cache.redis_url is None:
        raise ConfigurationError([Fault("REDIS_URL", WITHOUT_REDIS)])
    configure_logging(settings.logs.level, is_json=settings.logs.format == "json")
    _leave_out_sweeps()
    host = Flask("worker")  # Flask-Caching lives in an application only
    host.config.update(cache_config(settings))
    metrics = Metrics()
    trip = build_trip(settings, Cache(host), metrics.count_attempt)
    database = build_database(settings)
    office = build_office(settings, database)
    accounts = build_accounts(settings, database, build_keyring(settings, database))
    storage = build_storage(settings)
    workshop = build_workshop(settings, office, trip, storage, accounts, metrics.count_job)

    told = ExitStack()

    def begin(**_more: object) -> None:
        workshop.housekeeper.start()
        _tell(metrics, settings, told)

    def end(**_more: object) -> None:
        told.close()
        workshop.close()
        trip.close()
        accounts.meter.close()
        database.close()

    worker_ready.connect(begin, weak=False)
    worker_shutdown.connect(end, weak=False)
    app = office.celery()
    register_tasks(app, workshop.tasks, office.put_off)
    return app


def _leave_out_sweeps() -> None:
    """Keep the log free of the sweeps that beat asks for, six a minute, unless it is for debugging."""

    def is_news(record: logging.LogRecord) -> bool:
        told = record.args.values() if isinstance(record.args, Mapping) else record.args or ()
        return SWEEP_TASK not in told or record.levelno > logging.INFO

    for name in TASK_LOGGERS:
        logger = logging.getLogger(name)
        if not logger.isEnabledFor(logging.DEBUG):
            logger.addFilter(is_news)


def _tell(metrics: Metrics, settings: Settings, told: ExitStack) -> None:
    """Let Prometheus ask for the metrics until ``told`` ends; work goes on where that cannot be."""
    port = settings.jobs.metrics_port
    if not port:
        return
    try:
        told.callback(metrics.serve(settings.server.host, port))
    except OSError as error:
        log.warning("metrics_not_told", setting="JOB_METRICS_PORT", detail=str(error))
