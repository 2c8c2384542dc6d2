"""A service that has hardly any room in one of its folders: a real file system of few bytes."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import executable
from tests.support.service import Service


def python_with_small_disk(folder: Path, size: str, *, beside: Path) -> str:
    """A program as ``sys.executable`` for which ``folder`` is a disk of ``size``, such as ``1m``.

    Only its own processes see the disk, which goes with them. Skips the test where nobody may do that.
    """
    unshare = [executable("unshare"), "--mount", "--map-root-user"]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows nobody to mount a file system")
    folder.mkdir(exist_ok=True)
    mount = f"mount -t tmpfs -o size={size},mode=700 tmpfs '{folder}'"
    program = beside / f"python-with-small-{folder.name}"
    program.write_text(f"#!/bin/sh\n{mount} && exec '{sys.executable}' \"$@\"\n")
    program.chmod(0o700)
    entry = beside / f"unshared-{program.name}"
    entry.write_text(f"#!/bin/sh\nexec {' '.join(unshare)} '{program}' \"$@\"\n")
    entry.chmod(0o700)
    return str(entry)


def seen_by(service: Service, folder: Path) -> Path:
    """The folder as the service sees it."""
    return Path(f"/proc/{service.pid}/root{folder}")


def fill_up(folder: Path) -> None:
    """Leave no room there."""
    with contextlib.suppress(OSError), (folder / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@contextlib.contextmanager
def room_for(file_bytes: int) -> Iterator[None]:
    """No file of this process grows beyond this, as on a disk that is full (setrlimit(2))."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
