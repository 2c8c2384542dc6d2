"""Telling of failed captures: to other threads, and by a note to other processes and machines."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from thumbnailer.backend import UNREADABLE, ResilientBackend
from thumbnailer.errors import ThumbnailerError

NOTE_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Note:
    """That a capture failed; ``id`` tells this failure from every other.

    Until ``echoes_until``, Unix time in seconds, it is also for those who come after it.
    """

    id: str
    error: ThumbnailerError
    echoes_until: float

    @property
    def echoes(self) -> bool:
        return time.time() < self.echoes_until


class FailureBoard:
    """Where the taker of a capture notes that it failed, for those who wait in other processes.

    A note is no verdict: who arrives after it tries afresh. It only answers those who waited
    while the capture failed, so that 200 waiting requests do not make 200 attempts, and for a
    moment their stragglers. Without a backend that is shared and in reach, processes try one
    after the other.
    """

    def __init__(self, backend: ResilientBackend) -> None:
        self._backend = backend

    def pin(self, key: str, error: ThumbnailerError, *, echo_seconds: float = 0.0) -> None:
        """Note that the capture of ``key`` failed."""
        note = {"id": secrets.token_hex(8), "echoes_until": time.time() + echo_seconds, **describe(error)}
        written = json.dumps(note, default=str).encode()
        self._backend.set(_note_key(key), written, timeout_seconds=NOTE_SECONDS)

    def read(self, key: str) -> Note | None:
        """The last failure noted for ``key``, None if there is none or it cannot be read."""
        content = self._backend.get(_note_key(key))
        if content is None:
            return None
        try:
            note = json.loads(content)
            return Note(str(note["id"]), restore(note), float(note["echoes_until"]))
        except UNREADABLE:
            return None


def describe(error: ThumbnailerError) -> dict[str, object]:
    """An error as plain values, for ``restore`` in another process."""
    return {"class": type(error).__name__, "message": str(error), "attributes": vars(error)}


def restore(described: Mapping[str, Any]) -> ThumbnailerError:
    """The error that ``describe`` was given; raises ValueError, KeyError or TypeError for nonsense."""
    kind = _error_classes()[described["class"]]
    return _rebuild(kind, str(described["message"]), dict(described["attributes"]))


def replica(error: ThumbnailerError) -> ThumbnailerError:
    """An equal error of its own.

    One exception raised in many threads gathers all their tracebacks, and keeps their frames alive.
    """
    return _rebuild(type(error), str(error), vars(error))


def _rebuild(kind: type[ThumbnailerError], message: str, attributes: dict[str, object]) -> ThumbnailerError:
    """As unpickling would, past the constructors, whose parameters differ; only for our own tree."""
    error = kind.__new__(kind)
    error.args = (message,)
    vars(error).update(attributes)
    return error


def _error_classes() -> dict[str, type[ThumbnailerError]]:
    return {kind.__name__: kind for kind in _descendants(ThumbnailerError)}


def _descendants(kind: type[ThumbnailerError]) -> Iterator[type[ThumbnailerError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _descendants(child)


def _note_key(key: str) -> str:
    return f"failure:{key}"
