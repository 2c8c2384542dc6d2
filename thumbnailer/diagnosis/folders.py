"""Checks of folders: whether they take files, and how much fits in."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.local_storage import MIN_FREE_BYTES
from thumbnailer.model import Deadline

MIB = 1024 * 1024
PROBE_PREFIX = ".doctor-"


def takes_files(_deadline: Deadline, *, folder: Path, setting: str) -> Verdict:
    """Writes a file, has it on the disk, and deletes it; a folder that is not there is not made."""
    there = nearest(folder)
    if there != folder:
        if os.access(there, os.W_OK | os.X_OK, effective_ids=True):
            return well(f"{folder} is not there yet; it is made when it is needed")
        return wrong(f"{folder} is not there, and {there} does not let it be made", _advice(folder, setting))
    try:
        with tempfile.NamedTemporaryFile(prefix=PROBE_PREFIX, dir=folder) as file:
            file.write(b"written by flask doctor")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return wrong(f"{folder}: {_told(error)}", _advice(folder, setting))
    return _owned(folder)


def _owned(folder: Path) -> Verdict:
    """Root may write anywhere, which says nothing about the service's user."""
    owner = folder.stat().st_uid
    if os.geteuid() == 0 and owner != 0:
        advice = (
            f"Run this command as user {owner}, whom the folder belongs to, to see whether the service can."
        )
        return doubtful(f"{folder} takes files from root, and belongs to user {owner}", advice)
    return well(f"{folder} takes files")


def has_room(deadline: Deadline, *, folder: Path, setting: str, wanted_bytes: int | None = None) -> Verdict:
    """Compares what is free on the folder's disk with what the storage needs, or the cache may take up."""
    there = nearest(folder)
    free = shutil.disk_usage(there).free
    found = f"{free // MIB} MiB are free on the disk of {folder}"
    if free < MIN_FREE_BYTES:
        return wrong(found, f"Make room there, or let {setting} name a folder on another disk.")
    if wanted_bytes is not None and free < wanted_bytes:
        used = bytes_in(there, deadline) if there == folder else 0
        if used + free < wanted_bytes:
            advice = f"Make room there, or lower CACHE_MAX_BYTES to less than {(used + free) // MIB} MiB."
            more = (
                f", and {used // MIB} MiB are in use of the {wanted_bytes // MIB} that CACHE_MAX_BYTES allows"
            )
            return doubtful(found + more, advice, "docs/configuration.md#cache_max_bytes")
    return well(found)


def nearest(path: Path) -> Path:
    """The path itself where it exists, else the nearest above it that does."""
    return next((one for one in (path, *path.parents) if one.exists()), Path("/"))


def bytes_in(folder: Path, deadline: Deadline) -> int:
    """What the files below a folder take up; as far as there is time to count."""
    total = 0
    for parent, _, names in os.walk(folder):
        if deadline.has_passed():
            break
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total


def _advice(folder: Path, setting: str) -> str:
    return f"Give {folder} to the user that the service runs as, or let {setting} name another folder."


def _told(error: OSError) -> str:
    return os.strerror(error.errno).lower() if error.errno else type(error).__name__
