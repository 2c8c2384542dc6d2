"""How much of something a caller may have, and what is left: for their eyes.

The fields are those of draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


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
