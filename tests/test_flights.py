"""One capture per key, over the threads of a process; and what is noted for other processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.captures import capture_of
from tests.support.flight_crew import ArrivalDeadline, once
from tests.support.processes import wait_until
from tests.support.stores import flask_cache
from thumbnailer.backend import ResilientBackend
from thumbnailer.errors import (
    CallerLimited,
    OptionUnsupported,
    Overloaded,
    TargetStatus,
    ThumbnailerError,
    UpstreamBusy,
    UpstreamFailed,
    UpstreamTimeout,
)
from thumbnailer.failures import FailureBoard, Note
from thumbnailer.flights import OVERDUE_SECONDS, Flight, Flights, Landing
from thumbnailer.locks import FileLocks
from thumbnailer.model import Capture, Deadline

CAPTURE = capture_of(b"picture")


def soon() -> Deadline:
    return Deadline.after(30)


def miss() -> None:
    return None


@pytest.fixture
def board() -> FailureBoard:
    return FailureBoard(ResilientBackend(flask_cache(CACHE_TYPE="thumbnailer.memory_cache.MemoryCache")))


@pytest.fixture
def flights(tmp_path: Path, board: FailureBoard) -> Flights:
    return Flights(FileLocks(tmp_path), board)


class Crowd:
    """Threads that join one flight each and remember what they got."""

    def __init__(
        self, flights: Flights, key: str, size: int, fly: Callable[[Flight], Capture], seconds: float = 60
    ) -> None:
        self._seconds = seconds
        self._flights = flights
        self._key = key
        self._fly = fly
        self.arrivals: list[None] = []
        self.flights_taken: list[Flight] = []
        self.outcomes: list[Capture | BaseException] = []
        self._threads = [threading.Thread(target=self._want) for _ in range(size)]

    def _want(self) -> None:
        deadline = ArrivalDeadline(time.monotonic() + self._seconds, once(lambda: self.arrivals.append(None)))
        try:
            found = self._flights.join(self._key, miss, deadline)
            if isinstance(found, Flight):
                self.flights_taken.append(found)
                self.outcomes.append(self._fly(found))
            else:
                self.outcomes.append(found.capture)
        except BaseException as error:  # noqa: BLE001  # the test looks at whatever came out
            self.outcomes.append(error)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def await_arrival(self) -> None:
        wait_until(lambda: len(self.arrivals) == len(self._threads), seconds=60, what="all arrivals")

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)


def take_flight(flights: Flights, key: str = "key", deadline: Deadline | None = None) -> Flight:
    flight = flights.join(key, miss, deadline or soon())
    assert isinstance(flight, Flight)
    return flight


def crowd_behind(flights: Flights, size: int, fly: Callable[[Flight], Capture]) -> Crowd:
    """A crowd that waits, all of it, for a flight that the caller already has."""
    crowd = Crowd(flights, "key", size, fly)
    crowd.start()
    crowd.await_arrival()
    return crowd


def land(flight: Flight) -> Capture:
    flight.land(CAPTURE)
    return CAPTURE


def test_of_200_threads_one_leads_and_all_get_its_capture(flights: Flights) -> None:
    def fly(flight: Flight) -> Capture:
        crowd.await_arrival()
        return land(flight)

    crowd = Crowd(flights, "key", 200, fly)
    crowd.start()
    crowd.join()
    assert len(crowd.flights_taken) == 1
    assert crowd.outcomes == [CAPTURE] * 200


def test_a_failure_reaches_all_threads_once_each_with_an_error_of_its_own(flights: Flights) -> None:
    flight = take_flight(flights)
    crowd = crowd_behind(flights, 20, land)
    original = UpstreamBusy("Come back later.", provider="test", retry_after_seconds=7)
    flight.crash(original)
    crowd.join()
    assert crowd.flights_taken == []
    assert len({id(error) for error in (original, *crowd.outcomes)}) == 21
    assert {described(error) for error in crowd.outcomes} == {described(original)}


def described(error: object) -> str:
    assert isinstance(error, ThumbnailerError)
    return f"{type(error).__name__} {error} {sorted(vars(error).items(), key=str)}"


@pytest.mark.parametrize("ending", ["unshared", "limited", "abandoned"])
def test_what_concerns_one_caller_only_lets_another_lead(flights: Flights, ending: str) -> None:
    flight = take_flight(flights)
    crowd = crowd_behind(flights, 20, land)
    if ending == "abandoned":
        flight.abandon()
    else:
        flight.crash(
            Overloaded("Full.") if ending == "unshared" else CallerLimited("Enough.", retry_after_seconds=1)
        )
    crowd.join()
    assert len(crowd.flights_taken) >= 1
    assert crowd.outcomes == [CAPTURE] * 20


def test_of_an_unforeseen_error_the_others_learn_no_detail(flights: Flights) -> None:
    flight = take_flight(flights)
    crowd = crowd_behind(flights, 3, land)
    flight.crash(RuntimeError("secret detail at 10.0.0.1"))
    crowd.join()
    assert [type(error) for error in crowd.outcomes] == [UpstreamFailed] * 3
    assert "secret" not in str(crowd.outcomes)


def test_who_comes_after_a_failure_tries_afresh(flights: Flights) -> None:
    take_flight(flights).crash(UpstreamFailed("Broken."))
    take_flight(flights).crash(UpstreamFailed("Broken again."))
    assert flights.join("key", lambda: CAPTURE, soon()) == Landing(CAPTURE, is_kept=True)


@pytest.mark.parametrize("is_kept", [True, False], ids=["in the cache", "nowhere else"])
@pytest.mark.parametrize("is_followed", [True, False], ids=["followed", "alone"])
def test_who_follows_from_elsewhere_gets_a_capture_that_the_cache_could_not_keep(
    flights: Flights, is_kept: bool, is_followed: bool
) -> None:
    flight = flights.join("key", miss, soon(), is_followed=lambda: is_followed)
    assert isinstance(flight, Flight)
    flight.land(CAPTURE, is_kept=is_kept)
    next_one = flights.join("key", miss, soon())
    if is_followed and not is_kept:
        assert next_one == Landing(CAPTURE, is_kept=False)
    else:
        assert isinstance(next_one, Flight), "the cache has it, or nobody is left who asked with the first"


def test_a_flight_may_be_landed_from_another_thread_and_only_once(flights: Flights) -> None:
    flight = take_flight(flights)
    crowd = crowd_behind(flights, 3, land)
    thread = threading.Thread(target=flight.land, args=(CAPTURE,))
    thread.start()
    thread.join()
    flight.crash(UpstreamFailed("too late"))
    flight.land(capture_of(b"too late"))
    crowd.join()
    assert crowd.outcomes == [CAPTURE] * 3
    take_flight(flights).land(CAPTURE)


def test_different_keys_do_not_wait_for_each_other(flights: Flights) -> None:
    under_way = [take_flight(flights, f"key {number}") for number in range(300)]
    for flight in under_way:
        flight.land(CAPTURE)


def test_who_waits_longer_than_its_deadline_hears_so(flights: Flights) -> None:
    flight = take_flight(flights)
    with pytest.raises(UpstreamTimeout):
        flights.join("key", miss, Deadline.after(0.05))
    flight.land(CAPTURE)


def test_a_leader_that_runs_out_of_time_at_the_lock_leaves_the_others_waiting(
    tmp_path: Path, board: FailureBoard
) -> None:
    flights, elsewhere = (Flights(FileLocks(tmp_path), board) for _ in range(2))
    flight = take_flight(elsewhere)
    hurried = Crowd(flights, "key", 1, land, seconds=1)
    hurried.start()
    hurried.await_arrival()
    crowd = crowd_behind(flights, 3, land)
    hurried.join()
    flight.land(CAPTURE)
    crowd.join()
    assert [type(outcome) for outcome in hurried.outcomes] == [UpstreamTimeout]
    assert crowd.outcomes == [CAPTURE] * 3


def test_a_flight_that_is_lost_does_not_block_its_key_for_ever(flights: Flights) -> None:
    overdue = Deadline(time.monotonic() - OVERDUE_SECONDS + 0.3)
    flight = take_flight(flights, deadline=overdue)
    crowd = Crowd(flights, "key", 3, land)
    crowd.start()
    del flight  # as an answer that nobody ever closed
    crowd.join()
    assert crowd.outcomes == [CAPTURE] * 3


def test_who_comes_back_after_all_does_not_take_the_key_from_its_successor(
    tmp_path: Path, board: FailureBoard
) -> None:
    (tmp_path / "file").touch()
    flights = Flights(FileLocks(tmp_path / "file" / "below a file"), board)
    long_overdue = Deadline(time.monotonic() - OVERDUE_SECONDS - 1)
    lost, successor = take_flight(flights, deadline=long_overdue), take_flight(flights)
    lost.land(CAPTURE)
    crowd = crowd_behind(flights, 3, land)
    successor.land(CAPTURE)
    crowd.join()
    assert crowd.flights_taken == []
    assert crowd.outcomes == [CAPTURE] * 3


def test_flights_that_are_lost_do_not_pile_up(flights: Flights) -> None:
    long_overdue = Deadline(time.monotonic() - OVERDUE_SECONDS - 1)
    lost = [take_flight(flights, f"lost {number}", long_overdue) for number in range(3)]
    take_flight(flights).land(CAPTURE)
    assert lost
    assert flights._seats == {}


def test_without_any_lock_the_threads_of_a_process_still_share_one_flight(
    tmp_path: Path, board: FailureBoard, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    flights = Flights(FileLocks(tmp_path / "file" / "below a file"), board)
    flight = take_flight(flights)
    crowd = crowd_behind(flights, 5, land)
    flight.land(CAPTURE)
    crowd.join()
    assert crowd.flights_taken == []
    assert crowd.outcomes == [CAPTURE] * 5
    assert "Locking fails" in caplog.text


def test_a_cache_that_breaks_the_look_up_leaves_no_flight_behind(flights: Flights) -> None:
    def break_down() -> Capture:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        flights.join("key", break_down, soon())
    take_flight(flights).land(CAPTURE)


@pytest.mark.parametrize(
    "error",
    [
        UpstreamBusy("Later.", provider="snapapi", retry_after_seconds=2.5),
        OptionUnsupported("clip", "hermesforge"),
        TargetStatus(503),
        UpstreamTimeout("Too slow."),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_crosses_processes_whole(board: FailureBoard, error: ThumbnailerError) -> None:
    board.pin("key", error)
    note = board.read("key")
    assert note is not None
    assert described(note.error) == described(error)
    board.pin("key", error)
    again = board.read("key")
    assert again is not None
    assert again.id != note.id, "two failures are told apart"


class WatchedBoard(FailureBoard):
    """Says when it has been looked at."""

    def __init__(self, backend: ResilientBackend) -> None:
        super().__init__(backend)
        self.was_read = threading.Event()

    def read(self, key: str) -> Note | None:
        note = super().read(key)
        self.was_read.set()
        return note


def test_who_waits_elsewhere_hears_of_a_failure_although_an_older_one_is_noted(tmp_path: Path) -> None:
    backend = ResilientBackend(flask_cache(CACHE_TYPE="thumbnailer.memory_cache.MemoryCache"))
    here, board = Flights(FileLocks(tmp_path), FailureBoard(backend)), WatchedBoard(backend)
    take_flight(here).crash(UpstreamFailed("old"))
    flight = take_flight(here)
    crowd = Crowd(Flights(FileLocks(tmp_path), board), "key", 1, land)
    crowd.start()
    assert board.was_read.wait(20)
    flight.crash(UpstreamFailed("new"))
    crowd.join()
    assert crowd.flights_taken == []
    assert [str(error) for error in crowd.outcomes] == ["new"]


def test_stragglers_of_a_crowd_hear_of_its_failure_elsewhere_too(
    tmp_path: Path, board: FailureBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbnailer.flights.STRAGGLER_SECONDS", 60)
    followed = Flights(FileLocks(tmp_path), board).join("key", miss, soon(), is_followed=lambda: True)
    assert isinstance(followed, Flight)
    followed.crash(UpstreamFailed("told to all"))
    with pytest.raises(UpstreamFailed, match="told to all"):
        Flights(FileLocks(tmp_path), board).join("key", miss, soon())


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"id":"1","class":"SystemExit","message":"","attributes":{}}', b"\xff"],
    ids=["empty", "list", "fields", "foreign-class", "not-utf8"],
)
def test_a_note_that_is_none_of_ours_is_ignored(content: bytes) -> None:
    store = flask_cache(CACHE_TYPE="thumbnailer.memory_cache.MemoryCache")
    store.set("failure:key", content)
    assert FailureBoard(ResilientBackend(store)).read("key") is None
