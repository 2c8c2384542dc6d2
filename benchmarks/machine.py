"""Where and on what the figures were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.support.processes import executable

PROJECT = Path(__file__).parent.parent
PACKAGES = (
    "flask",
    "gunicorn",
    "Flask-Caching",
    "Flask-Limiter",
    "requests",
    "redis",
    "playwright",
    "pyvips",
)
#: What the service and its peers share is the same in both locks.
PEER_PACKAGES = ("fastapi", "uvicorn", "httpx", "thumbor")
PROGRAMS = {
    "nginx": ("-v",),
    "redis-server": ("--version",),
    "varnishd": ("-V",),
    "wrk": ("-v",),
    "chromium": ("--version", "--no-sandbox"),
}


def surroundings() -> dict[str, Any]:
    """Moment, machine, versions and commit, as JSON takes them."""
    cores = len(os.sched_getaffinity(0))
    pages, page_bytes = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "name": f"{cores}-cores",
            "cores": cores,
            "processor": _processor(),
            "memory_mib": pages * page_bytes // 2**20,
            "kernel": platform.release().partition("-")[0],
            "architecture": platform.machine(),
            "libc": " ".join(platform.libc_ver()),
            "load_before": round(os.getloadavg()[0], 2),
        },
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in PACKAGES}
        | _peer_versions()
        | {name: _version_of(name, *options) for name, options in PROGRAMS.items()},
        "commit": _commit(),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.processor()


def _peer_versions() -> dict[str, str]:
    lock = (PROJECT / "benchmarks" / "peers" / "requirements.lock").read_text(encoding="utf-8")
    return {name: match[1] for name in PEER_PACKAGES if (match := re.search(rf"(?m)^{name}==(\S+)", lock))}


def _version_of(program: str, *options: str) -> str:
    """What a program says of its version; empty where it is not installed."""
    try:
        told = subprocess.run([executable(program), *options], capture_output=True, check=False, text=True)
    except AssertionError:
        return ""
    found = re.search(r"\d+\.\d+(?:\.\d+)?", told.stdout + told.stderr)
    return found[0] if found else ""


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
