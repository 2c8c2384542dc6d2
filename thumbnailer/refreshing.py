"""Takes captures behind the answers: a few at a time, each picture once."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from thumbnailer.errors import ThumbnailerError

log = structlog.get_logger(__name__)


class Refresher:
    """Runs refreshes in threads of its own, which start with the first one (so after any fork).

    At most ``workers`` run at once and ``backlog`` wait. What is beyond that, or under way already, is
    dropped: the stale copy is still good, and the next request asks again.
    """

    def __init__(self, *, workers: int, backlog: int) -> None:
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="refresh")
        self._limit = workers + backlog
        self._guard = threading.Lock()
        self._pending: set[str] = set()

    def has_room_for(self, key: str) -> bool:
        """Whether ``submit`` would take ``key`` now."""
        with self._guard:
            return key not in self._pending and len(self._pending) < self._limit

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs or waits."""
        with self._guard:
            return not self._pending

    def submit(self, key: str, refresh: Callable[[], object]) -> bool:
        """Run ``refresh`` soon; False where it is under way already or there is no room."""
        with self._guard:
            if key in self._pending or len(self._pending) >= self._limit:
                return False
            self._pending.add(key)
        context = contextvars.copy_context()
        try:
            self._executor.submit(context.run, self._run, key, refresh)
        except RuntimeError:  # closed meanwhile
            self._leave(key)
            return False
        return True

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, key: str, refresh: Callable[[], object]) -> None:
        try:
            refresh()
        except ThumbnailerError as error:
            log.info("refresh_failed", reason=str(error), error=type(error).__name__)
        except Exception:
            log.exception("refresh_broke")
        finally:
            self._leave(key)

    def _leave(self, key: str) -> None:
        with self._guard:
            self._pending.discard(key)
