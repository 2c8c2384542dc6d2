"""gunicorn's settings, made from the service's own; gunicorn reads this file by its name.

The application is not preloaded: Chromium's driver, boto3's clients and libvips deadlock or mix up
answers when they are used before a fork, so each worker builds its own after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

from config import ConfigurationError, load_settings
from thumbnailer.telemetry import configure_logging

try:
    settings = load_settings()
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


wsgi_app = "app:create_app()"
logger_class = ServiceLogger
bind = f"[{settings.server.host}]" if ":" in settings.server.host else settings.server.host
bind += f":{settings.server.port}"

# Threads, because most of them wait: for a capture, or for a client that reads slowly.
worker_class = "gthread"
workers = settings.server.workers
threads = settings.server.threads

# The heartbeat file blocks on a slow disk; memory never does.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - a file of gunicorn's own

# A stop waits for the longest capture, and for the answer to be sent after it.
graceful_timeout = int(settings.providers.timeout_seconds) + 15
timeout = graceful_timeout + 15

# Longer than the proxy keeps idle connections, so that it never reuses one that is closing here.
keepalive = 75

# A URL of 2,048 characters may arrive with three times as many once it is percent-encoded, and
# options follow; 8,190 is the most that gunicorn can be told.
limit_request_line = 8190

# Whose word is taken that the client came by https (X-Forwarded-Proto).
forwarded_allow_ips = ",".join(str(network) for network in settings.doors.trusted_proxies)

# Its default path is the same for every instance of one user; nothing here needs it.
control_socket_disable = True


def worker_exit(server: Any, worker: Any) -> None:  # noqa: ARG001 - gunicorn calls it with both
    """Close what a worker holds before its threads are joined, so that none waits for a capture."""
    application = getattr(worker, "wsgi", None)
    services = getattr(application, "extensions", {}).get("thumbnailer")
    if services is not None:
        services.close()
