"""Folders for as long as a process lives, beside those of others in the system's temporary folder.

A process that is killed takes no folder of its own away. So each holds a lock on its folder, flock(2), which
ends with it however it ends, and whoever makes the next one of the same kind first removes those that nobody
holds: not those of other services on the machine, nor those in other containers that share the folder.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

#: Where somebody else's link stands in place of a folder, it is not followed.
_OPENING = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


class ScratchFolder:
    """A new folder in the system's temporary one, whose name begins with ``prefix``.

    The lock is shared with all processes that are forked afterwards, and ends with the last of them.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, prefix: str) -> None:
        remove_abandoned(prefix)
        while True:
            self.path = Path(tempfile.mkdtemp(prefix=prefix))
            # Before it is locked, somebody else may take it for abandoned.
            with contextlib.suppress(FileNotFoundError):
                self._lock = os.open(self.path, _OPENING)
                with contextlib.suppress(OSError):  # NFS locks no folders: nobody removes others' there
                    fcntl.flock(self._lock, fcntl.LOCK_EX)
                if self.path.is_dir():
                    return
                os.close(self._lock)

    def remove_at_exit(self) -> None:
        """Remove it when this process ends, not when one does that was forked from it."""
        atexit.register(self._remove_in, os.getpid())

    def _remove_in(self, pid: int) -> None:
        if os.getpid() == pid:
            self.remove()

    def remove(self) -> None:
        """Remove the folder with all that is in it, as far as that is possible."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """A ``ScratchFolder`` that is removed in the end. Raises OSError where it cannot be made."""
    folder = ScratchFolder(prefix)
    try:
        yield folder.path
    finally:
        folder.remove()


def remove_abandoned(prefix: str) -> None:
    """Remove this user's folders of that kind whose processes have ended; raises nothing."""
    for path in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with contextlib.suppress(OSError):
            _remove_unless_held(path)


def _remove_unless_held(path: Path) -> None:
    folder = os.open(path, _OPENING)
    try:
        if os.fstat(folder).st_uid == os.geteuid():
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(folder)
