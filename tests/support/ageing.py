"""Time passes for a cache in files: its pictures become older without anybody waiting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from thumbnailer import backend, cache

#: How the value of a picture begins, after whatever the folder writes in front of it.
_PICTURE = backend.MAGIC + cache.MAGIC


def age_pictures(folder: Path, seconds: float) -> int:
    """Make every picture in the cache of ``folder`` that much older; how many there were."""
    aged = 0
    for path in (folder / "entries").rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        at = content.find(_PICTURE)
        if at < 0:
            continue
        at += len(backend.MAGIC)
        entry = cache._Entry.decode(content[at:])
        record = replace(entry.record, captured_at=entry.record.captured_at - seconds)
        path.write_bytes(content[:at] + replace(entry, record=record).encode())
        aged += 1
    return aged
