"""The trip of a request: who takes a capture, who finds one, how old it may be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.journeys import HOUR, REQUEST, statuses
from tests.support.processes import wait_until
from tests.support.trips import TARGET, Journey, journey
from thumbnailer.errors import (
    CallerLimited,
    NotAnImage,
    OptionUnsupported,
    TargetForbidden,
    TargetStatus,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamQuota,
)
from thumbnailer.model import CaptureRequest
from thumbnailer.pipeline import STALE_WHILE_REVALIDATE_SECONDS
from thumbnailer.setbacks import Setback
from thumbnailer.terms import CacheStatus, StaleUse


def test_the_first_caller_takes_the_capture_and_the_second_finds_it(trip: Journey) -> None:
    assert statuses(trip, REQUEST, REQUEST) == [CacheStatus.MISS, CacheStatus.HIT]
    assert (trip.provider.calls, trip.charged) == (1, ["capture"])


def test_a_copy_that_is_a_little_too_old_is_served_and_replaced_behind(trip: Journey) -> None:
    old = trip.pipeline.fetch(REQUEST, trip.terms()).capture
    trip.clock.turn(HOUR + 1)
    stale = trip.pipeline.fetch(REQUEST, trip.terms())
    assert (stale.cache_status, stale.capture.record) == (CacheStatus.STALE, old.record)
    wait_until(lambda: trip.pipeline.fetch(REQUEST, trip.terms()).cache_status is CacheStatus.HIT)
    assert trip.provider.calls == 2
    assert trip.charged == ["capture"] * 2, "who sets a refresh off pays for it"


def test_who_may_have_no_more_captures_sets_no_refresh_off(trip: Journey) -> None:
    def refuse() -> None:
        raise CallerLimited("enough", retry_after_seconds=5)

    statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    assert trip.pipeline.fetch(REQUEST, trip.terms(admit=refuse)).cache_status is CacheStatus.STALE
    assert trip.refresher.is_idle
    assert trip.provider.calls == 1


def test_who_finds_an_old_copy_that_is_replaced_in_that_moment_pays_for_nothing(
    trip: Journey, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = trip.setbacks.read

    def read_while_another_refreshes(request: CaptureRequest) -> Setback | None:
        monkeypatch.setattr(trip.setbacks, "read", read)
        trip.pipeline.fetch(REQUEST, trip.terms())
        wait_until(lambda: trip.refresher.is_idle)
        return read(request)

    statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    monkeypatch.setattr(trip.setbacks, "read", read_while_another_refreshes)
    assert statuses(trip, REQUEST, REQUEST) == [CacheStatus.STALE, CacheStatus.HIT]
    assert trip.charged == ["capture"] * 2


def test_who_wants_a_new_capture_waits_for_it_and_gets_the_old_one_where_that_fails(trip: Journey) -> None:
    statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    wants_new = replace(trip.terms(), stale_use=StaleUse.WHERE_A_NEW_ONE_FAILS)
    assert trip.pipeline.fetch(REQUEST, wants_new).cache_status is CacheStatus.MISS
    trip.clock.turn(HOUR + 1)
    trip.provider.fails_with = UpstreamFailed("broken")
    assert trip.pipeline.fetch(REQUEST, wants_new).cache_status is CacheStatus.STALE


def test_many_who_get_the_stale_copy_start_one_refresh(trip: Journey) -> None:
    statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    trip.provider.may_finish.clear()
    assert set(statuses(trip, *[REQUEST] * 20)) == {CacheStatus.STALE}
    trip.provider.may_finish.set()
    wait_until(lambda: trip.pipeline.fetch(REQUEST, trip.terms()).cache_status is CacheStatus.HIT)
    assert trip.provider.calls == 2


def test_a_copy_that_is_far_too_old_waits_for_a_new_one(trip: Journey) -> None:
    statuses(trip, REQUEST)
    trip.clock.turn(HOUR + STALE_WHILE_REVALIDATE_SECONDS + 1)
    assert statuses(trip, REQUEST) == [CacheStatus.MISS]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(TargetUnreachable("gone"), id="the page is gone"),
        pytest.param(UpstreamFailed("broken"), id="the provider is broken"),
        pytest.param(NotAnImage("html"), id="what came is no picture"),
    ],
)
def test_a_copy_however_old_is_better_than_an_error(trip: Journey, error: ThumbnailerError) -> None:
    old = trip.pipeline.fetch(REQUEST, trip.terms()).capture
    trip.clock.turn(29 * 86_400)
    trip.provider.fails_with = error
    delivery = trip.pipeline.fetch(REQUEST, trip.terms())
    assert (delivery.cache_status, delivery.capture.record) == (CacheStatus.STALE, old.record)
    assert isinstance(delivery.trouble, type(error))


def test_with_all_breakers_open_an_old_copy_comes_without_a_call(trip: Journey) -> None:
    statuses(trip, REQUEST)
    trip.clock.turn(29 * 86_400)
    trip.provider.fails_with = UpstreamQuota("over")
    for number in range(5):
        with pytest.raises(UpstreamQuota):
            trip.pipeline.fetch(CaptureRequest(url=f"{TARGET}?{number}"), trip.terms())
    delivery = trip.pipeline.fetch(REQUEST, trip.terms())
    assert delivery.cache_status is CacheStatus.STALE
    assert isinstance(delivery.trouble, UpstreamQuota)
    assert trip.provider.calls == 6


def test_a_caller_who_may_have_no_more_captures_still_gets_the_old_copy(trip: Journey) -> None:
    def refuse() -> None:
        raise CallerLimited("enough", retry_after_seconds=5)

    statuses(trip, REQUEST)
    trip.clock.turn(29 * 86_400)
    assert trip.pipeline.fetch(REQUEST, trip.terms(admit=refuse)).cache_status is CacheStatus.STALE
    assert trip.provider.calls == 1


def test_a_failed_refresh_replaces_nothing(trip: Journey) -> None:
    old = trip.pipeline.fetch(REQUEST, trip.terms()).capture
    trip.clock.turn(HOUR + 1)
    trip.provider.fails_with = TargetStatus(500)
    assert statuses(trip, REQUEST) == [CacheStatus.STALE]
    wait_until(lambda: trip.provider.calls == 2)
    delivery = trip.pipeline.fetch(REQUEST, trip.terms())
    assert (delivery.cache_status, delivery.capture.body()) == (CacheStatus.STALE, old.body())


def test_a_stale_copy_says_what_keeps_it_from_being_replaced(trip: Journey) -> None:
    statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    trip.provider.fails_with = TargetUnreachable("gone")
    assert trip.pipeline.fetch(REQUEST, trip.terms()).trouble is None, "nobody knows yet"
    wait_until(lambda: isinstance(trip.pipeline.fetch(REQUEST, trip.terms()).trouble, TargetUnreachable))
    calls, charged = trip.provider.calls, len(trip.charged)
    statuses(trip, *[REQUEST] * 5)
    wait_until(lambda: trip.refresher.is_idle)
    assert (trip.provider.calls, len(trip.charged)) == (calls, charged), "nobody tries, and nobody pays"
    trip.clock.turn(61)
    trip.provider.fails_with = None
    statuses(trip, REQUEST)
    wait_until(lambda: trip.pipeline.fetch(REQUEST, trip.terms()).cache_status is CacheStatus.HIT)
    assert trip.pipeline.fetch(REQUEST, trip.terms()).trouble is None


@pytest.mark.parametrize(
    ("error", "rest_seconds"),
    [
        pytest.param(UpstreamBusy("later", retry_after_seconds=30), 30, id="the provider says how long"),
        pytest.param(UpstreamBusy("later"), 5, id="the provider does not"),
        pytest.param(
            UpstreamQuota("empty", retry_after_seconds=86_400), 60, id="the provider says very long"
        ),
    ],
)
def test_a_refresh_that_failed_is_not_begun_again_by_each_request(
    trip: Journey, error: ThumbnailerError, rest_seconds: float
) -> None:
    statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    trip.provider.fails_with = error
    for tries in (1, 2):
        for _ in range(5):
            assert statuses(trip, REQUEST) == [CacheStatus.STALE]
            wait_until(lambda: trip.refresher.is_idle)
        trip.clock.turn(rest_seconds - 1)
        assert statuses(trip, REQUEST) == [CacheStatus.STALE]
        wait_until(lambda: trip.refresher.is_idle)
        assert (trip.provider.calls, len(trip.charged)) == (1 + tries, 1 + tries)
        trip.clock.turn(2)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(TargetUnreachable("gone"), id="the page is gone"),
        pytest.param(UpstreamFailed("broken"), id="the provider is broken"),
    ],
)
def test_the_last_good_copy_of_a_dead_page_outlives_the_retention(
    tmp_path: Path, error: ThumbnailerError
) -> None:
    trip = journey(tmp_path, forgets=True)
    old = trip.pipeline.fetch(REQUEST, trip.terms()).capture.record
    trip.provider.fails_with = error
    for _ in range(10):
        trip.clock.turn(10 * 86_400)
        delivery = trip.pipeline.fetch(REQUEST, trip.terms())
        assert (delivery.cache_status, delivery.capture.record) == (CacheStatus.STALE, old)
        assert isinstance(delivery.trouble, type(error))
    trip.clock.turn(31 * 86_400)
    with pytest.raises(type(error)):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.refresher.close()


def test_a_copy_that_nobody_asks_for_is_not_kept_for_ever(tmp_path: Path) -> None:
    trip = journey(tmp_path, forgets=True)
    statuses(trip, REQUEST)
    trip.clock.turn(31 * 86_400)
    trip.provider.fails_with = TargetUnreachable("gone")
    with pytest.raises(TargetUnreachable):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.refresher.close()


def test_an_option_that_nobody_can_do_is_refused_before_the_cache_is_asked(trip: Journey) -> None:
    request = CaptureRequest(url=TARGET, selector="#main", asked=frozenset({"selector"}))
    with pytest.raises(OptionUnsupported):
        trip.pipeline.fetch(request, trip.terms())


def test_a_private_target_costs_no_call(trip: Journey) -> None:
    with pytest.raises(TargetForbidden):
        trip.pipeline.fetch(CaptureRequest(url="http://10.0.0.1/"), trip.terms())
    assert trip.provider.calls == 0


def test_a_recapture_passes_by_the_cache(trip: Journey) -> None:
    first = trip.pipeline.fetch(REQUEST, trip.terms())
    trip.clock.turn(1)
    second = trip.pipeline.fetch(REQUEST, trip.terms(recapture=True))
    assert second.cache_status is CacheStatus.MISS
    assert first.capture.body() != second.capture.body()
