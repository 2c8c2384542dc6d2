"""The memory of this process as a Flask-Caching backend that knows what it holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cachelib.simple import SimpleCache

from thumbnailer.backend import RawBytesSerializer


class MemoryCache(SimpleCache):
    """At most ``threshold`` values: ``CACHE_TYPE = "thumbnailer.memory_cache.MemoryCache"``.

    Flask-Caching makes it with these four arguments, as it makes ``FileCache``.
    """

    def __init__(
        self,
        app: object,  # noqa: ARG002  # Flask-Caching passes it
        config: Mapping[str, Any],  # noqa: ARG002  # as above
        args: Sequence[object],
        options: Mapping[str, Any],
    ) -> None:
        if args:
            raise ValueError("A MemoryCache takes no CACHE_ARGS.")
        super().__init__(**options)
        self.serializer = RawBytesSerializer()  # type: ignore[assignment]  # cachelib's own serializer unpickles

    def find(self, prefixes: Sequence[str]) -> Iterator[Sequence[str]]:
        """The keys that begin with one of ``prefixes``."""
        with self._lock:
            found = [key for key in self._cache if key.startswith(tuple(prefixes))]
        yield found

    def remove(self, keys: Sequence[str]) -> int:
        """Delete ``keys``; how many of them there were."""
        return sum(self.delete(key) for key in keys)
