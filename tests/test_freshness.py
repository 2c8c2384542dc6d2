"""Nobody keeps an answer for longer than it is good, nor shares what is not for everybody."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.freshness import Freshness

NOW = 1_800_000_000.0
DAY = 86_400
WEEK, MONTH = 7 * DAY, 30 * DAY


@pytest.mark.parametrize(
    ("freshness", "age_seconds", "expected"),
    [
        pytest.param(
            Freshness(ttl_seconds=DAY),
            0,
            f"public, max-age={DAY}, stale-while-revalidate={WEEK}, stale-if-error={MONTH}",
            id="for everybody",
        ),
        pytest.param(
            Freshness(ttl_seconds=DAY, is_private=True),
            0,
            f"private, max-age={DAY}, stale-while-revalidate={WEEK}, stale-if-error={MONTH}",
            id="for the owner of a key",
        ),
        pytest.param(
            Freshness(ttl_seconds=DAY, not_after=NOW + 10 * WEEK),
            0,
            f"public, max-age={DAY}, stale-while-revalidate={WEEK}, stale-if-error={MONTH}",
            id="the URL outlives the picture",
        ),
        pytest.param(
            Freshness(ttl_seconds=DAY, not_after=NOW + DAY + 100),
            0,
            f"public, max-age={DAY}, stale-while-revalidate=100, stale-if-error=100",
            id="the URL ends while the picture is stale",
        ),
        pytest.param(
            Freshness(ttl_seconds=DAY, not_after=NOW + 100.9),
            0,
            "public, max-age=100, must-revalidate",
            id="the URL ends while the picture is fresh",
        ),
        pytest.param(
            Freshness(ttl_seconds=DAY, not_after=NOW + 100),
            50,
            "public, max-age=150, must-revalidate",
            id="caches subtract the age",
        ),
        pytest.param(
            Freshness(ttl_seconds=60, not_after=NOW + 100),
            500,
            "public, max-age=60, stale-while-revalidate=540, stale-if-error=540",
            id="a stale picture",
        ),
        pytest.param(
            Freshness(ttl_seconds=DAY, is_private=True, not_after=NOW - 5),
            0,
            "private, max-age=0, must-revalidate",
            id="the URL has ended meanwhile",
        ),
    ],
)
def test_what_caches_are_allowed(freshness: Freshness, age_seconds: int, expected: str) -> None:
    assert freshness.cache_control(now=NOW, age_seconds=age_seconds) == expected


@given(
    ttl_seconds=st.integers(60, MONTH),
    age_seconds=st.integers(0, 2 * MONTH),
    left_seconds=st.floats(-100, 3 * MONTH),
)
def test_nobody_uses_an_answer_after_its_last_moment(
    ttl_seconds: int, age_seconds: int, left_seconds: float
) -> None:
    freshness = Freshness(ttl_seconds=ttl_seconds, not_after=NOW + left_seconds)
    value = freshness.cache_control(now=NOW, age_seconds=age_seconds)
    seconds = {name: int(number) for name, number in re.findall(r"([a-z-]+)=(\d+)", value)}
    stale_seconds = max(seconds.get("stale-while-revalidate", 0), seconds.get("stale-if-error", 0))
    assert seconds["max-age"] <= ttl_seconds
    assert seconds["max-age"] + stale_seconds - age_seconds <= max(0, left_seconds)
    assert ("must-revalidate" in value) == (stale_seconds == 0)
