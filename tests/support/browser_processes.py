"""The processes of the browser that this process steers."""

from __future__ import annotations

import contextlib

import psutil


def living(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if is_living(one)]


def is_living(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def command_of(process: psutil.Process) -> str:
    """Nothing where the process has ended meanwhile."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def descendants() -> list[psutil.Process]:
    """The browser, its driver and their children; other tests' servers are not counted."""
    found = living(psutil.Process().children(recursive=True))
    return [one for one in found if "chrom" in command_of(one) or "playwright" in command_of(one)]


def the_browser() -> psutil.Process:
    """The one Chromium that descends from this process, not its own children."""
    (found,) = [one for one in descendants() if is_browser(one)]
    return found


def is_browser(process: psutil.Process) -> bool:
    command = command_of(process)
    return "--remote-debugging-pipe" in command and "--type=" not in command


def the_driver() -> psutil.Process:
    driver = the_browser().parent()
    assert driver is not None
    return driver


def renderers() -> list[psutil.Process]:
    return [one for one in descendants() if "--type=renderer" in command_of(one)]


def the_browser_or_none() -> psutil.Process | None:
    found = [one for one in descendants() if is_browser(one)]
    return found[0] if found else None
