"""How the parts of the service do, for probes and for Prometheus."""

from __future__ import annotations

from blueprints.services import services
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs import Backlog


def backlog() -> Backlog | None:
    """What is still to be done; None while the database does not answer."""
    try:
        return services().jobs.backlog()
    except DatabaseUnavailable:
        return None


def part_states(backlog: Backlog | None) -> dict[str, bool]:
    """Whether each part works now, by name; some seconds may go by where one is silent."""
    states = {name: check() for name, check in services().checks.items()}
    states["jobs"] = backlog is not None and not backlog.is_stuck
    return states
