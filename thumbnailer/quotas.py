"""How much of something a caller may have, and what is left: for their eyes.

The fields are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_POLICY = re.compile(r'"([^"]+)";q=(\d+);w=(\d+)', re.ASCII)
_LEFT = re.compile(r'"([^"]+)";r=(\d+);t=(\d+)', re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """``amount`` in each ``window_seconds``; ``remaining`` until it starts anew in ``reset_seconds``.

    ``name`` is printable ASCII without quotes and backslashes.
    """

    name: str
    amount: int
    window_seconds: int
    remaining: int
    reset_seconds: int


def quota_headers(quotas: Sequence[Quota]) -> Mapping[str, str]:
    """``RateLimit-Policy`` and ``RateLimit``; nothing where there are no quotas."""
    if not quotas:
        return {}
    return {
        "RateLimit-Policy": ", ".join(
            f'"{each.name}";q={each.amount};w={each.window_seconds}' for each in quotas
        ),
        "RateLimit": ", ".join(f'"{each.name}";r={each.remaining};t={each.reset_seconds}' for each in quotas),
    }


def read_quotas(headers: Mapping[str, str]) -> tuple[Quota, ...]:
    """The quotas that ``quota_headers`` has told of, in the same order."""
    left = {
        name: (int(rest), int(seconds)) for name, rest, seconds in _LEFT.findall(headers.get("RateLimit", ""))
    }
    return tuple(
        Quota(
            name=name,
            amount=int(amount),
            window_seconds=int(window),
            remaining=left[name][0],
            reset_seconds=left[name][1],
        )
        for name, amount, window in _POLICY.findall(headers.get("RateLimit-Policy", ""))
        if name in left
    )
