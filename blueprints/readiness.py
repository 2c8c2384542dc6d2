"""How the parts of the service do, for probes and for Prometheus."""

from __future__ import annotations

import contextvars
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from blueprints.services import services
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs import Backlog
from thumbnailer.providers.fallback import ProviderHealth


@dataclass(frozen=True, slots=True)
class Standing:
    """Whether each part works, by name, how each provider does, and what is still to be done.

    ``backlog`` is None without a database.
    """

    parts: dict[str, bool]
    providers: Sequence[ProviderHealth]
    backlog: Backlog | None


def standing() -> Standing:
    """How the parts do, for all who ask in the same moments."""
    found: Standing = services().examination.outcome(_examine)
    return found


def _examine() -> Standing:
    """Try every part, all at once: one that is silent takes some seconds, several take no longer."""
    checks = services().checks
    with ThreadPoolExecutor(len(checks), thread_name_prefix="check") as executor:
        tried = {
            name: executor.submit(contextvars.copy_context().run, check) for name, check in checks.items()
        }
        backlog = _backlog()
        providers = services().providers()
    parts = {name: answer.result() for name, answer in tried.items()}
    return Standing({**parts, "jobs": backlog is not None and not backlog.is_stuck}, providers, backlog)


def _backlog() -> Backlog | None:
    try:
        return services().jobs.backlog()
    except DatabaseUnavailable:
        return None
