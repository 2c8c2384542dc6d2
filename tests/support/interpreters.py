"""The interpreters that run the recipes; a test whose interpreter is missing says so and is skipped."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import playwright
import pytest

#: Playwright brings a Node.js of its own, so that there is always one.
PLAYWRIGHT_NODE = Path(playwright.__file__).parent / "driver/node"


def interpreter(name: str) -> str:
    """The program ``name``, or the end of the test that needs it."""
    found = shutil.which(name) or (str(PLAYWRIGHT_NODE) if name == "node" else None)
    if found is None:
        pytest.skip(f"{name} is not installed; scripts/install-test-servers.sh installs it")
    return found


def run(*command: str | Path, text: str = "", environ: dict[str, str] | None = None) -> str:
    """What ``command`` prints when it is given ``text``; a failure of it fails the test."""
    done = subprocess.run(
        [interpreter(str(command[0])), *map(str, command[1:])],
        input=text.encode(),
        capture_output=True,
        env={"PATH": "/usr/bin:/bin"} | (environ or {}),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert not done.stderr, done.stderr.decode(errors="replace")
    return done.stdout.decode()
