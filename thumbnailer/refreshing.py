"""Takes captures behind the answers: a few at a time, each picture once."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import structlog

from thumbnailer.errors import ThumbnailerError

log = structlog.get_logger(__name__)

#: After a failure the same picture is left alone for as long as the error says, but for so many seconds
#: at least and at most: each request for it would try again, and pay for that.
LEAST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 60.0


class Refresher:
    """Runs refreshes in threads of its own, which start with the first one (so after any fork).

    At most ``workers`` run at once and ``backlog`` wait. What is beyond that, or under way already, is
    dropped: the stale copy is still good, and the next request asks again. So is what has just failed.
    ``clock`` is in seconds.
    """

    def __init__(self, *, workers: int, backlog: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="refresh")
        self._limit = workers + backlog
        self._guard = threading.Lock()
        self._pending: set[str] = set()
        self._resting_until: dict[str, float] = {}
        self._clock = clock

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits."""
        with self._guard:
            return not self._pending

    def submit(self, key: str, refresh: Callable[[], object], admit: Callable[[], bool]) -> None:
        """Run ``refresh`` soon, unless that is under way already, has just failed, or there is no room.

        ``admit`` is asked first, here and while nobody else can refresh ``key``: whether it is still wanted.
        What it raises goes to the caller.
        """
        with self._guard:
            if not self._takes(key):
                return
            self._pending.add(key)
        with ExitStack() as held:
            held.callback(self._leave, key)
            if not admit():
                return
            with suppress(RuntimeError):  # closed meanwhile, or no thread to be had
                self._executor.submit(contextvars.copy_context().run, self._run, key, refresh)
                held.pop_all()

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, key: str, refresh: Callable[[], object]) -> None:
        try:
            refresh()
        except ThumbnailerError as error:
            self._rest(key, error.retry_after_seconds or 0.0)
            log.info("refresh_failed", reason=str(error), error=type(error).__name__)
        except Exception:
            self._rest(key, 0.0)
            log.exception("refresh_broke")
        finally:
            self._leave(key)

    def _takes(self, key: str) -> bool:
        is_resting = self._resting_until.get(key, self._clock()) > self._clock()
        return not is_resting and key not in self._pending and len(self._pending) < self._limit

    def _rest(self, key: str, seconds: float) -> None:
        now = self._clock()
        until = now + min(max(seconds, LEAST_REST_SECONDS), LONGEST_REST_SECONDS)
        with self._guard:
            resting = {one: end for one, end in self._resting_until.items() if end > now}
            self._resting_until = {**resting, key: until}

    def _leave(self, key: str) -> None:
        with self._guard:
            self._pending.discard(key)
