"""Times and lengths of time as they are written on a command line."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any

import click

SPAN = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
SPAN_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}

#: A hundred years: what is meant to last longer has no end.
LONGEST_SPAN_SECONDS = 3_155_760_000

UNIX_SECONDS = re.compile(r"\d{9,12}", re.ASCII)


def read_time(text: str) -> float:
    """Unix time of an ISO 8601 date or time, UTC unless it says otherwise. Raises ValueError."""
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class Span(click.ParamType[float]):
    """A length of time: ``0s``, ``90m``, ``7d``; in seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        span = SPAN.fullmatch(value)
        if span is None:
            self.fail("must be such as 90m, 24h or 7d", param, ctx)
        seconds = int(span[1]) * SPAN_SECONDS[span[2]]
        if seconds > LONGEST_SPAN_SECONDS:
            self.fail("is longer than a hundred years", param, ctx)
        return float(seconds)


class FutureTime(click.ParamType[float]):
    """A time to come: ``30d``, ``12h``, or a date or time of ISO 8601, UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if SPAN.fullmatch(value):
            return time.time() + Span().convert(value, param, ctx)
        try:
            seconds = read_time(value)
        except ValueError:
            self.fail("must be such as 30d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z", param, ctx)
        if seconds <= time.time():
            self.fail("is past", param, ctx)
        if seconds > time.time() + LONGEST_SPAN_SECONDS:
            self.fail("is more than a hundred years away; leave it out for no end", param, ctx)
        return seconds


class FutureTimeOrUnix(FutureTime):
    """The same, or Unix time in seconds, past or future."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return float(value) if UNIX_SECONDS.fullmatch(value) else super().convert(value, param, ctx)


class PastTime(click.ParamType[float]):
    """A date or time of ISO 8601, UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return read_time(value)
        except ValueError:
            self.fail("must be such as 2027-01-31 or 2027-01-31T12:00:00Z", param, ctx)
