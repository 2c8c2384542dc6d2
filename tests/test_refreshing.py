"""Captures behind the answers: a few at a time, each picture once, and none that nobody wants any more."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event

import pytest
from structlog.contextvars import bound_contextvars, get_contextvars

from tests.support.clocks import Clock
from tests.support.processes import wait_until
from thumbnailer.refreshing import LEAST_REST_SECONDS, Refresher


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def refresher(clock: Clock) -> Iterator[Refresher]:
    refresher = Refresher(workers=1, backlog=1, clock=clock)
    yield refresher
    refresher.close()


def test_what_there_is_no_room_for_is_dropped(refresher: Refresher) -> None:
    go_on, made = Event(), list[str]()

    def make(key: str) -> None:
        assert go_on.wait(20)
        made.append(key)

    for key in "aabc":
        refresher.submit(key, lambda key=key: make(key), lambda: True)  # type: ignore[misc]  # bound now
    go_on.set()
    wait_until(lambda: refresher.is_idle)
    assert made == ["a", "b"]


def test_what_is_wanted_no_longer_is_not_taken(refresher: Refresher) -> None:
    made: list[str] = []
    refresher.submit("key", lambda: made.append("unwanted"), lambda: False)
    refresher.submit("key", lambda: made.append("wanted"), lambda: True)
    wait_until(lambda: refresher.is_idle)
    assert made == ["wanted"]


def test_what_breaks_is_left_alone_for_a_while(refresher: Refresher, clock: Clock) -> None:
    tries: list[float] = []

    def break_down() -> None:
        tries.append(clock.now)
        raise KeyError("what nobody thought of")

    for seconds in (0.0, LEAST_REST_SECONDS - 1, 1.0):
        clock.now += seconds
        refresher.submit("key", break_down, lambda: True)
        wait_until(lambda: refresher.is_idle)
    assert tries == [1000.0, 1000.0 + LEAST_REST_SECONDS]


def test_what_it_logs_bears_the_name_of_the_request_that_asked_for_it(refresher: Refresher) -> None:
    told: list[dict[str, object]] = []
    with bound_contextvars(request_id="asked-0001"):
        refresher.submit("key", lambda: told.append(get_contextvars()), lambda: True)
    wait_until(lambda: refresher.is_idle)
    assert [one["request_id"] for one in told] == ["asked-0001"]


def test_nobody_who_asks_hears_that_it_is_closed(refresher: Refresher) -> None:
    refresher.close()
    refresher.submit("key", lambda: None, lambda: True)
    assert refresher.is_idle
