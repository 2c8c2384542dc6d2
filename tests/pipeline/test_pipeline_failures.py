"""The trip to pages that fail: who is left alone, and for how long."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.journeys import HOUR, REQUEST, statuses
from tests.support.processes import wait_until
from tests.support.trips import TARGET, Journey, journey
from thumbnailer.circuits import BreakerState
from thumbnailer.errors import (
    NotAnImage,
    Overloaded,
    TargetStatus,
    TargetTooSlow,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamTimeout,
)
from thumbnailer.file_cache import FolderCache
from thumbnailer.model import CaptureRequest, Deadline, StatusRange
from thumbnailer.terms import CacheStatus, Delivery


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
    assert statuses(trip, REQUEST) == [CacheStatus.MISS]


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
    assert statuses(trip, REQUEST) == [CacheStatus.MISS]


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
    assert statuses(trip, REQUEST) == [CacheStatus.MISS]


def test_a_clock_that_is_set_back_keeps_nobody_from_a_page(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    with pytest.raises(TargetUnreachable):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.provider.fails_with = None
    trip.clock.turn(-24 * HOUR)
    assert statuses(trip, REQUEST) == [CacheStatus.MISS]


def test_a_clock_that_is_set_back_makes_no_picture_young_for_as_long(trip: Journey) -> None:
    old = trip.pipeline.fetch(REQUEST, trip.terms()).capture
    trip.clock.turn(-24 * HOUR)
    assert statuses(trip, REQUEST) == [CacheStatus.STALE]
    wait_until(lambda: trip.refresher.is_idle)
    renewed = trip.pipeline.fetch(REQUEST, trip.terms())
    assert (renewed.cache_status, trip.provider.calls) == (CacheStatus.HIT, 2)
    assert renewed.capture.record.captured_at < old.record.captured_at


def test_machines_whose_clocks_differ_a_little_take_no_picture_twice(trip: Journey) -> None:
    statuses(trip, REQUEST)
    trip.clock.turn(-30)
    assert statuses(trip, REQUEST) == [CacheStatus.HIT]


def test_a_page_that_works_again_is_no_longer_suspect(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    with pytest.raises(TargetUnreachable):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.clock.turn(61)
    trip.provider.fails_with = None
    assert statuses(trip, REQUEST) == [CacheStatus.MISS]
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
        assert statuses(trip, other) == [CacheStatus.MISS]


def test_a_status_concerns_only_those_who_count_it_as_a_failure(trip: Journey) -> None:
    trip.provider.fails_with = TargetStatus(404)
    with pytest.raises(TargetStatus):
        trip.pipeline.fetch(REQUEST, trip.terms())
    trip.provider.fails_with = None
    tolerant = CaptureRequest(url=TARGET, fail_on_status=(StatusRange(500, 599),))
    assert statuses(trip, tolerant) == [CacheStatus.MISS]


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
    assert statuses(trip, REQUEST) == [CacheStatus.MISS]


def test_a_stream_is_stale_too_when_its_time_is_over(trip: Journey) -> None:
    statuses(trip, REQUEST)
    trip.clock.turn(HOUR + 1)
    found = trip.pipeline.stream(REQUEST, trip.terms())
    assert isinstance(found, Delivery)
    assert found.cache_status is CacheStatus.STALE
