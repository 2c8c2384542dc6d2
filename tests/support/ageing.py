"""Time passes for a cache: its pictures become older without anybody waiting."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import redis

from thumbnailer import backend, cache

#: How the value of a picture begins, after whatever the folder writes in front of it.
_PICTURE = backend.MAGIC + cache.MAGIC


def age_pictures(folder: Path, seconds: float) -> int:
    """Make every picture in the cache of ``folder`` that much older; how many there were."""
    paths = [path for path in (folder / "entries").rglob("*") if path.is_file()]
    older = {path: _aged(path.read_bytes(), seconds) for path in paths}
    return sum(bool(path.write_bytes(content)) for path, content in older.items() if content)


def age_pictures_in_redis(url: str, seconds: float) -> int:
    """The same in a Redis that nothing else is in."""
    with redis.Redis.from_url(url) as client:
        keys = [key for key in client.scan_iter() if client.type(key) == b"string"]
        older = {key: _aged(client.get(key) or b"", seconds) for key in keys}
        return sum(bool(client.set(key, content, keepttl=True)) for key, content in older.items() if content)


def _aged(content: bytes, seconds: float) -> bytes | None:
    """The value of an older picture; None where it is no picture's."""
    at = content.find(_PICTURE)
    if at < 0:
        return None
    at += len(backend.MAGIC)
    entry = cache._Entry.decode(content[at:])
    record = replace(entry.record, captured_at=entry.record.captured_at - seconds)
    return content[:at] + replace(entry, record=record).encode()
