"""The trip: what is served when, what is taken anew, and what a failure may not destroy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.processes import wait_until
from tests.support.trips import TARGET, Journey, journey
from thumbnailer.circuits import BreakerState
from thumbnailer.errors import (
    CallerLimited,
    NotAnImage,
    OptionUnsupported,
    Overloaded,
    TargetForbidden,
    TargetStatus,
    TargetTooSlow,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamQuota,
    UpstreamTimeout,
)
from thumbnailer.file_cache import FolderCache
from thumbnailer.model import CaptureRequest, Deadline, StatusRange
from thumbnailer.pipeline import STALE_WHILE_REVALIDATE_SECONDS
from thumbnailer.setbacks import Setback
from thumbnailer.terms import CacheStatus, Delivery, StaleUse

REQUEST = CaptureRequest(url=TARGET)
HOUR = 3600


@pytest.fixture
def trip(tmp_path: Path) -> Iterator[Journey]:
    trip = journey(tmp_path)
    yield trip
    trip.provider.may_finish.set()
    trip.refresher.close()


def _statuses(trip: Journey, *requests: CaptureRequest) -> list[CacheStatus]:
    return [trip.pipeline.fetch(request, trip.terms()).cache_status for request in requests]


def test_the_first_caller_takes_the_capture_and_the_second_finds_it(trip: Journey) -> None:
    assert _statuses(trip, REQUEST, REQUEST) == [CacheStatus.MISS, CacheStatus.HIT]
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

    _statuses(trip, REQUEST)
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

    _statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    monkeypatch.setattr(trip.setbacks, "read", read_while_another_refreshes)
    assert _statuses(trip, REQUEST, REQUEST) == [CacheStatus.STALE, CacheStatus.HIT]
    assert trip.charged == ["capture"] * 2


def test_who_wants_a_new_capture_waits_for_it_and_gets_the_old_one_where_that_fails(trip: Journey) -> None:
    _statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    wants_new = replace(trip.terms(), stale_use=StaleUse.WHERE_A_NEW_ONE_FAILS)
    assert trip.pipeline.fetch(REQUEST, wants_new).cache_status is CacheStatus.MISS
    trip.clock.turn(HOUR + 1)
    trip.provider.fails_with = UpstreamFailed("broken")
    assert trip.pipeline.fetch(REQUEST, wants_new).cache_status is CacheStatus.STALE


def test_many_who_get_the_stale_copy_start_one_refresh(trip: Journey) -> None:
    _statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    trip.provider.may_finish.clear()
    assert set(_statuses(trip, *[REQUEST] * 20)) == {CacheStatus.STALE}
    trip.provider.may_finish.set()
    wait_until(lambda: trip.pipeline.fetch(REQUEST, trip.terms()).cache_status is CacheStatus.HIT)
    assert trip.provider.calls == 2


def test_a_copy_that_is_far_too_old_waits_for_a_new_one(trip: Journey) -> None:
    _statuses(trip, REQUEST)
    trip.clock.turn(HOUR + STALE_WHILE_REVALIDATE_SECONDS + 1)
    assert _statuses(trip, REQUEST) == [CacheStatus.MISS]


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
    _statuses(trip, REQUEST)
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

    _statuses(trip, REQUEST)
    trip.clock.turn(29 * 86_400)
    assert trip.pipeline.fetch(REQUEST, trip.terms(admit=refuse)).cache_status is CacheStatus.STALE
    assert trip.provider.calls == 1


def test_a_failed_refresh_replaces_nothing(trip: Journey) -> None:
    old = trip.pipeline.fetch(REQUEST, trip.terms()).capture
    trip.clock.turn(HOUR + 1)
    trip.provider.fails_with = TargetStatus(500)
    assert _statuses(trip, REQUEST) == [CacheStatus.STALE]
    wait_until(lambda: trip.provider.calls == 2)
    delivery = trip.pipeline.fetch(REQUEST, trip.terms())
    assert (delivery.cache_status, delivery.capture.body()) == (CacheStatus.STALE, old.body())


def test_a_stale_copy_says_what_keeps_it_from_being_replaced(trip: Journey) -> None:
    _statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    trip.provider.fails_with = TargetUnreachable("gone")
    assert trip.pipeline.fetch(REQUEST, trip.terms()).trouble is None, "nobody knows yet"
    wait_until(lambda: isinstance(trip.pipeline.fetch(REQUEST, trip.terms()).trouble, TargetUnreachable))
    calls, charged = trip.provider.calls, len(trip.charged)
    _statuses(trip, *[REQUEST] * 5)
    wait_until(lambda: trip.refresher.is_idle)
    assert (trip.provider.calls, len(trip.charged)) == (calls, charged), "nobody tries, and nobody pays"
    trip.clock.turn(61)
    trip.provider.fails_with = None
    _statuses(trip, REQUEST)
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
    _statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    trip.provider.fails_with = error
    for tries in (1, 2):
        for _ in range(5):
            assert _statuses(trip, REQUEST) == [CacheStatus.STALE]
            wait_until(lambda: trip.refresher.is_idle)
        trip.clock.turn(rest_seconds - 1)
        assert _statuses(trip, REQUEST) == [CacheStatus.STALE]
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
    _statuses(trip, REQUEST)
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


def test_a_dead_page_is_left_alone_for_a_minute_then_two(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    for calls, pause_seconds in ((1, 60), (2, 120), (3, 240)):
        for _ in range(3):
            with pytest.raises(TargetUnreachable) as refused:
                trip.pipeline.fetch(REQUEST, trip.terms())
            assert refused.value.retry_after_seconds == pytest.approx(pause_seconds)
        assert trip.provider.calls == calls
        trip.clock.turn(pause_seconds + 1)


def test_tries_that_were_under_way_at_once_fail_as_one(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    trip.provider.may_finish.clear()

    def pause_seconds(width: int) -> float | None:
        with pytest.raises(TargetUnreachable) as failed:
            trip.pipeline.fetch(CaptureRequest(url=TARGET, width=width), trip.terms())
        return failed.value.retry_after_seconds

    with ThreadPoolExecutor() as callers:
        pauses = [callers.submit(pause_seconds, width) for width in (400, 800, 1200)]
        wait_until(lambda: trip.provider.calls == 3)
        trip.clock.turn(2)
        trip.provider.may_finish.set()
    assert [pause.result(20) for pause in pauses] == [60] * 3
    trip.clock.turn(61)
    assert pause_seconds(400) == 120


def test_the_pause_never_exceeds_an_hour(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    for _ in range(12):
        with pytest.raises(TargetUnreachable) as refused:
            trip.pipeline.fetch(REQUEST, trip.terms())
        trip.clock.turn(HOUR)
    assert refused.value.retry_after_seconds == HOUR


def test_a_page_that_has_been_dead_for_months_is_left_alone_as_ever(trip: Journey) -> None:
    for _ in range(1100):
        trip.setbacks.note(REQUEST, TargetUnreachable("gone"), begun_at=trip.clock())
        trip.clock.turn(HOUR)
    trip.provider.fails_with = TargetUnreachable("gone")
    with pytest.raises(TargetUnreachable) as refused:
        trip.pipeline.fetch(REQUEST, trip.terms())
    assert refused.value.retry_after_seconds == HOUR


@pytest.mark.parametrize(
    "written",
    [{"retry_at": float("inf")}, {"retry_at": 1e300}, {"noted_at": -1e300}, {"noted_at": float("nan")}],
    ids=str,
)
def test_a_failure_with_a_pause_that_is_none_was_noted_by_somebody_else(
    tmp_path: Path, written: dict[str, float]
) -> None:
    trip = journey(tmp_path, forgets=True)
    trip.setbacks.note(REQUEST, TargetUnreachable("gone"), begun_at=trip.clock())
    assert trip.setbacks.read(REQUEST) is not None
    backend = FolderCache(tmp_path / "cache", clock=trip.clock)
    for keys in backend.find(["target|"]):
        for key in keys:
            noted = json.loads(backend.get(key) or b"")
            backend.set(key, json.dumps(noted | written).encode(), timeout=60)
    assert trip.setbacks.read(REQUEST) is None
    assert _statuses(trip, REQUEST) == [CacheStatus.MISS]


@pytest.mark.parametrize("fault", [UpstreamTimeout, NotAnImage])
def test_while_a_provider_is_down_the_pauses_of_pictures_do_not_grow(
    trip: Journey, fault: type[UpstreamTimeout | NotAnImage]
) -> None:
    def pause_seconds(request: CaptureRequest) -> float | None:
        trip.provider.fails_with = fault("nothing good")
        with pytest.raises(fault) as failed:
            trip.pipeline.fetch(request, trip.terms())
        return failed.value.retry_after_seconds

    others = [CaptureRequest(url=f"{TARGET}?{number}") for number in range(4)]
    assert [pause_seconds(other) for other in others] == [60] * 4
    for _ in range(4):
        assert pause_seconds(REQUEST) == 60
        assert trip.breakers.state(trip.provider.name) is BreakerState.OPEN
        trip.clock.turn(61)
    trip.provider.fails_with = None
    assert _statuses(trip, REQUEST) == [CacheStatus.MISS]


@pytest.mark.parametrize(
    "error", [UpstreamTimeout("late"), TargetTooSlow("late")], ids=lambda e: type(e).__name__
)
def test_who_had_waited_in_line_for_too_long_learns_nothing_of_the_page(
    trip: Journey, error: ThumbnailerError
) -> None:
    trip.provider.fails_with = error
    with pytest.raises(Overloaded):
        trip.pipeline.fetch(REQUEST, replace(trip.terms(), deadline=Deadline.after(10)))
    trip.provider.fails_with = None
    assert _statuses(trip, REQUEST) == [CacheStatus.MISS]


def test_a_clock_that_is_set_back_keeps_nobody_from_a_page(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    with pytest.raises(TargetUnreachable):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.provider.fails_with = None
    trip.clock.turn(-24 * HOUR)
    assert _statuses(trip, REQUEST) == [CacheStatus.MISS]


def test_a_clock_that_is_set_back_makes_no_picture_young_for_as_long(trip: Journey) -> None:
    old = trip.pipeline.fetch(REQUEST, trip.terms()).capture
    trip.clock.turn(-24 * HOUR)
    assert _statuses(trip, REQUEST) == [CacheStatus.STALE]
    wait_until(lambda: trip.refresher.is_idle)
    renewed = trip.pipeline.fetch(REQUEST, trip.terms())
    assert (renewed.cache_status, trip.provider.calls) == (CacheStatus.HIT, 2)
    assert renewed.capture.record.captured_at < old.record.captured_at


def test_machines_whose_clocks_differ_a_little_take_no_picture_twice(trip: Journey) -> None:
    _statuses(trip, REQUEST)
    trip.clock.turn(-30)
    assert _statuses(trip, REQUEST) == [CacheStatus.HIT]


def test_a_page_that_works_again_is_no_longer_suspect(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    with pytest.raises(TargetUnreachable):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.clock.turn(61)
    trip.provider.fails_with = None
    assert _statuses(trip, REQUEST) == [CacheStatus.MISS]
    trip.clock.turn(1)
    trip.provider.fails_with = TargetUnreachable("gone")
    trouble = trip.pipeline.fetch(REQUEST, trip.terms(recapture=True)).trouble
    assert trouble is not None
    assert trouble.retry_after_seconds == 60


@pytest.mark.parametrize(
    ("error", "is_remembered"),
    [
        pytest.param(TargetUnreachable("gone"), True, id="the page is unreachable"),
        pytest.param(TargetStatus(503), True, id="the page answers 503"),
        pytest.param(UpstreamTimeout("late"), False, id="these options take too long"),
        pytest.param(UpstreamBusy("later"), False, id="the provider is busy"),
        pytest.param(UpstreamFailed("broken"), False, id="the provider is broken"),
    ],
)
def test_only_the_pages_own_failures_keep_others_from_it(
    trip: Journey, error: ThumbnailerError, is_remembered: bool
) -> None:
    trip.provider.fails_with = error
    with pytest.raises(type(error)):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.provider.fails_with = None
    other = CaptureRequest(url=TARGET, width=800)
    if is_remembered:
        with pytest.raises(type(error)):
            trip.pipeline.fetch(other, trip.terms())
    else:
        assert _statuses(trip, other) == [CacheStatus.MISS]


def test_a_status_concerns_only_those_who_count_it_as_a_failure(trip: Journey) -> None:
    trip.provider.fails_with = TargetStatus(404)
    with pytest.raises(TargetStatus):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.provider.fails_with = None
    tolerant = CaptureRequest(url=TARGET, fail_on_status=(StatusRange(500, 599),))
    assert _statuses(trip, tolerant) == [CacheStatus.MISS]


def test_who_counts_good_answers_as_failures_makes_the_pause_longer_for_nobody_else(trip: Journey) -> None:
    for _ in range(3):
        trip.provider.fails_with = TargetStatus(200)
        with pytest.raises(TargetStatus):
            trip.pipeline.fetch(
                CaptureRequest(url=TARGET, fail_on_status=(StatusRange(200, 299),)), trip.terms()
            )
        trip.clock.turn(HOUR)
    trip.provider.fails_with = TargetStatus(503)
    with pytest.raises(TargetStatus) as failed:
        trip.pipeline.fetch(REQUEST, trip.terms())
    assert failed.value.retry_after_seconds == 60


def test_a_page_that_refuses_one_face_is_not_kept_from_another(trip: Journey) -> None:
    trip.provider.fails_with = TargetStatus(403)
    with pytest.raises(TargetStatus):
        trip.pipeline.fetch(CaptureRequest(url=TARGET, user_agent="badbot"), trip.terms())
    trip.provider.fails_with = None
    assert _statuses(trip, REQUEST) == [CacheStatus.MISS]


def test_a_stream_is_stale_too_when_its_time_is_over(trip: Journey) -> None:
    _statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    found = trip.pipeline.stream(REQUEST, trip.terms())
    assert isinstance(found, Delivery)
    assert found.cache_status is CacheStatus.STALE
