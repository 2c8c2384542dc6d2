"""What anybody may ask for is found out once for all who ask in the same moments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest

from tests.support.clocks import Clock
from tests.support.processes import wait_until
from thumbnailer.sharing import MEANWHILE_SECONDS, Shared


@dataclass
class Question:
    """Something slow: who finds it out begins, and ends when they are let go."""

    numbers: Iterator[int] = field(default_factory=count)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    go_on: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self) -> int:
        number = next(self.numbers)
        self.begun.release()
        assert self.go_on.acquire(timeout=20)
        return number


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def none_is_asked() -> int:
    raise AssertionError("it was found out anew")


def test_an_answer_does_for_its_time_and_no_longer() -> None:
    clock, numbers = Clock(1000.0), count()
    shared = Shared[int](2, clock=clock)
    find_out: Callable[[], int] = lambda: next(numbers)  # noqa: E731 - shorter than a function
    assert [shared.outcome(find_out), shared.outcome(none_is_asked)] == [0, 0]
    clock.now += 1.9
    assert shared.outcome(none_is_asked) == 0
    clock.now += 0.1
    assert shared.outcome(find_out) == 1


def test_with_zero_seconds_everybody_finds_out() -> None:
    numbers = count()
    shared = Shared[int](0)
    assert [shared.outcome(lambda: next(numbers)) for _ in range(3)] == [0, 1, 2]


def test_a_crowd_waits_for_the_first_answer_together(pool: ThreadPoolExecutor) -> None:
    shared, question = Shared[int](2), Question()
    first = pool.submit(shared.outcome, question)
    assert question.begun.acquire(timeout=20)
    others = [pool.submit(shared.outcome, none_is_asked) for _ in range(5)]
    question.go_on.release()
    assert [each.result(20) for each in (first, *others)] == [0] * 6


def test_while_a_newer_answer_is_on_its_way_the_last_one_does_for_a_little_longer(
    pool: ThreadPoolExecutor,
) -> None:
    clock, question = Clock(1000.0), Question()
    shared = Shared[int](2, clock=clock)
    question.go_on.release()
    assert shared.outcome(question) == 0
    assert question.begun.acquire(timeout=20)
    clock.now += 2
    newer = pool.submit(shared.outcome, question)
    assert question.begun.acquire(timeout=20)
    assert shared.outcome(none_is_asked) == 0
    clock.now += MEANWHILE_SECONDS
    late: Future[int] = pool.submit(shared.outcome, none_is_asked)
    question.go_on.release()
    assert (newer.result(20), late.result(20)) == (1, 1)


def test_who_fails_to_find_out_says_so_to_all_who_wait_and_the_next_tries_again(
    pool: ThreadPoolExecutor,
) -> None:
    shared, question = Shared[int](60), Question()

    def fail() -> int:
        question()
        raise ValueError("no answer")

    first = pool.submit(shared.outcome, fail)
    assert question.begun.acquire(timeout=20)
    coming: Any = shared._coming
    others = [pool.submit(shared.outcome, none_is_asked) for _ in range(3)]
    wait_until(lambda: len(coming._condition._waiters) == 3, what="those who wait")
    question.go_on.release()
    for each in (first, *others):
        with pytest.raises(ValueError, match="no answer"):
            each.result(20)
    assert shared.outcome(lambda: 7) == 7
