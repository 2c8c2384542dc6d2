"""Receivers of webhooks that let everybody wait in vain rest for a while."""

from __future__ import annotations

import pytest

from tests.support.clocks import Clock
from thumbnailer.jobs import silent_receivers
from thumbnailer.jobs.silent_receivers import SLOW_SECONDS, SilentReceivers

OWNER = "an owner"
GONE, ALSO_GONE, OTHER = "https://gone.example/1", "https://gone.example/2", "https://gone.example:8443/1"


MAX_SILENCES, REST_SECONDS = 3, 300.0


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def receivers(clock: Clock) -> SilentReceivers:
    return SilentReceivers(max_silences=MAX_SILENCES, rest_seconds=REST_SECONDS, clock=clock)


def be_silent(receivers: SilentReceivers, times: int) -> None:
    for _ in range(times):
        assert receivers.may_be_called(OWNER, GONE)
        receivers.note(OWNER, GONE, has_answered=False, seconds=15)


def test_who_was_silent_several_times_in_a_row_rests_with_all_its_paths(receivers: SilentReceivers) -> None:
    be_silent(receivers, MAX_SILENCES - 1)
    assert receivers.may_be_called(OWNER, ALSO_GONE)
    receivers.note(OWNER, ALSO_GONE, has_answered=False, seconds=SLOW_SECONDS)
    assert not receivers.may_be_called(OWNER, GONE)
    assert receivers.may_be_called(OWNER, OTHER)


def test_nobody_keeps_a_host_that_others_use_from_them(receivers: SilentReceivers) -> None:
    be_silent(receivers, MAX_SILENCES)
    assert receivers.may_be_called("another owner", GONE)


def test_after_a_rest_one_alone_tries(receivers: SilentReceivers, clock: Clock) -> None:
    be_silent(receivers, MAX_SILENCES)
    clock.now += REST_SECONDS
    assert receivers.may_be_called(OWNER, GONE)
    assert not receivers.may_be_called(OWNER, ALSO_GONE)
    receivers.note(OWNER, GONE, has_answered=False, seconds=15)
    assert not receivers.may_be_called(OWNER, GONE)
    clock.now += REST_SECONDS
    assert receivers.may_be_called(OWNER, GONE)
    receivers.note(OWNER, GONE, has_answered=True, seconds=0.1)
    be_silent(receivers, MAX_SILENCES - 1)
    assert receivers.may_be_called(OWNER, GONE), "it starts afresh"


@pytest.mark.parametrize(("has_answered", "seconds"), [(True, 15.0), (False, 0.01)], ids=["late", "refused"])
def test_who_answers_late_or_refuses_at_once_does_not_rest(
    receivers: SilentReceivers, has_answered: bool, seconds: float
) -> None:
    for _ in range(2):
        be_silent(receivers, MAX_SILENCES - 1)
        receivers.note(OWNER, GONE, has_answered=has_answered, seconds=seconds)
    assert receivers.may_be_called(OWNER, GONE)


def test_a_probe_that_never_tells_what_came_of_it_is_followed_by_another(
    receivers: SilentReceivers, clock: Clock
) -> None:
    be_silent(receivers, MAX_SILENCES)
    for _ in range(2):
        clock.now += REST_SECONDS
        assert receivers.may_be_called(OWNER, GONE)


def test_they_do_not_pile_up(receivers: SilentReceivers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silent_receivers, "MAX_RECEIVERS", 2)
    be_silent(receivers, MAX_SILENCES)
    for host in ("second", "third"):
        receivers.note(OWNER, f"https://{host}.example/", has_answered=False, seconds=15)
    assert receivers.may_be_called(OWNER, GONE), "the oldest is forgotten"
