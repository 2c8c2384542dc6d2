"""Allowances that are taken in batches come to the same in the end."""

from __future__ import annotations

import pytest

from blueprints.credits import MAX_CALLERS, Credits
from tests.support.clocks import Clock

NOBODY, SOMEBODY = "192.0.2.1", "192.0.2.2"


class Counter:
    """The counter that all processes share, and how often it was asked."""

    def __init__(self, quota: int) -> None:
        self.quota = quota
        self.used = 0
        self.asked = 0

    def take(self, count: int) -> bool:
        self.asked += 1
        self.used += count
        return self.used <= self.quota


def ask(purse: Credits, counter: Counter, caller: str = SOMEBODY) -> bool:
    """One answer, as the doors charge for it."""
    if purse.spend(caller):
        return True
    batch = purse.next_batch(caller)
    if not counter.take(batch):
        return False
    purse.grant(caller, batch, counter.quota - counter.used)
    return True


@pytest.mark.parametrize("quota", [1, 2, 5, 19, 39, 40, 41, 97, 600, 601, 10_000])
def test_one_process_gives_out_exactly_the_allowance(quota: int) -> None:
    purse, counter = Credits(quota, 60), Counter(quota)
    given = [ask(purse, counter) for _ in range(quota + 50)]
    assert given == [True] * quota + [False] * 50


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("quota", [5, 600])
def test_several_processes_give_out_little_more_or_less(quota: int, processes: int) -> None:
    each, counter = [Credits(quota, 60) for _ in range(processes)], Counter(quota)
    given = sum(ask(each[number % processes], counter) for number in range(quota * 3))
    share = quota // 20
    assert quota - processes * share <= given <= quota + processes * share


def test_the_counter_is_asked_for_few_of_many_answers() -> None:
    purse, counter = Credits(600, 60), Counter(600)
    assert all(ask(purse, counter) for _ in range(500))
    assert counter.asked <= 20


def test_what_is_left_does_not_last_beyond_the_window() -> None:
    clock, counter = Clock(0.0), Counter(600)
    purse = Credits(600, 60, clock)
    for _ in range(31):
        ask(purse, counter)
    clock.now += 60
    before = counter.asked
    assert all(ask(purse, counter) for _ in range(30))
    assert counter.asked == before + 1, "the advance of the new window, and then a batch"


def test_callers_do_not_spend_what_others_have() -> None:
    purse, counter = Credits(600, 60), Counter(600)
    for _ in range(700):
        ask(purse, counter, NOBODY)
    assert not ask(purse, counter, NOBODY)
    assert purse.spend(SOMEBODY)


def test_callers_are_remembered_in_bounded_number() -> None:
    purse = Credits(600, 60)
    for number in range(MAX_CALLERS + 500):
        purse.spend(f"caller-{number}")
    assert len(purse._purses) == MAX_CALLERS


@pytest.mark.parametrize("quota", [5, 40, 600])
def test_who_ask_at_once_are_given_the_allowance_together(quota: int) -> None:
    purse, counter = Credits(quota, 60), Counter(quota)
    given = 0
    while purse.spend(SOMEBODY):
        given += 1
    crowd = [purse.next_batch(SOMEBODY) for _ in range(4)]
    for batch in crowd:
        assert counter.take(batch)
        purse.grant(SOMEBODY, batch, quota - counter.used)
        given += 1
    assert [ask(purse, counter) for _ in range(quota)] == [True] * (quota - given) + [False] * given


def test_of_a_crowd_one_asks_for_more_than_for_itself() -> None:
    purse, counter = Credits(600, 60), Counter(600)
    while purse.spend(SOMEBODY):
        pass
    assert all(counter.take(purse.next_batch(SOMEBODY)) for _ in range(100)), "no more than there is"
