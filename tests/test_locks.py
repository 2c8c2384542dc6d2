"""Locks: held by one at a time, released from anywhere, and never in the way of a broken Redis."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.flight_crew import ArrivalDeadline
from tests.support.processes import opened_in, running_redis
from tests.support.stores import redis_pid, silent_server
from thumbnailer.cooldown import CoolDown
from thumbnailer.locks import LEFTOVER_SECONDS, FileLocks, Locks, MemoryLocks, RedisLocks
from thumbnailer.model import Deadline

NO_TIME = Deadline(0)


def soon() -> Deadline:
    return Deadline.after(30)


@pytest.fixture(params=["memory", "file", "redis", "redis-refused", "redis-silent"])
def locks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Locks]:
    """Each kind of lock, and what becomes of Redis locks without their Redis."""
    files = FileLocks(tmp_path / "locks")
    with contextlib.ExitStack() as stack:
        if request.param == "memory":
            yield MemoryLocks()
            return
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


def test_a_file_that_is_removed_at_release_never_lets_two_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thumbnailer.locks.POLL_SECONDS", 0.0001)  # to meet as often as possible
    locks = FileLocks(tmp_path)
    inside: list[int] = []
    most_inside: list[int] = []

    def work() -> None:
        for _ in range(60):
            with locks.hold("key", soon()):
                inside.append(1)
                hashlib.sha256(bytes(500_000))  # lets the other threads run meanwhile
                most_inside.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most_inside) == 480
    assert max(most_inside) == 1


def test_a_release_by_another_thread_closes_the_file(tmp_path: Path) -> None:
    held = contextlib.ExitStack()
    held.enter_context(FileLocks(tmp_path).hold("key", soon()))
    assert len(opened_in(tmp_path)) == 1
    thread = threading.Thread(target=held.close)
    thread.start()
    thread.join()
    assert opened_in(tmp_path) == []


def test_locks_in_memory_are_each_process_s_own_after_a_fork() -> None:
    locks = MemoryLocks()
    with locks.hold("key", soon()):
        child = os.fork()
        if child == 0:
            status = 1
            with contextlib.suppress(TimeoutError), locks.hold("key", NO_TIME):
                status = 0
            os._exit(status)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        with pytest.raises(TimeoutError), locks.hold("key", NO_TIME):
            pytest.fail("held twice")


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
