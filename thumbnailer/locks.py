"""Locks that hold over threads, processes and, with Redis, machines.

All kinds may be released by another thread than the one that took them, as a streamed answer is
often closed elsewhere than it was begun; and all are free again after ``kill -9``.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import redis
from redis.exceptions import LockError, RedisError
from redis.lock import Lock

from thumbnailer.cooldown import CoolDown
from thumbnailer.model import Deadline

if TYPE_CHECKING:
    from filelock import FileLock

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.01
LEFTOVER_SECONDS = 3600


class Locks(Protocol):
    """One lock for each key; different keys never wait for each other."""

    def hold(self, key: str, deadline: Deadline) -> AbstractContextManager[None]:
        """Entering waits until nobody else holds ``key``; leaving never raises.

        Entering raises TimeoutError once the deadline has passed, and OSError of other kinds where
        no lock can be had at all, such as on a full disk. (TimeoutError is itself an OSError.)
        """


class FileLocks:
    """Locks for all processes of one machine, by ``flock`` on one file per key in ``folder``.

    The holder removes the file while it still holds it, so that the folder does not grow with the
    number of keys ever seen. That is safe because filelock looks, after taking a lock, whether the
    file still has a name, and starts over if not. Files of killed holders go at the next start.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with contextlib.suppress(OSError):
            self._remove_leftovers()

    @contextlib.contextmanager
    def hold(self, key: str, deadline: Deadline) -> Iterator[None]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / hashlib.sha256(key.encode()).hexdigest()
        lock = _file_lock(path)
        lock.acquire(timeout=deadline.remaining_seconds(), poll_interval=POLL_SECONDS)
        try:
            yield
        finally:
            _remove_and_release(path, lock)

    def _remove_leftovers(self) -> None:
        for path in self._folder.iterdir():
            lock = _file_lock(path)
            with contextlib.suppress(TimeoutError, FileNotFoundError):
                if time.time() - path.stat().st_mtime > LEFTOVER_SECONDS:
                    lock.acquire(blocking=False)
                    _remove_and_release(path, lock)


def _file_lock(path: Path) -> FileLock:
    """Not bound to a thread; and without filelock's substitute for ``flock``, which survives kill -9."""
    from filelock import FileLock

    return FileLock(path, mode=0o600, thread_local=False, fallback_to_soft=False)


def _remove_and_release(path: Path, lock: FileLock) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        lock.release()


class MemoryLocks:
    """Locks for the threads of one process; after a fork each process has its own."""

    def __init__(self) -> None:
        self._released = threading.Condition()
        self._held: set[tuple[int, str]] = set()

    @contextlib.contextmanager
    def hold(self, key: str, deadline: Deadline) -> Iterator[None]:
        own = (os.getpid(), key)
        with self._released:
            if not self._released.wait_for(lambda: own not in self._held, deadline.remaining_seconds()):
                raise TimeoutError
            self._held.add(own)
        try:
            yield
        finally:
            with self._released:
                self._held.remove(own)
                self._released.notify_all()


class RedisLocks:
    """Locks for all machines that share a Redis; ``fallback`` serves while it is out of reach.

    A lock expires ``margin_seconds`` after its holder's deadline, so that a killed holder blocks
    nobody for longer. While some processes reach Redis and others do not, a key may have two
    holders: that costs a second capture, no more. ``client`` needs ``socket_timeout`` and
    ``socket_connect_timeout``, without which a silent Redis would hang every caller.
    """

    def __init__(
        self,
        client: redis.Redis,
        fallback: Locks,
        *,
        prefix: str = "thumbnailer:lock:",
        margin_seconds: float = 2.0,
        cool_down: CoolDown | None = None,
    ) -> None:
        self._client = client
        self._fallback = fallback
        self._prefix = prefix
        self._margin_seconds = margin_seconds
        self._cool_down = cool_down or CoolDown("Redis, for locks,")

    @contextlib.contextmanager
    def hold(self, key: str, deadline: Deadline) -> Iterator[None]:
        lock = self._acquire(key, deadline)
        if lock is None:
            with self._fallback.hold(key, deadline):
                yield
            return
        try:
            yield
        finally:
            self._release(lock)

    def _acquire(self, key: str, deadline: Deadline) -> Lock | None:
        """None when Redis does not answer."""
        lock = Lock(self._client, self._prefix + key, thread_local=False)

        def acquire() -> bool:
            lock.timeout = deadline.remaining_seconds() + self._margin_seconds
            return bool(lock.acquire(blocking=False))

        while (is_ours := self._cool_down.call(acquire, RedisError)) is not None:
            if is_ours:
                return lock
            if deadline.has_passed():
                raise TimeoutError
            time.sleep(min(POLL_SECONDS, deadline.remaining_seconds()))
        return None

    def _release(self, lock: Lock) -> None:
        """Only what is still ours: redis-py compares the token inside Redis."""
        try:
            lock.release()
        except LockError:
            logger.info("A lock had expired before its holder was done.")
        except RedisError as error:
            self._cool_down.failed(error)
