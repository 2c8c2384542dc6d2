"""Plans: limits under a name, for many keys alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from thumbnailer.keys import LIMITED, ApiKey, check_limits

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)
DAILY_CAPTURES = "daily_captures"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """``limits`` and ``daily_captures`` are as those of ``KeyTerms``."""

    limits: Mapping[str, str] = field(default_factory=dict)
    daily_captures: int | None = None


def check_plan_name(name: str) -> str:
    """``name`` if a plan can be called so. Raises ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError("must be a name such as free or pro-2")
    return name


def parse_plans(text: str) -> Mapping[str, Plan]:
    """``name:kind=limit,…`` groups separated by semicolons. Raises ValueError.

    For example ``free:thumb=10 per minute,daily_captures=100;pro:thumb=300 per minute``.
    """
    # A limit may hold semicolons and commas itself: 30/minute;1000/day.
    groups = [group.partition(":") for group in re.split(r";(?=[^;:=,]*:)", text) if group.strip()]
    plans = {check_plan_name(name.strip()): _plan(written) for name, _, written in groups}
    if len(plans) < len(groups):
        raise ValueError("names a plan twice")
    return MappingProxyType(plans)


def with_plan(key: ApiKey, plans: Mapping[str, Plan]) -> ApiKey:
    """``key`` with the limits of its plan where it has none of its own."""
    terms, plan = key.terms, plans.get(key.terms.plan or "")
    if plan is None:
        return key
    daily = plan.daily_captures if terms.daily_captures is None else terms.daily_captures
    return replace(key, terms=replace(terms, limits={**plan.limits, **terms.limits}, daily_captures=daily))


def _plan(written: str) -> Plan:
    pairs = [pair.partition("=") for pair in re.split(r",(?=\s*[a-z_]+\s*=)", written) if pair.strip()]
    given = {name.strip(): value.strip() for name, _, value in pairs}
    if len(given) < len(pairs):
        raise ValueError("names a limit twice")
    daily = given.pop(DAILY_CAPTURES, None)
    if daily is not None and not re.fullmatch(r"\d{1,12}", daily, re.ASCII):
        raise ValueError(f"{DAILY_CAPTURES} must be a whole number")
    unknown = given.keys() - set(LIMITED)
    if unknown:
        raise ValueError(
            f"{min(unknown)[:40]!r} has no limit; these have: {', '.join((*LIMITED, DAILY_CAPTURES))}"
        )
    return Plan(limits=check_limits(given), daily_captures=None if daily is None else int(daily))
