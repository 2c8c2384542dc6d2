"""Nobody keeps an answer for longer than it is good, nor shares what is not for everybody."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import Headers

from app import create_app
from blueprints.edge import MARGIN_SECONDS, EdgeTerms, dress_for_edge, edge_terms
from blueprints.freshness import Freshness
from settings.reading import ConfigurationError
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream

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
            Freshness(ttl_seconds=60, wants_new=True),
            0,
            f"public, max-age=60, stale-if-error={MONTH}",
            id="for somebody who wants a new one",
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


BOUNDED = {"TTL_MIN": "7200", "TTL_MAX": "43200"}


@pytest.mark.parametrize(
    ("ttl", "max_age"),
    [
        pytest.param("7200", 7200, id="the least"),
        pytest.param("43200", 43_200, id="the greatest"),
        pytest.param("7199", None, id="less"),
        pytest.param("43201", None, id="more"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/thumb", "/screenshot", "/screenshot/stream", "/api/screenshot", "/v1/screenshot"]
)
def test_a_caller_stays_within_the_operators_bounds(path: str, ttl: str, max_age: int | None) -> None:
    with Upstream() as upstream, client_of(snapapi_environment(upstream.url, **BOUNDED)) as client:
        name = "cache_ttl" if path.startswith("/v1/") else "ttl"
        answer = client.get(path, query_string={"url": TARGET, name: ttl, "format": "png"}, buffered=True)
        body = client.post("/persist", json={"url": "http://10.0.0.1/", "ttl": int(ttl)})
    if max_age is None:
        assert answer.status_code == body.status_code == 400
        assert list(body.get_json()["errors"]) == ["ttl"]
    else:
        assert f"max-age={max_age}," in answer.headers["Cache-Control"]
        assert body.status_code == 403, "nothing else is wrong with it"


def test_the_routes_own_defaults_move_into_the_bounds() -> None:
    with Upstream() as upstream, client_of(snapapi_environment(upstream.url, **BOUNDED)) as client:
        thumb = client.get("/thumb", query_string={"url": TARGET})
        screenshot = client.get("/screenshot", query_string={"url": TARGET})
    assert "max-age=43200," in thumb.headers["Cache-Control"]
    assert "max-age=7200," in screenshot.headers["Cache-Control"]


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        pytest.param("THUMB_DEFAULTS", "ttl=60", id="a default"),
        pytest.param("PRESETS", "card:ttl=86400", id="a preset"),
        pytest.param("TTL_MAX", "3600", id="bounds that cross"),
    ],
)
def test_an_operator_who_contradicts_the_bounds_is_told_at_the_start(setting: str, value: str) -> None:
    settings = snapapi_environment("http://127.0.0.1:9", **(BOUNDED | {setting: value}))
    with pytest.raises(ConfigurationError, match="TTL_MIN" if setting == "TTL_MAX" else setting):
        create_app("testing", settings)


@pytest.mark.parametrize(
    ("cache_control", "age_seconds", "asked_seconds", "expected"),
    [
        pytest.param(
            f"public, max-age={DAY}, stale-while-revalidate={WEEK}", 0, 60, EdgeTerms(60, 60), id="new"
        ),
        pytest.param(
            f"public, max-age={DAY}, stale-while-revalidate={WEEK}",
            DAY - 80,
            60,
            EdgeTerms(20, 20),
            id="most of the time is left to clients",
        ),
        pytest.param(
            f"public, max-age={DAY}, stale-while-revalidate={WEEK}",
            DAY + 1,
            60,
            EdgeTerms(5, 5),
            id="old already",
        ),
        pytest.param("public, max-age=43, must-revalidate", 0, 60, EdgeTerms(10, 10), id="it ends soon"),
        pytest.param(
            "public, max-age=8, must-revalidate", 0, 60, EdgeTerms(5, 0), id="nothing is left afterwards"
        ),
        pytest.param("public, max-age=3, must-revalidate", 0, 60, None, id="it ends too soon"),
        pytest.param(
            "public, max-age=60, stale-while-revalidate=40", 99, 60, None, id="it is old, and ends soon"
        ),
        pytest.param(f"private, max-age={DAY}", 0, 60, None, id="for the owner of a key"),
        pytest.param("no-store", 0, 60, None, id="for nobody to keep"),
        pytest.param("", 0, 60, None, id="nothing is said"),
        pytest.param("public, max-age=31536000, immutable", 0, 60, None, id="for ever anyway"),
    ],
)
def test_what_the_cache_in_front_is_allowed(
    cache_control: str, age_seconds: int, asked_seconds: int, expected: EdgeTerms | None
) -> None:
    assert edge_terms(cache_control, age_seconds, asked_seconds) == expected


@given(
    ttl_seconds=st.integers(60, MONTH),
    age_seconds=st.integers(0, 2 * MONTH),
    left_seconds=st.floats(-100, 3 * MONTH),
    asked_seconds=st.integers(1, 3600),
)
def test_the_cache_in_front_uses_nothing_after_its_last_moment_or_for_longer_than_it_asked(
    ttl_seconds: int, age_seconds: int, left_seconds: float, asked_seconds: int
) -> None:
    freshness = Freshness(ttl_seconds=ttl_seconds, not_after=NOW + left_seconds)
    value = freshness.cache_control(now=NOW, age_seconds=age_seconds)
    terms = edge_terms(value, age_seconds, asked_seconds)
    if terms is not None:
        used_seconds = terms.fresh_seconds + terms.stale_seconds
        assert used_seconds + MARGIN_SECONDS <= left_seconds
        assert 0 < terms.fresh_seconds <= asked_seconds
        assert terms.stale_seconds <= asked_seconds


@pytest.mark.parametrize(
    ("freshness", "age_seconds", "expected"),
    [
        pytest.param(Freshness(ttl_seconds=DAY), 0, None, id="no end"),
        pytest.param(Freshness(ttl_seconds=DAY, not_after=NOW + 100.9), 0, f"@{int(NOW) + 99}", id="its end"),
        pytest.param(
            Freshness(ttl_seconds=DAY, not_after=NOW + 100), 5000, f"@{int(NOW) + 99}", id="whatever its age"
        ),
        pytest.param(
            Freshness(ttl_seconds=60, not_after=NOW + 100),
            20,
            f"@{int(NOW) + 39}",
            id="the picture's time is over first",
        ),
        pytest.param(Freshness(ttl_seconds=60, not_after=NOW + 100), 60, "0", id="a stale picture"),
        pytest.param(Freshness(ttl_seconds=60, not_after=NOW + 1), 0, f"@{int(NOW)}", id="the last second"),
        pytest.param(Freshness(ttl_seconds=60, not_after=NOW), 0, "0", id="over"),
        pytest.param(Freshness(ttl_seconds=60, not_after=NOW + 9, is_private=True), 0, None, id="private"),
    ],
)
def test_nginx_is_told_the_moment_itself(
    freshness: Freshness, age_seconds: int, expected: str | None
) -> None:
    assert freshness.accel_expires(now=NOW, age_seconds=age_seconds) == expected


def test_a_head_for_the_edge_begins_with_what_it_looks_for_and_names_no_request() -> None:
    headers = Headers(
        [
            ("Cache-Status", "thumbnailer; hit"),
            ("X-Cache", "HIT"),
            ("Cache-Control", "public, max-age=3600"),
            ("Cache-Status", "another; hit"),
            ("X-Request-ID", "mine-0001"),
        ]
    )
    dress_for_edge(headers, 60)
    assert list(headers) == [
        ("X-Cache", "HIT"),
        ("X-Edge-Client-Cache-Control", "public, max-age=3600"),
        ("X-Edge-Client-Age", str(60 + 60 + MARGIN_SECONDS)),
        ("Cache-Status", "thumbnailer; hit"),
        ("Cache-Control", "max-age=60, stale-while-revalidate=60"),
        ("Cache-Status", "another; hit"),
    ]
