"""Checks of Redis, as a cache, as the store of counters, and as the queue's broker."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, cast

import redis
from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
)

from thumbnailer.circuits import BreakerState, Circuit, Circuits, Step
from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.model import Deadline

MIB = 1024 * 1024
#: Should the probe not be deleted, it goes by itself after so many seconds.
PROBE_SECONDS = 60
#: Ages of pictures are told by clocks, which may differ by so many seconds; beyond the second number
#: locks and signed URLs suffer as well.
FAIR_CLOCK_SECONDS, LEAST_CLOCK_SECONDS = 1.0, 30.0

Connect = Callable[[], redis.Redis]


def answers(_deadline: Deadline, *, connect: Connect, setting: str, prefix: str) -> Verdict:
    """Greets the server, and writes, reads and deletes a value under a key of its own."""
    key, value = f"{prefix}doctor:{secrets.token_hex(8)}", secrets.token_bytes(8)
    try:
        with closing(connect()) as client:
            begun_at = time.perf_counter()
            client.ping()
            milliseconds = (time.perf_counter() - begun_at) * 1000
            version = _facts(client, "server").get("redis_version", "of an unknown version")
            client.set(key, value, ex=PROBE_SECONDS)
            is_kept = client.get(key) == value
            client.delete(key)
    except RedisError as error:
        return _trouble(error, setting)
    if not is_kept:
        return wrong("it lost a value at once", "See that it has memory and is no read-only replica.")
    return well(f"Redis {version} answers in {milliseconds:.1f} ms")


def _trouble(error: RedisError, setting: str) -> Verdict:
    if isinstance(error, AuthenticationError):
        return wrong("it does not let us in", f"Put the right user and password into {setting}.")
    if isinstance(error, NoPermissionError):
        return wrong(
            "our user may not do what is needed",
            "Let its ACL allow all keys and all commands but those for administrators.",
        )
    if isinstance(error, OutOfMemoryError):
        return wrong(
            "it is full and evicts nothing", "Raise its maxmemory, or let it evict if it is the cache alone."
        )
    if isinstance(error, redis.exceptions.TimeoutError):
        return wrong(
            "no answer within REDIS_TIMEOUT",
            f"See whether {setting} names the right host, and what keeps it busy.",
        )
    if isinstance(error, redis.exceptions.ConnectionError):
        return wrong(
            f"it cannot be reached: {_first_words(error)}", f"Start it, or let {setting} name where it is."
        )
    return wrong(f"it refuses: {_first_words(error)}", "See what its own log says.")


def _first_words(error: RedisError) -> str:
    return str(error).split("\n", 1)[0][:200]


def evicts_when_full(_deadline: Deadline, *, connect: Connect, holds_counters: bool) -> Verdict:
    """Looks at the bound of a cache and at what happens there; a store that also counts must not evict."""
    limit, policy = _bound(connect)
    found = _told_bound(limit, policy)
    if holds_counters and limit and policy != "noeviction":
        advice = "Give the counters a Redis of their own by LIMITER_REDIS_URL, or let this one evict nothing."
        return doubtful(f"{found}; the counters of the limits lie there too", advice)
    if not limit:
        return doubtful(found, "Set maxmemory, and maxmemory-policy to allkeys-lru if it is the cache alone.")
    if policy == "noeviction" and not holds_counters:
        return doubtful(found, "Set maxmemory-policy to allkeys-lru, or a full cache takes nothing new.")
    return well(found)


def forgets_no_counter(_deadline: Deadline, *, connect: Connect) -> Verdict:
    """Looks at what happens when the counters' store is full, and whether it keeps them over a restart."""
    limit, policy = _bound(connect)
    with closing(connect()) as client:
        facts = _facts(client, "persistence")
    persists = "persists" if facts.get("aof_enabled") else "forgets them when it restarts, as it may"
    found = f"{_told_bound(limit, policy)}; {persists}"
    if limit and policy != "noeviction":
        advice = (
            "Set its maxmemory-policy to noeviction: a store that evicts its counters never refuses anybody."
        )
        return doubtful(found, advice)
    return well(found)


def _bound(connect: Connect) -> tuple[int, str]:
    with closing(connect()) as client:
        facts = _facts(client, "memory")
    return int(facts.get("maxmemory", 0)), str(facts.get("maxmemory_policy", "unknown"))


def _told_bound(limit: int, policy: str) -> str:
    bound = f"maxmemory {limit // MIB} MiB" if limit else "no maxmemory"
    return f"{bound}, maxmemory-policy {policy}"


def _facts(client: redis.Redis, section: str) -> Mapping[str, Any]:
    return cast(Mapping[str, Any], client.info(section))


def agrees_on_the_time(_deadline: Deadline, *, connect: Connect) -> Verdict:
    """Compares Redis's clock with this machine's, give or take the way there."""
    with closing(connect()) as client:
        client.ping()  # the connection is made before the clocks are read
        before = time.time()
        seconds, microseconds = cast(tuple[int, int], client.time())
        after = time.time()
    difference = seconds + microseconds / 1e6 - (before + after) / 2
    amount = max(0.0, abs(difference) - (after - before) / 2)
    found = f"the clocks differ by {amount:.2f} s" if amount >= 0.01 else "the clocks agree"
    advice = "Let both machines take their time from NTP."
    if amount > LEAST_CLOCK_SECONDS:
        return wrong(found, advice)
    return doubtful(found, advice) if amount > FAIR_CLOCK_SECONDS else well(found)


class UnknownCircuits:
    """Stands in where Redis cannot be asked: nobody is called healthy then. Raises LookupError."""

    def read(self, provider: str) -> Circuit:
        raise LookupError(f"Redis does not say how {provider} does")

    def change(self, provider: str, step: Step) -> tuple[Circuit, Circuit]:  # noqa: ARG002  # the protocol's signature
        raise LookupError(f"Redis does not say how {provider} does")


def is_called(_deadline: Deadline, *, circuits: Circuits, provider: str) -> Verdict:
    """Reads the provider's breaker, which all workers and machines share."""
    circuit = circuits.read(provider)
    state = circuit.state(time.time())
    if state is BreakerState.CLOSED:
        return well("its breaker is closed")
    told = f"its breaker is {state.value} after {circuit.failures} failures, the last of them {circuit.fault}"
    return doubtful(
        told, "See what the check of the provider says; the breaker closes with the next capture that works."
    )
