"""What processes have counted that are no more: added up, so that their files do not become ever more."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

from prometheus_client.mmap_dict import MmapedDict

#: In the name of a file, where others have the id of their process.
ENDED = "ended"

#: What is added up; of gauges only those of living processes are told.
KINDS = ("counter", "histogram")

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def held_steady(folder: Path) -> Iterator[None]:
    """Have no counts moved there meanwhile, of which a reader would see some twice or not at all.

    Where the file system has no locks, nobody moves any.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            held.enter_context(_locked(folder, fcntl.LOCK_SH))
        yield


def forget_ended(folder: Path, living: Collection[int]) -> None:
    """Remove the files of all processes that are not ``living`` and keep their counts in one of each kind.

    For the main process of the living, which has to go on whatever happens, and waits for nobody. What cannot
    be moved, as where the disk is full or somebody reads just then, is moved when the next process ends.
    """
    kept = {ENDED, *map(str, living)}
    ended = [path for path in folder.glob("*_*.db") if path.stem.rpartition("_")[2] not in kept]
    try:
        for path in ended:
            if path.name.startswith("gauge_"):
                path.unlink()
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            for kind in KINDS:
                _move(
                    [path for path in ended if path.name.startswith(f"{kind}_")],
                    folder / f"{kind}_{ENDED}.db",
                )
    except BlockingIOError:
        return
    except (OSError, RuntimeError, ValueError, struct.error) as error:
        logger.warning("What a process has counted that ended stays in a file of its own: %s", error)


@contextlib.contextmanager
def _locked(folder: Path, operation: int) -> Iterator[None]:
    """With flock(2) of that kind, which ends with the process at the latest. Raises OSError.

    The folder itself is locked by whoever has made it, for as long as it is used.
    """
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, mode=0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _move(files: list[Path], sums: Path) -> None:
    """Add the counts of ``files`` to ``sums`` and remove them, or raise and leave all as it was."""
    if not files:
        return
    counted: dict[str, float] = {}
    for file in [sums, *files] if sums.exists() else files:
        values = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]
        for key, value, *_ in values:
            counted[key] = counted.get(key, 0.0) + value
    draft = sums.with_suffix(".draft")
    try:
        draft.write_bytes(_as_file(counted))
        draft.replace(sums)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    for file in files:
        file.unlink()


def _as_file(counted: dict[str, float]) -> bytes:
    """These counts as prometheus_client has them in its files; see ``MmapedDict``."""
    entries = bytearray()
    for key, value in counted.items():
        encoded = key.encode()
        padded = encoded + b" " * (8 - (len(encoded) + 4) % 8)
        entries += struct.pack("i", len(encoded)) + padded + struct.pack("dd", value, 0.0)
    return struct.pack("i4x", 8 + len(entries)) + entries
