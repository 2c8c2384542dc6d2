"""Times on command lines: what may be written, what it comes to, and what is refused in which words."""

from __future__ import annotations

import time

import click
import pytest

from blueprints.command_times import FutureTime, FutureTimeOrUnix, PastTime, Span

NOW = 1_800_000_000.0  # 2027-01-15T08:00:00Z
HUNDRED_YEARS = 3_155_760_000


@pytest.fixture(autouse=True)
def _standing_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)


def converted(kind: click.ParamType[float], text: str) -> float:
    return kind.convert(text, None, None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("90s", 90), ("90m", 5_400), ("24h", 86_400), ("7d", 604_800), ("2w", 1_209_600)],
)
def test_a_length_of_time_is_seconds_and_a_time_to_come_is_so_far_away(text: str, seconds: int) -> None:
    assert converted(Span(), text) == seconds
    assert converted(FutureTime(), text) == converted(FutureTimeOrUnix(), text) == NOW + seconds


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7 d", "7D", "1.5h", "7d12h", "\u0667d", "1000000s"])
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="must be such as 90m, 24h or 7d"):
        converted(Span(), text)


@pytest.mark.parametrize("kind", [Span(), FutureTime()], ids=["a length", "a time"])
def test_nothing_lasts_longer_than_a_hundred_years(kind: click.ParamType[float]) -> None:
    assert converted(Span(), "36525d") == HUNDRED_YEARS
    with pytest.raises(click.BadParameter, match="longer than a hundred years"):
        converted(kind, "36526d")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2027-01-16", NOW + 16 * 3600, id="a date is its midnight UTC"),
        pytest.param("2027-01-15T09:00:00", NOW + 3600, id="UTC where nothing else is said"),
        pytest.param("2027-01-15T09:00:00Z", NOW + 3600, id="UTC"),
        pytest.param("2027-01-15T09:00:00+00:30", NOW + 1800, id="an offset"),
        pytest.param("2027-01-15T08:00:01", NOW + 1, id="a second away"),
        pytest.param("2127-01-16T08:00:00Z", NOW + HUNDRED_YEARS, id="as far away as may be"),
    ],
)
def test_a_time_to_come_may_be_a_date_or_a_time(text: str, expected: float) -> None:
    assert converted(FutureTime(), text) == converted(FutureTimeOrUnix(), text) == expected
    assert converted(PastTime(), text) == expected, "which is the same, past or not"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("2027-01-15T08:00:00Z", "is past", id="now"),
        pytest.param("2020-01-01", "is past", id="long ago"),
        pytest.param("2127-01-17", "is more than a hundred years away", id="far away"),
        pytest.param("tomorrow", "must be such as 30d, 12h, 2027-01-31", id="a word"),
        pytest.param("2027-13-01", "must be such as 30d, 12h, 2027-01-31", id="no month"),
    ],
)
def test_what_is_no_time_to_come_is_refused(text: str, why: str) -> None:
    for kind in (FutureTime(), FutureTimeOrUnix()):
        with pytest.raises(click.BadParameter, match=why):
            converted(kind, text)


@pytest.mark.parametrize("text", ["100000000", "1799999999", "999999999999"])
def test_unix_time_is_taken_as_it_is_where_it_may_be_given(text: str) -> None:
    assert converted(FutureTimeOrUnix(), text) == float(text)


def test_a_past_time_that_is_none_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="must be such as 2027-01-31 or"):
        converted(PastTime(), "30d")
