"""gunicorn's settings, made from the service's own; gunicorn reads this file by its name.

The master builds the application, once, so that the workers share the memory that it takes up, and none of
them waits for it. Nothing of it is used before the fork: Chromium's driver, boto3's clients, libvips,
connections and threads are made by the worker that first needs them.
"""

from __future__ import annotations

import gc

# Nothing that is made during the start is garbage; looking for some takes a quarter of its time.
gc.disable()

# ruff: noqa: E402 - what is imported is most of that
import os
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from app import create_app
from blueprints.services import EXTENSION
from config import ConfigurationError, load_settings
from thumbnailer.ended_counters import forget_ended
from thumbnailer.metrics import FOLDER_VARIABLE
from thumbnailer.scratch import ScratchFolder
from thumbnailer.telemetry import configure_logging
from wiring.access import refuse_unmeant_openness
from wiring.client_watch import ClientBounds
from wiring.fast_worker import FastWorker, ReplayBounds
from wiring.malloc import bound_malloc
from wiring.web import check_settings
from wiring.web_worker import hold_stop_signals, release_stop_signals

try:
    settings = load_settings()
    check_settings(settings)
    refuse_unmeant_openness(settings)
except ConfigurationError as error:
    raise SystemExit(str(error)) from None  # one clear message instead of one from each worker


class ServiceLogger(Logger):  # type: ignore[misc]  # gunicorn carries no types
    """gunicorn's own lines in the form of all others; the application logs the requests itself."""

    def setup(self, cfg: Any) -> None:
        """Let gunicorn's messages go to the root logger."""
        super().setup(cfg)
        configure_logging(settings.logs.level, is_json=settings.logs.format == "json")
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class BoundedWorker(FastWorker):
    """The worker with this service's bounds; gunicorn makes its workers by itself."""

    client_bounds = ClientBounds(
        request_seconds=settings.server.client_request_seconds,
        answer_seconds=settings.providers.timeout_seconds + settings.server.client_answer_seconds,
        max_body_bytes=settings.doors.max_body_bytes,
    )
    replay_bounds = ReplayBounds(
        life_seconds=settings.cache.replay_seconds,
        max_bytes=settings.cache.replay_bytes,
        trusted_proxies=settings.doors.trusted_proxies,
        is_log_json=settings.logs.format == "json",
    )


bound_malloc()

wsgi_app = f"{create_app.__module__}:{create_app.__name__}()"
logger_class = ServiceLogger
bind = f"[{settings.server.host}]" if ":" in settings.server.host else settings.server.host
bind += f":{settings.server.port}"

# Threads, because most of them wait: for a capture, or for a client that reads slowly.
worker_class = BoundedWorker
workers = settings.server.workers
threads = settings.server.threads

# A thousand connections may be idle between requests, whatever the threads are busy with.
worker_connections = threads + 1000

# The heartbeat file blocks on a slow disk; memory never does.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a file of gunicorn's own

# A stop waits for the longest capture, and for the answer to be sent after it.
graceful_timeout = int(settings.providers.timeout_seconds) + 15
timeout = graceful_timeout + 15

# Longer than the proxy keeps idle connections, so that it never reuses one that is closing here.
keepalive = settings.server.client_keepalive_seconds

# A URL of 2,048 characters may arrive with three times as many once it is percent-encoded, and
# options follow; 8,190 is the most that gunicorn can be told.
limit_request_line = 8190

# More than browsers and proxies send together; each may hold the longest line, a signed cookie for one.
limit_request_fields = 64
limit_request_field_size = 8190

# Whose word is taken that the client came by https (X-Forwarded-Proto).
forwarded_allow_ips = ",".join(str(network) for network in settings.doors.trusted_proxies)

# A proxy passes on what clients send, so nobody says by a header where the application is mounted.
forwarder_headers = ""

# Its default path is the same for every instance of one user; nothing here needs it.
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Give all worker processes one folder for what they count, and one application.

    A new folder, whatever the environment says: what is there may be that of the master that this one
    replaces.
    """
    folder = ScratchFolder("thumbnailer-metrics-")
    os.environ[FOLDER_VARIABLE] = str(folder.path)
    folder.remove_at_exit()
    os.register_at_fork(after_in_parent=release_stop_signals)
    server.app.wsgi()


def on_reload(server: Any) -> None:
    """Build the application anew, with the settings as they are now, and forget the old one."""
    server.app.callable = None
    gc.unfreeze()
    gc.collect()
    server.app.wsgi()


def child_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn calls it with both
    """Count a worker that has ended no more as one that lives, and keep what it has counted."""
    forget_ended(Path(os.environ[FOLDER_VARIABLE]), {server.pid, *server.WORKERS})


def pre_fork(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn calls it with both
    """Leave what is there alone: a garbage collector that looks at it would copy its memory.

    Nothing is collected before: that takes a tenth of the start, and the workers would fill the gaps that it
    leaves, each in copies of its own.

    The new worker hears of a stop once it can follow it.
    """
    gc.freeze()
    gc.enable()
    hold_stop_signals()


def post_worker_init(worker: Any) -> None:
    """Go on with jobs that an earlier process has left."""
    worker.application.extensions[EXTENSION].resume()


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn calls it with both
    """Close what a worker holds before its threads are joined, so that none waits for a capture."""
    application = getattr(worker, "application", None)
    services = getattr(application, "extensions", {}).get(EXTENSION)
    if services is not None:
        services.close()
