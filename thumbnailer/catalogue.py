"""What is in the cache, by address: what Flask-Caching's backends cannot tell, and a purge must know."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import redis

BATCH = 1000


class Catalogue(Protocol):
    """Lists and deletes what the cache holds; each method may raise what the store raises."""

    def find(self, prefixes: Sequence[str]) -> Iterator[Sequence[str]]:
        """The keys that begin with one of ``prefixes``, a bounded number at a time, perhaps none.

        What is stored while this goes on may be missed.
        """

    def remove(self, keys: Sequence[str]) -> int:
        """Delete ``keys``; how many of them there were."""


class RedisCatalogue:
    """The keys of a Redis that begin with ``key_prefix``, by SCAN, which blocks nobody.

    ``client`` needs ``socket_timeout`` and ``socket_connect_timeout``.
    """

    def __init__(self, client: redis.Redis, *, key_prefix: str) -> None:
        self._client = client
        self._key_prefix = key_prefix

    def find(self, prefixes: Sequence[str]) -> Iterator[Sequence[str]]:
        wanted = tuple(self._key_prefix + prefix for prefix in prefixes)
        pattern = _escaped(_shared_start(wanted)) + "*"
        cursor = 0
        while True:
            cursor, found = self._client.scan(cursor, match=pattern, count=BATCH)  # type: ignore[misc]  # redis-py's types cover its async client too
            keys = [key.decode(errors="replace") for key in found]
            yield [key.removeprefix(self._key_prefix) for key in keys if key.startswith(wanted)]
            if not cursor:
                return

    def remove(self, keys: Sequence[str]) -> int:
        """By UNLINK: large values are freed behind the answer."""
        removed = 0
        for start in range(0, len(keys), BATCH):
            batch = (self._key_prefix + key for key in keys[start : start + BATCH])
            removed += int(self._client.unlink(*batch))  # type: ignore[arg-type]  # as above
        return removed


def _shared_start(texts: Sequence[str]) -> str:
    """What all of ``texts`` begin with."""
    shortest, longest = min(texts), max(texts)
    for at, letter in enumerate(shortest):
        if longest[at : at + 1] != letter:
            return shortest[:at]
    return shortest


def _escaped(text: str) -> str:
    """``text`` in a pattern of Redis, meaning itself."""
    return "".join(f"\\{letter}" if letter in "*?[]^\\-" else letter for letter in text)
