"""How the parts of the service do, for probes and for Prometheus."""

from __future__ import annotations

import contextvars
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blueprints.services import services
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs import Backlog


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether each part works now, by name, and what is still to be done; None without a database."""

    parts: dict[str, bool]
    backlog: Backlog | None


def standing() -> Standing:
    """Try every part, all at once: one that is silent takes some seconds, several take no longer."""
    checks = services().checks
    with ThreadPoolExecutor(len(checks), thread_name_prefix="check") as executor:
        tried = {
            name: executor.submit(contextvars.copy_context().run, check) for name, check in checks.items()
        }
        backlog = _backlog()
    parts = {name: answer.result() for name, answer in tried.items()}
    return Standing({**parts, "jobs": backlog is not None and not backlog.is_stuck}, backlog)


def _backlog() -> Backlog | None:
    try:
        return services().jobs.backlog()
    except DatabaseUnavailable:
        return None
