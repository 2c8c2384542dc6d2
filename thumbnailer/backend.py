"""The byte store under the cache: what is asked of it, and how its failures are borne."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import IO, Protocol

import redis.exceptions
from cachelib.serializers import BaseSerializer

from thumbnailer.cooldown import CoolDown
from thumbnailer.errors import CacheUnavailable

MAGIC = b"tnb1"

#: What says that the store cannot be reached at all. Other errors concern one call only: a Redis
#: that is full refuses to write and still answers reads.
UNAVAILABLE = (OSError, redis.exceptions.ConnectionError, redis.exceptions.TimeoutError)
#: What reading JSON raises that somebody else has written: it is no note of ours, and so is none.
UNREADABLE = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


class Backend(Protocol):
    """What the cache uses of a Flask-Caching backend; each method may raise anything.

    A ``timeout`` is whole seconds and above zero, for zero means for ever to these backends.
    ``add`` is left out on purpose: it is atomic on Redis only. ``get_many`` holds all values in memory,
    so it is for small ones.
    """

    def get(self, key: str) -> object: ...

    def get_many(self, *keys: str) -> Sequence[object]: ...

    def has(self, key: str) -> object: ...

    def set(self, key: str, value: bytes, timeout: int) -> object: ...

    def delete(self, key: str) -> object: ...


class RawBytesSerializer(BaseSerializer):
    """Stores bytes as they are behind a magic prefix; for Flask-Caching's ``CACHE_SERIALIZER``.

    The serializers that cachelib uses by itself unpickle, so whoever can write to the Redis or the
    folder can run code here. This one reads nothing but its own prefix; all else is a miss.
    ``protocol`` is pickle's and means nothing here; cachelib's signatures have it.
    """

    def dumps(self, value: object, protocol: int = pickle.HIGHEST_PROTOCOL) -> bytes:  # noqa: ARG002  # cachelib's signature
        """Raises TypeError for anything but bytes."""
        return MAGIC + _bytes_only(value)

    def loads(self, bvalue: bytes | None) -> bytes | None:
        if not isinstance(bvalue, bytes) or not bvalue.startswith(MAGIC):
            return None
        return bvalue[len(MAGIC) :]

    def dump(self, value: object, f: IO[bytes], protocol: int = pickle.HIGHEST_PROTOCOL) -> None:  # noqa: ARG002  # cachelib's signature
        """As ``dumps``, without making a copy."""
        f.writelines((MAGIC, _bytes_only(value)))

    def load(self, f: IO[bytes]) -> bytes | None:
        """As ``loads``, without making a copy."""
        return f.read() if f.read(len(MAGIC)) == MAGIC else None


def _bytes_only(value: object) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(f"only bytes are stored, not {type(value).__name__}")
    return value


class _Failed:
    """What a call returned that failed, or was not tried."""


FAILED = _Failed()


class ResilientBackend:
    """A backend that never raises: out of reach, it holds nothing and takes nothing.

    Only ``require`` does, for those few to whom an empty store and a lost one are not the same.

    Redis clients need ``socket_timeout`` and ``socket_connect_timeout`` (0.3 s), else a silent
    Redis hangs every call; and no retries, which redis-py does three times with growing pauses
    unless the client is made by ``from_url`` or with a ``retry`` of its own.
    """

    def __init__(self, backend: Backend, cool_down: CoolDown | None = None) -> None:
        self._backend = backend
        self._cool_down = cool_down or CoolDown("The cache")

    def get(self, key: str) -> bytes | None:
        value = self._call(lambda: self._backend.get(key))
        return value if isinstance(value, bytes) else None

    def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """What stands under each of ``keys``, in one call; for small values."""
        values = self._call(lambda: self._backend.get_many(*keys))
        found = values if isinstance(values, Sequence) else [None] * len(keys)
        return [value if isinstance(value, bytes) else None for value in found]

    def require(self, key: str) -> bytes | None:
        """As ``get``; raises CacheUnavailable where the store cannot be asked."""
        value = self._call(lambda: self._backend.get(key))
        if value is FAILED:
            raise CacheUnavailable
        return value if isinstance(value, bytes) else None

    def has(self, key: str) -> bool:
        return self._succeeds(lambda: self._backend.has(key))

    def set(self, key: str, value: bytes, *, timeout_seconds: int) -> bool:
        """Whether the value is stored now."""
        return self._succeeds(lambda: self._backend.set(key, value, timeout=timeout_seconds))

    def delete(self, key: str) -> None:
        self._call(lambda: self._backend.delete(key))

    def _succeeds(self, operation: Callable[[], object]) -> bool:
        answer = self._call(operation)
        return answer is not FAILED and bool(answer)

    def _call(self, operation: Callable[[], object]) -> object:
        """What ``operation`` returns, FAILED when it failed or was not tried."""
        if not self._cool_down.allows():
            return FAILED
        try:
            result = operation()
        except UNAVAILABLE as error:
            self._cool_down.failed(error)
            return FAILED
        except Exception as error:  # noqa: BLE001  # operators choose the backend; its errors share no base class
            self._cool_down.answered()
            self._cool_down.complain(error)
            return FAILED
        self._cool_down.answered()
        return result
