"""What processes use of the machine's memory, as Linux tells it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

#: Memory that is no copy of a file: proc_pid_status(5), in KiB.
_IN_USE = re.compile(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)


def process_tree(root: int) -> Iterator[int]:
    """A process and all that it has started, directly or not: proc_tid_children(5)."""
    yield root
    with suppress(OSError):
        for thread in Path(f"/proc/{root}/task").iterdir():
            with suppress(OSError):
                for child in (thread / "children").read_text(encoding="ascii").split():
                    yield from process_tree(int(child))


def used_bytes(process: int) -> int:
    """What a process uses; zero where it has ended. What it shares with others counts for each of them."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    return sum(int(size) << 10 for size in _IN_USE.findall(status))
