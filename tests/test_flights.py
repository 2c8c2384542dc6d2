"""One capture per key, over threads, processes and machines; and the locks under it."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
import redis

from tests.support.captures import capture_of
from tests.support.flight_crew import ArrivalDeadline, Orders, once
from tests.support.processes import running_redis, wait_until
from tests.support.stores import flask_cache, redis_pid, silent_server
from thumbnailer.backend import ResilientBackend
from thumbnailer.cooldown import CoolDown
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
from thumbnailer.failures import FailureBoard
from thumbnailer.flights import OVERDUE_SECONDS, Flight, Flights
from thumbnailer.locks import LEFTOVER_SECONDS, FileLocks, Locks, RedisLocks
from thumbnailer.model import Capture, Deadline

CAPTURE = capture_of(b"picture")
NO_TIME = Deadline(0)


def soon() -> Deadline:
    return Deadline.after(30)


def miss() -> None:
    return None


@pytest.fixture
def board() -> FailureBoard:
    return FailureBoard(ResilientBackend(flask_cache(CACHE_TYPE="SimpleCache")))


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
                found = self._fly(found)
            self.outcomes.append(found)
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
    assert flights.join("key", lambda: CAPTURE, soon()) is CAPTURE


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


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b'{"id":"1","class":"SystemExit","message":"","attributes":{}}', b"\xff"],
    ids=["empty", "list", "fields", "foreign-class", "not-utf8"],
)
def test_a_note_that_is_none_of_ours_is_ignored(content: bytes) -> None:
    store = flask_cache(CACHE_TYPE="SimpleCache")
    store.set("failure:key", content)
    assert FailureBoard(ResilientBackend(store)).read("key") is None


# ---- over processes


@contextlib.contextmanager
def crews(*orders: Orders) -> Iterator[list[subprocess.Popen[str]]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.flight_crew", json.dumps(asdict(order))],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for order in orders
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def outcome_of(*processes: subprocess.Popen[str]) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for process in processes:
        output, _ = process.communicate(timeout=100)
        total.update(json.loads(output))
    return total


@pytest.fixture(params=["file", "redis"])
def shared_redis(request: pytest.FixtureRequest) -> str | None:
    """Over what the processes coordinate: a folder, or a Redis as several machines would."""
    return str(request.getfixturevalue("redis_url")) if request.param == "redis" else None


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [("land", "capture"), ("crash", "UpstreamQuota: The quota is used up.")],
    ids=["succeeds", "fails"],
)
def test_200_threads_of_4_processes_make_one_call(
    tmp_path: Path, shared_redis: str | None, ending: str, outcome: str
) -> None:
    order = Orders(
        folder=str(tmp_path),
        key=secrets.token_hex(8),
        threads=50,
        awaited=200,
        ending=ending,
        redis_url=shared_redis,
    )
    with crews(*[order] * 4) as processes:
        assert outcome_of(*processes) == {outcome: 200}
    assert order.count("calls") == 1


def test_when_the_leader_is_killed_another_process_takes_over(
    tmp_path: Path, shared_redis: str | None
) -> None:
    key = secrets.token_hex(8)
    doomed = Orders(str(tmp_path), key, 3, 0, "hang", shared_redis, deadline_seconds=3, margin_seconds=0.2)
    heir = Orders(str(tmp_path), key, 3, 0, "land", shared_redis)
    with crews(doomed) as (first,):
        wait_until(lambda: doomed.count("calls") == 1, what="the first call")
        with crews(heir) as (second,):
            wait_until(lambda: heir.count("arrivals") == 6, what="the heirs' arrival")
            first.send_signal(signal.SIGKILL)
            assert outcome_of(second) == {"capture": 3}
    assert heir.count("calls") == 2


# ---- locks


@pytest.fixture(params=["file", "redis", "redis-refused", "redis-silent"])
def locks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Locks]:
    """Each kind of lock, and what becomes of Redis locks without their Redis."""
    files = FileLocks(tmp_path / "locks")
    with contextlib.ExitStack() as stack:
        if request.param == "file":
            yield files
            return
        if request.param == "redis":
            url = request.getfixturevalue("redis_url")
        elif request.param == "redis-refused":
            url = "redis://127.0.0.1:1/0"
        else:
            url, _ = stack.enter_context(silent_server())
        client = redis.Redis.from_url(url, socket_timeout=0.3, socket_connect_timeout=0.3)
        stack.callback(client.close)
        yield RedisLocks(client, files, prefix=f"{secrets.token_hex(4)}:")


def test_a_lock_is_held_by_one_at_a_time_and_free_afterwards(locks: Locks) -> None:
    with locks.hold("key", soon()):
        with pytest.raises(TimeoutError), locks.hold("key", NO_TIME):
            pytest.fail("held twice")
        with locks.hold("other", NO_TIME):
            pass
    with locks.hold("key", NO_TIME):
        pass


def test_a_lock_may_be_released_by_another_thread(locks: Locks) -> None:
    held = contextlib.ExitStack()
    held.enter_context(locks.hold("key", soon()))
    thread = threading.Thread(target=held.close)
    thread.start()
    thread.join()
    with locks.hold("key", NO_TIME):
        pass


def test_many_threads_never_hold_one_lock_together(locks: Locks) -> None:
    inside: list[int] = []
    most_inside: list[int] = []

    def work() -> None:
        for _ in range(10):
            with locks.hold("key", soon()):
                inside.append(1)
                most_inside.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most_inside) == 60
    assert max(most_inside) == 1


def test_lock_files_do_not_pile_up(tmp_path: Path) -> None:
    locks = FileLocks(tmp_path)
    for number in range(50):
        with locks.hold(f"key {number}", soon()):
            assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []


def test_files_of_killed_holders_go_at_the_next_start_unless_held(tmp_path: Path) -> None:
    with FileLocks(tmp_path).hold("held", soon()):
        (held,) = tmp_path.iterdir()
        for name in ("left", "young"):
            (tmp_path / name).touch()
        long_ago = time.time() - LEFTOVER_SECONDS - 60
        for path in (held, tmp_path / "left"):
            os.utime(path, (long_ago, long_ago))
        FileLocks(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {held.name, "young"}


def test_a_redis_lock_outlives_its_holders_deadline_by_the_margin_only(
    redis_url: str, tmp_path: Path
) -> None:
    prefix = f"{secrets.token_hex(4)}:"
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        locks = RedisLocks(client, FileLocks(tmp_path), prefix=prefix, margin_seconds=2)
        with locks.hold("key", Deadline.after(5)):
            remaining_ms = client.pttl(f"{prefix}key")
            assert isinstance(remaining_ms, int)
            assert 0 < remaining_ms <= 7000


def test_a_holder_whose_redis_lock_expired_does_not_release_that_of_another(
    redis_url: str, tmp_path: Path
) -> None:
    prefix = f"{secrets.token_hex(4)}:"
    with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
        locks = RedisLocks(client, FileLocks(tmp_path), prefix=prefix)
        first = contextlib.ExitStack()
        first.enter_context(locks.hold("key", soon()))
        client.delete(f"{prefix}key")  # as if it had expired
        with locks.hold("key", NO_TIME):
            first.close()
            with pytest.raises(TimeoutError), locks.hold("key", NO_TIME):
                pytest.fail("the second holder's lock was released")


def test_a_redis_that_falls_silent_while_somebody_waits_ends_in_the_fallback(tmp_path: Path) -> None:
    with running_redis(tmp_path) as url, contextlib.ExitStack() as stack:
        client = redis.Redis.from_url(url, socket_timeout=0.3, socket_connect_timeout=0.3)
        stack.callback(client.close)
        locks = RedisLocks(client, FileLocks(tmp_path / "locks"), cool_down=CoolDown("Redis", seconds=60))
        pid = redis_pid(url)
        waits, entered = threading.Event(), threading.Event()

        def wait_in_line() -> None:
            with locks.hold("key", ArrivalDeadline(time.monotonic() + 30, waits.set)):
                entered.set()

        waiter = threading.Thread(target=wait_in_line)
        with locks.hold("key", soon()):
            waiter.start()
            assert waits.wait(30)
            os.kill(pid, signal.SIGSTOP)
            stack.callback(os.kill, pid, signal.SIGCONT)
            assert entered.wait(30), "a Redis that no longer answers holds nobody up"
        waiter.join()
