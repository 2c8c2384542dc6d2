"""So many captures at once, so many in line, the rest turned away."""

from __future__ import annotations

import threading

import pytest

from thumbnailer.bulkhead import Bulkhead
from thumbnailer.errors import Overloaded
from thumbnailer.model import Deadline


def soon() -> Deadline:
    return Deadline.after(600)


def test_who_finds_the_line_full_is_turned_away_at_once() -> None:
    bulkhead = Bulkhead(in_flight=1, waiting=0)
    with bulkhead.place(soon()), pytest.raises(Overloaded) as refused, bulkhead.place(soon()):
        pass
    assert refused.value.retry_after_seconds


def test_who_waits_gets_the_place_that_becomes_free() -> None:
    bulkhead = Bulkhead(in_flight=1, waiting=1)
    entered = threading.Event()

    def wait() -> None:
        with bulkhead.place(soon()):
            entered.set()

    waiter = threading.Thread(target=wait)
    with bulkhead.place(soon()):
        waiter.start()
        assert not entered.is_set()
    assert entered.wait(20)
    waiter.join()


def test_who_waits_too_long_is_turned_away() -> None:
    bulkhead = Bulkhead(in_flight=1, waiting=1)
    with bulkhead.place(soon()), pytest.raises(Overloaded), bulkhead.place(Deadline.after(0.01)):
        pass


def test_a_place_is_free_again_after_a_failure() -> None:
    bulkhead = Bulkhead(in_flight=1, waiting=0)
    with pytest.raises(ValueError, match="broken"), bulkhead.place(soon()):
        raise ValueError("broken")
    with bulkhead.place(soon()):
        pass
