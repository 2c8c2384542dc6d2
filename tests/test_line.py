"""So many may wait at once; whoever leaves makes room for another."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor

import pytest

from thumbnailer.errors import Overloaded
from thumbnailer.line import Line, Place


def test_who_finds_every_place_taken_is_told_when_to_come_again() -> None:
    line = Line(2)
    places = [line.take_place(), line.take_place()]
    with pytest.raises(Overloaded) as refused:
        line.take_place()
    assert refused.value.retry_after_seconds
    assert line.length == len(places)


def test_a_place_is_given_back_once() -> None:
    line = Line(2)
    first, second = line.take_place(), line.take_place()
    first.give_back()
    first.give_back()
    assert line.length == 1
    second.give_back()
    assert line.length == 0


def test_a_place_that_nobody_knows_any_more_is_free() -> None:
    line = Line(1)
    line.take_place()
    gc.collect()
    line.take_place().give_back()
    assert line.length == 0


def test_of_many_who_come_at_once_as_many_wait_as_there_are_places() -> None:
    line = Line(20)

    def come(_number: int) -> Place | None:
        try:
            return line.take_place()
        except Overloaded:
            return None

    with ThreadPoolExecutor(50) as pool:
        places = [place for place in pool.map(come, range(500)) if place]
    assert (len(places), line.length) == (20, 20)
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(lambda place: place.give_back(), places))
    assert line.length == 0
