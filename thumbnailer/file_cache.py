"""A folder of files as a Flask-Caching backend, bounded in bytes.

cachelib's own counts entries instead of bytes, rewrites a counter file at each ``set`` without a
lock, and unpickles what it finds. ``cache_files`` says what is in a file; its modification time is when it
was last used. Its name is the SHA-256 of its key; its folder that of what stands before the key's last
``/``, so that all keys of such a group lie in one folder of 256.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from io import FileIO
from pathlib import Path
from typing import Any

from cachelib.base import BaseCache
from filelock import FileLock, Timeout

from thumbnailer.backend import RawBytesSerializer
from thumbnailer.bounded_calls import start
from thumbnailer.cache_files import Entry, entries_in, header_of, is_alive, key_in, listing
from thumbnailer.cooldown import CoolDown
from thumbnailer.errors import Overloaded

DEFAULT_MAX_BYTES = 1024 * 1024 * 1024
#: A sweep is due once a process has written this share of the bound, and leaves the folder this
#: full. Four processes may then write between two sweeps and stay within the bound.
SWEEP_SHARE = 1 / 32
SWEEP_TARGET = 7 / 8
SWEEP_SECONDS = 600
#: To write the time of each use would turn every read into a write. A time as far ahead of now is that of a
#: clock that was set back: so it is with all times here.
TOUCH_SECONDS = 60
#: By age and not by process id: processes in other containers share the folder, not the ids.
LEFTOVER_SECONDS = 3600
#: How long a process that ends waits for its sweep, which hangs where a network's folder does not answer.
LAST_SWEEP_SECONDS = 10

#: Those that run in threads of this process.
_sweeps: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


class FolderCache(BaseCache):
    """Keeps values in ``folder``, together at most ``max_bytes``; many processes may share it.

    A folder that is full or cannot be written takes nothing, and one that cannot be read holds
    nothing; neither raises. ``clock`` tells Unix time in seconds; ``run`` runs the sweeps that are due when
    something was stored.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int = DEFAULT_MAX_BYTES,
        default_timeout: int = 300,
        ignore_delete_many_errors: bool = True,
        clock: Callable[[], float] = time.time,
        run: Callable[[Callable[[], None]], None] = lambda sweep: sweep(),
    ) -> None:
        super().__init__(default_timeout, ignore_delete_many_errors=ignore_delete_many_errors)
        self.serializer = RawBytesSerializer()  # public, as Flask-Caching puts CACHE_SERIALIZER here
        self._entries = folder / "entries"
        self._drafts = folder / "drafts"
        self._sweep_lock = folder / "sweep.lock"
        self._max_bytes = max_bytes
        self._clock = clock
        self._complaints = CoolDown("The cache folder", seconds=60)
        self._written_bytes = 0
        self._run = run
        self._sweeping = threading.Lock()

    def get(self, key: str) -> bytes | None:
        with contextlib.suppress(OSError), self._open(key) as file:
            if self._is_alive(file, key):
                return self.serializer.load(file)
        return None

    def has(self, key: str) -> bool:
        with contextlib.suppress(OSError), self._open(key) as file:
            return self._is_alive(file, key)
        return False

    def set(self, key: str, value: object, timeout: int | timedelta | None = None) -> bool:
        """Whether the value is stored; ``timeout`` is seconds, 0 for ever, None the default.

        A file appears whole or not at all: it is written elsewhere and then renamed.
        """
        if isinstance(value, bytes) and len(value) > self._max_bytes:
            return False
        seconds = self._normalize_timeout(timeout)
        name = key.encode()
        header = header_of(name, self._clock() + seconds if seconds else 0.0)
        is_written = self._attempt(lambda: self._write(self._path(key), header, value))
        # After a failure too: the disk may be full of what has expired.
        if self._is_sweep_due() and self._sweeping.acquire(blocking=False):
            self._run(self._sweep_now)
        return is_written

    def add(self, key: str, value: object, timeout: int | timedelta | None = None) -> bool:
        """Not offered: no caller can rely on it over Flask-Caching's backends.

        The inherited method would store nothing and say that it had.
        """
        raise NotImplementedError

    def delete(self, key: str) -> bool:
        """Whether the key was there."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()
            return True
        return False

    def find(self, prefixes: Sequence[str]) -> Iterator[Sequence[str]]:
        """The keys that begin with one of ``prefixes``; raises OSError where the folder cannot be read.

        Reads the beginning of every file, unless each prefix names a whole group (``group/``).
        """
        wanted = tuple(prefix.encode() for prefix in prefixes)
        is_grouped = all("/" in prefix for prefix in prefixes)
        for shard in {self._shard(one) for one in prefixes} if is_grouped else listing(self._entries):
            keys = (key_in(path) for path in listing(shard))
            yield [key.decode(errors="replace") for key in keys if key.startswith(wanted)]

    def remove(self, keys: Sequence[str]) -> int:
        """Delete ``keys``; how many of them there were. Raises OSError where one cannot be deleted."""
        removed = 0
        for key in keys:
            with contextlib.suppress(FileNotFoundError):
                self._path(key).unlink()
                removed += 1
        return removed

    def clear(self) -> bool:
        shutil.rmtree(self._entries, ignore_errors=True)
        return not self._entries.exists()

    def sweep(self) -> None:
        """Remove what has expired, then what was used longest ago, until the folder fits.

        Does nothing while another process sweeps. Raises OSError where the folder cannot be read.
        """
        self._written_bytes = 0
        lock = FileLock(self._sweep_lock, mode=0o600, blocking=False)
        try:
            lock.acquire()
        except Timeout:
            return
        try:
            now = self._clock()
            os.utime(self._sweep_lock, (now, now))
            self._remove_leftovers()
            self._remove_entries()
        finally:
            lock.release()

    def _sweep_now(self) -> None:
        try:
            self._attempt(self.sweep)
        finally:
            self._sweeping.release()

    def _attempt(self, action: Callable[[], None]) -> bool:
        try:
            action()
        except OSError as error:
            self._complaints.complain(error)
            return False
        return True

    def _path(self, key: str) -> Path:
        return self._shard(key) / hashlib.sha256(key.encode()).hexdigest()

    def _shard(self, key: str) -> Path:
        group = key.rpartition("/")[0] or key
        return self._entries / hashlib.sha256(group.encode()).hexdigest()[:2]

    def _open(self, key: str) -> FileIO:
        return self._path(key).open("rb", buffering=0)

    def _is_alive(self, file: FileIO, key: str) -> bool:
        """Read the header of an entry in use; afterwards ``file`` stands at its value."""
        now = self._clock()
        if not is_alive(file, key.encode(), now):
            return False
        if abs(now - os.fstat(file.fileno()).st_mtime) > TOUCH_SECONDS:
            with contextlib.suppress(OSError):  # a folder that cannot be written can still be read
                os.utime(file.fileno(), (now, now))
        return True

    def _write(self, path: Path, header: bytes, value: object) -> None:
        for folder in (self._drafts, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=self._drafts)  # readable by this user only
        draft = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(header)
                self.serializer.dump(value, file)
                self._written_bytes += file.tell()
            now = self._clock()
            os.utime(draft, (now, now))
            draft.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                draft.unlink()
            raise

    def _is_sweep_due(self) -> bool:
        if self._written_bytes >= self._max_bytes * SWEEP_SHARE:
            return True
        try:
            swept_at = self._sweep_lock.stat().st_mtime  # of whichever process swept last
        except OSError:
            return True
        return abs(self._clock() - swept_at) > SWEEP_SECONDS

    def _remove_leftovers(self) -> None:
        """Drafts of processes that died while writing."""
        for draft in listing(self._drafts):
            with contextlib.suppress(OSError):
                if abs(self._clock() - draft.stat().st_mtime) > LEFTOVER_SECONDS:
                    draft.unlink()

    def _remove_entries(self) -> None:
        """Walks the folder twice rather than hold what may be very many files in memory."""
        bytes_by_second: Counter[int] = Counter()
        for entry in self._entries_found():
            if entry.has_expired:
                entry.remove()
            else:
                bytes_by_second[int(entry.used_at)] += entry.size_bytes
        surplus_bytes = bytes_by_second.total() - self._max_bytes * SWEEP_TARGET
        if surplus_bytes > 0:
            self._remove_oldest(bytes_by_second, surplus_bytes)

    def _remove_oldest(self, bytes_by_second: Mapping[int, int], surplus_bytes: float) -> None:
        """Of what was used in the last second that has to go, only as much as needed."""
        last = 0
        for last in sorted(bytes_by_second):
            if surplus_bytes <= bytes_by_second[last]:
                break
            surplus_bytes -= bytes_by_second[last]
        for entry in self._entries_found():
            if int(entry.used_at) < last:
                entry.remove()
            elif int(entry.used_at) == last and surplus_bytes > 0:
                entry.remove()
                surplus_bytes -= entry.size_bytes

    def _entries_found(self) -> Iterator[Entry]:
        return (entry for shard in listing(self._entries) for entry in entries_in(shard, self._clock()))


class FileCache(FolderCache):
    """``FolderCache`` as Flask-Caching makes it: ``CACHE_TYPE = "thumbnailer.file_cache.FileCache"``.

    Flask-Caching 2.5 calls ``factory`` on subclasses of its own base class only, which would bring
    Flask in here; anything else it calls with these four arguments. ``options`` holds
    ``default_timeout`` (``CACHE_DEFAULT_TIMEOUT``), ``ignore_delete_many_errors`` and what
    ``CACHE_OPTIONS`` says, such as ``max_bytes``. The folder is ``CACHE_DIR``.
    """

    def __init__(
        self,
        app: object,  # noqa: ARG002  # Flask-Caching passes it
        config: Mapping[str, Any],
        args: Sequence[object],
        options: Mapping[str, Any],
    ) -> None:
        if args or not config["CACHE_DIR"]:
            raise ValueError("A FileCache needs CACHE_DIR and takes no CACHE_ARGS.")
        super().__init__(Path(config["CACHE_DIR"]), run=_run_behind, **options)


def _run_behind(sweep: Callable[[], None]) -> None:
    """Whoever stores a picture does not wait for the look at all files."""
    thread = threading.Thread(target=sweep, name="cache-sweep", daemon=True)
    try:
        start(thread)
    except Overloaded:
        sweep()
    else:
        _sweeps.add(thread)


@atexit.register
def _await_sweeps() -> None:
    """Let a process that ends bring its sweeps to an end, too, but for those that hang.

    What is cut off is lost to nobody: files are removed one by one, and the next sweep goes on.
    """
    give_up_at = time.monotonic() + LAST_SWEEP_SECONDS
    for thread in tuple(_sweeps):
        thread.join(max(0.0, give_up_at - time.monotonic()))
