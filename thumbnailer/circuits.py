"""What is known of each provider's health, and where all who take captures keep it together."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Protocol

import redis
from redis.exceptions import RedisError

from thumbnailer.cooldown import CoolDown
from thumbnailer.model import END_OF_DATES

#: A provider that nobody has called for a day starts afresh.
KEPT_SECONDS = 86_400


class BreakerState(StrEnum):
    """Closed lets every call through, open none, half-open a single one, the probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Circuit:
    """One provider's health; all times are Unix time in seconds.

    ``failures`` counts those in a row, ``fault`` names the kind of the last. ``open_until`` is zero
    while the breaker is closed; once that time has passed, it is half-open, and whoever calls next is
    the probe until ``probe_until``. ``answered_at`` is when the provider last delivered, to the second.
    """

    failures: int = 0
    fault: str | None = None
    open_until: float = 0.0
    probe_until: float = 0.0
    answered_at: float | None = None

    def state(self, now: float) -> BreakerState:
        if self.open_until == 0.0:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self.open_until else BreakerState.HALF_OPEN


HEALTHY = Circuit()

Step = Callable[[Circuit], Circuit]


class Circuits(Protocol):
    """Keeps a ``Circuit`` for each provider; never raises."""

    def read(self, provider: str) -> Circuit: ...

    def change(self, provider: str, step: Step) -> tuple[Circuit, Circuit]:
        """Put what ``step`` makes of the circuit in its place; both, the old one and the new one.

        No other change comes between reading and writing: ``step`` may be called again instead.
        """


class LocalCircuits:
    """The circuits of this process."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._circuits: dict[str, Circuit] = {}

    def read(self, provider: str) -> Circuit:
        return self._circuits.get(provider, HEALTHY)

    def change(self, provider: str, step: Step) -> tuple[Circuit, Circuit]:
        with self._guard:
            before = self.read(provider)
            after = self._circuits[provider] = step(before)
            return before, after


class RedisCircuits:
    """The circuits of all workers and machines; ``fallback`` serves while Redis is out of reach.

    ``client`` needs ``socket_timeout`` and ``socket_connect_timeout``, without which a silent Redis
    would hang every caller.
    """

    def __init__(
        self,
        client: redis.Redis,
        fallback: Circuits,
        *,
        prefix: str,
        cool_down: CoolDown | None = None,
    ) -> None:
        self._client = client
        self._fallback = fallback
        self._prefix = prefix
        self._cool_down = cool_down or CoolDown("Redis, for circuit breakers,")

    def read(self, provider: str) -> Circuit:
        found = self._cool_down.call(lambda: _decoded(self._client.get(self._prefix + provider)), RedisError)
        return found or self._fallback.read(provider)

    def change(self, provider: str, step: Step) -> tuple[Circuit, Circuit]:
        key = self._prefix + provider

        changed = (HEALTHY, HEALTHY)

        def swap(pipe: Any) -> None:
            nonlocal changed
            before = _decoded(pipe.get(key))
            changed = (before, step(before))
            pipe.multi()
            if changed[1] != before:
                pipe.set(key, json.dumps(asdict(changed[1])), ex=KEPT_SECONDS)

        def transact() -> tuple[Circuit, Circuit]:
            # WATCH, read, MULTI, write, EXEC; redis-py begins again where somebody else was faster.
            self._client.transaction(swap, key)
            return changed

        return self._cool_down.call(transact, RedisError) or self._fallback.change(provider, step)


def _decoded(content: Any) -> Circuit:
    """The circuit that was written; a healthy one for nothing, or for what is none of ours."""
    try:
        found = json.loads(content or b"{}")
        answered_at = found.get("answered_at")
        circuit = Circuit(
            failures=int(found.get("failures", 0)),
            fault=found.get("fault") and str(found["fault"]),
            open_until=float(found.get("open_until", 0.0)),
            probe_until=float(found.get("probe_until", 0.0)),
            answered_at=None if answered_at is None else float(answered_at),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return HEALTHY
    moments = (circuit.open_until, circuit.probe_until, circuit.answered_at or 0.0)
    return circuit if all(0 <= moment < END_OF_DATES for moment in moments) else HEALTHY
