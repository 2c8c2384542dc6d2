"""A neighbour that fails is left alone, then tried by one caller."""

from __future__ import annotations

import pytest

from tests.support.clocks import Clock
from thumbnailer.cooldown import CoolDown


@pytest.fixture
def clock() -> Clock:
    return Clock(0.0)


@pytest.fixture
def cool_down(clock: Clock) -> CoolDown:
    return CoolDown("The neighbour", seconds=5, clock=clock)


def test_a_neighbour_that_works_may_always_be_called(cool_down: CoolDown) -> None:
    for _ in range(3):
        assert cool_down.allows()
        cool_down.answered()


def test_after_the_pause_one_caller_tries_while_the_others_stay_away(
    cool_down: CoolDown, clock: Clock
) -> None:
    cool_down.failed(OSError())
    clock.now = 4.9
    assert not cool_down.allows()
    clock.now = 5
    assert [cool_down.allows() for _ in range(3)] == [True, False, False]
    cool_down.answered()
    assert [cool_down.allows() for _ in range(3)] == [True, True, True]


def test_a_trial_that_fails_starts_the_pause_anew(cool_down: CoolDown, clock: Clock) -> None:
    cool_down.failed(OSError())
    clock.now = 5
    assert cool_down.allows()
    clock.now = 6
    cool_down.failed(OSError())
    clock.now = 10.9
    assert not cool_down.allows()
    clock.now = 11
    assert cool_down.allows()


def test_a_trial_that_never_reports_keeps_the_others_away_for_one_pause_only(
    cool_down: CoolDown, clock: Clock
) -> None:
    cool_down.failed(OSError())
    clock.now = 5
    assert cool_down.allows()
    clock.now = 10
    assert cool_down.allows()


def test_the_log_hears_of_it_once_in_a_pause(
    cool_down: CoolDown, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(3):
        cool_down.failed(ConnectionRefusedError("no entry"))
        cool_down.complain(ValueError("odd"))
    clock.now = 5
    cool_down.complain(ValueError("odd"))
    assert [record.getMessage() for record in caplog.records] == [
        "The neighbour fails: ConnectionRefusedError: no entry",
        "The neighbour fails: ValueError: odd",
    ]
