"""Memory that is free goes back to the system, in web processes and in workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import free_port
from tests.support.service import PROJECT

#: glibc notes in front of each piece of memory, in bit 1 of its size, whether it has a mapping of its own.
PROBE = """
import ctypes
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
word = ctypes.sizeof(ctypes.c_size_t)
noted = [ctypes.c_size_t.from_address(libc.malloc(kibibytes << 10) - word).value for kibibytes in (32, 100)]
print(*(bool(size & 2) for size in noted))
"""


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param("pass", "False False", id="as it is elsewhere"),
        pytest.param("import runpy; runpy.run_path('gunicorn.conf.py')", "False True", id="gunicorn"),
        pytest.param("import worker", "False True", id="a worker"),
    ],
)
def test_large_buffers_are_given_back_as_soon_as_they_are_free(
    entry: str, expected: str, tmp_path: Path
) -> None:
    settings = {
        "APP_ENV": "testing",
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "CACHE_DIR": str(tmp_path),
        "MEDIA_DIR": str(tmp_path),
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}/0",
    }
    command = [sys.executable, "-c", f"{entry}\n{PROBE}"]
    done = subprocess.run(command, cwd=PROJECT, env=settings, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[-2] == expected
