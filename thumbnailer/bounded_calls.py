"""Waiting for what knows no deadline of its own, and no longer than somebody waits for the answer."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from thumbnailer.errors import Overloaded

T = TypeVar("T")


def start(thread: threading.Thread) -> None:
    """Start a thread. Raises Overloaded where no further one can be started."""
    try:
        thread.start()
    except RuntimeError as error:
        raise Overloaded("No further thread can be started.") from error


class BoundedCalls:
    """Runs calls that may hang, in at most ``places`` threads at a time.

    A call that nobody waits for any more goes on in its daemon thread and keeps its place until it ends
    by itself, so that a neighbour that hangs cannot pile up threads. Threads are started one by one,
    none before the first call, which keeps this safe to create before a fork.
    """

    def __init__(self, places: int) -> None:
        self._places = threading.BoundedSemaphore(places)

    def run(self, call: Callable[[], T], seconds: float) -> T:
        """What ``call`` returns or raises, after at most ``seconds``.

        Raises:
            Overloaded: no place became free, or there is no thread for it; the call was not made.
            TimeoutError: it did not end in time. It may yet do its work.
        """
        give_up_at = time.monotonic() + seconds
        if not self._places.acquire(timeout=seconds):
            raise Overloaded("Too many requests are waiting already. Try again later.")
        outcome: Future[T] = Future()
        context = contextvars.copy_context()
        try:
            start(threading.Thread(target=context.run, args=(self._run, outcome, call), daemon=True))
        except Overloaded:
            self._places.release()
            raise
        return outcome.result(timeout=max(0.0, give_up_at - time.monotonic()))

    def _run(self, outcome: Future[T], call: Callable[[], T]) -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the one who waits
            outcome.set_exception(error)
        finally:
            self._places.release()
