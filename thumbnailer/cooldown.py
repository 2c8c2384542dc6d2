"""Leaving a failing neighbour alone for a while."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

logger = logging.getLogger(__name__)

DEFAULT_SECONDS = 5.0
NEVER_FAILED = float("-inf")


class CoolDown:
    """Decides whether a neighbour that failed may be called again.

    A silent Redis costs every call its whole socket timeout; a request makes several calls, so
    without a pause each request would pay a second or more for nothing. After a failure nobody
    calls for ``seconds``; then one caller alone tries while the others stay away until it reports.

    ``name`` is what the log calls the neighbour. Safe to use from many threads.
    """

    def __init__(
        self, name: str, *, seconds: float = DEFAULT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._seconds = seconds
        self._clock = clock
        self._guard = threading.Lock()
        self._resume_at = NEVER_FAILED
        self._quiet_until = NEVER_FAILED

    def call(
        self, operation: Callable[[], T], lost: type[Exception] | tuple[type[Exception], ...]
    ) -> T | None:
        """What ``operation`` returns; None where the neighbour is left alone or does not answer.

        That it does not is said by the errors ``lost``; all others go up.
        """
        if not self.allows():
            return None
        try:
            result = operation()
        except lost as error:
            self.failed(error)
            return None
        self.answered()
        return result

    def allows(self) -> bool:
        """Whether to call now; whoever is told yes must report ``failed`` or ``answered``."""
        if self._resume_at == NEVER_FAILED:
            return True
        with self._guard:
            now = self._clock()
            if now < self._resume_at:
                return False
            if self._resume_at != NEVER_FAILED:
                self._resume_at = now + self._seconds
            return True

    def failed(self, error: Exception) -> None:
        """The neighbour did not answer: start the pause."""
        with self._guard:
            self._resume_at = self._clock() + self._seconds
        self.complain(error)

    def answered(self) -> None:
        """The neighbour answered, be it with an error: end the pause."""
        if self._resume_at != NEVER_FAILED:
            with self._guard:
                self._resume_at = NEVER_FAILED

    def complain(self, error: Exception) -> None:
        """Log ``error``, at most once in ``seconds``."""
        with self._guard:
            now = self._clock()
            if now < self._quiet_until:
                return
            self._quiet_until = now + self._seconds
        logger.warning("%s fails: %s: %s", self._name, type(error).__name__, error)
