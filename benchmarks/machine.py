"""Where and on what the figures were measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).parent.parent
PACKAGES = ("flask", "gunicorn", "Flask-Caching", "Flask-Limiter", "requests", "urllib3", "redis")


def surroundings() -> dict[str, Any]:
    """Machine, versions and commit, as JSON takes them."""
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "memory_mib": pages * page_bytes // 2**20,
            "kernel": platform.release(),
            "architecture": platform.machine(),
            "libc": " ".join(platform.libc_ver()),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "commit": _commit(),
    }


def _commit() -> str:
    """The commit, with a mark where the files differ from it; empty outside of a clone."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=PROJECT,
            capture_output=True,
            check=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()
