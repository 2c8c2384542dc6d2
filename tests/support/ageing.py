"""Time passes for a cache in files: its pictures become older without anybody waiting."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from thumbnailer import backend, cache, file_cache

_PREFIX = struct.calcsize(">4sd") + len(backend.MAGIC)


def age_pictures(folder: Path, seconds: float) -> int:
    """Make every picture in the cache of ``folder`` that much older; how many there were."""
    aged = 0
    for path in (folder / "entries").glob("*/*"):
        content = path.read_bytes()
        if not content.startswith(file_cache.MAGIC) or cache.MAGIC not in content[_PREFIX : _PREFIX + 4]:
            continue
        entry = cache._Entry.decode(content[_PREFIX:])
        record = replace(entry.record, captured_at=entry.record.captured_at - seconds)
        path.write_bytes(content[:_PREFIX] + replace(entry, record=record).encode())
        aged += 1
    return aged
