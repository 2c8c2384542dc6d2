"""Finds the key that a caller gives, at the price of one hash.

All keys are held in memory and read anew every few seconds, so that neither a right nor a wrong
key costs a query: whoever guesses ten thousand keys makes this process hash ten thousand times.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.key_file import read_key_file
from thumbnailer.key_store import KeyStore
from thumbnailer.keys import ApiKey, id_of
from thumbnailer.plans import Plan, with_plan
from thumbnailer.rations import Rations

logger = logging.getLogger(__name__)

#: How old, in seconds, what is known may be. So long a revoked key may still count.
HELD_SECONDS = 2.0
#: Before a key is called unknown, all are read anew, for a new one is used at once by who has just made
#: it; but only so often in a row, and then so often a second: most unknown keys are guesses.
READINGS_FOR_STRANGERS = 5
READINGS_PER_SECOND = 2


@dataclass(frozen=True, slots=True)
class _Held:
    """All keys by id, as they were at ``loaded_at`` on the monotonic clock.

    ``is_known`` says whether the database has ever answered; ``version`` is that of the file.
    """

    keys: Mapping[str, ApiKey]
    loaded_at: float
    is_known: bool
    stored: tuple[ApiKey, ...] = ()
    filed: tuple[ApiKey, ...] = ()
    version: object = None


class Keyring:
    """The keys of the database and of the file; safe to use from many threads.

    While the database is out of reach the keys go on as they were last known. A file that has become
    faulty is complained of, and its keys go on too. A key of the file goes before one of the same id.
    The terms of the keys that it finds include those of their ``plans``.
    """

    def __init__(
        self,
        store: KeyStore,
        file: Path | None = None,
        *,
        plans: Mapping[str, Plan] = MappingProxyType({}),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._file = file
        self._plans = plans
        self._complained_of: frozenset[str] = frozenset()
        self._clock = clock
        self._loading = threading.Lock()
        self._held: _Held | None = None
        self._readings = Rations(READINGS_FOR_STRANGERS, READINGS_PER_SECOND, clock)

    @property
    def plan_names(self) -> tuple[str, ...]:
        return tuple(sorted(self._plans))

    def find(self, token: str, now: float) -> ApiKey | None:
        """The live key that ``token`` is, at ``now`` in Unix seconds; None where there is none.

        Raises:
            DatabaseUnavailable: nobody can say, for the database has not answered yet.
        """
        key_id = id_of(token)
        if key_id is None:
            return None
        held = self._hold(HELD_SECONDS)
        if key_id not in held.keys and self._readings.take():
            held = self._hold(0.0)
        key = held.keys.get(key_id)
        if key is not None:
            return key if key.fits(token, now) and key.is_live(now) else None
        if not held.is_known:
            raise DatabaseUnavailable("The keys cannot be read at this moment.")
        return None

    def daily_captures(self, key_id: str) -> int | None:
        """The daily budget of a key; None where it has none, or nobody can say."""
        key = self._hold(HELD_SECONDS).keys.get(key_id)
        return key.terms.daily_captures if key else None

    def name_of(self, key_id: str) -> str | None:
        """What a key is called, be it revoked."""
        key = self._hold(HELD_SECONDS).keys.get(key_id)
        return key.name if key else None

    def is_live(self, key_id: str, now: float) -> bool:
        """Whether a key counts at ``now`` in Unix seconds; where nobody can say, it does."""
        held = self._hold(HELD_SECONDS)
        if key_id not in held.keys:  # it may be newer than what is held
            held = self._hold(0.0)
        key = held.keys.get(key_id)
        return key.is_live(now) if key else not held.is_known

    def is_empty(self) -> bool:
        """Whether no key was ever made; a revoked one counts, and a file, whose last key may be taken out.

        Raises ``DatabaseUnavailable`` as ``find``.
        """
        if self._file is not None:
            return False
        held = self._hold(HELD_SECONDS)
        if not held.keys and not held.is_known:
            raise DatabaseUnavailable("The keys cannot be read at this moment.")
        return not held.keys

    def _hold(self, oldest_seconds: float) -> _Held:
        held = self._held
        if held is not None and self._clock() - held.loaded_at < oldest_seconds:
            return held
        # One thread reads; the others go on with what they have, unless they have nothing.
        if not self._loading.acquire(blocking=held is None):
            assert held is not None
            return held
        try:
            held = self._held
            if held is None or self._clock() - held.loaded_at >= oldest_seconds:
                held = self._held = self._load(held)
            return held
        finally:
            self._loading.release()

    def _load(self, before: _Held | None) -> _Held:
        stored, is_known = before.stored if before else (), before is not None and before.is_known
        try:
            stored, is_known = self._store.load(), True
        except DatabaseUnavailable:
            logger.debug("The keys of the database stay as they were last known.")
        filed, version = self._read_file(before)
        keys = {key.id: with_plan(key, self._plans) for key in (*stored, *filed)}
        self._complain_of_plans({key.terms.plan for key in keys.values() if key.terms.plan})
        return _Held(keys, self._clock(), is_known, stored, filed, version)

    def _complain_of_plans(self, named: set[str]) -> None:
        unknown = frozenset(named - self._plans.keys())
        if unknown - self._complained_of:
            logger.error("PLANS has no plan %s; its keys have the usual limits.", ", ".join(sorted(unknown)))
        self._complained_of = unknown

    def _read_file(self, before: _Held | None) -> tuple[tuple[ApiKey, ...], object]:
        if self._file is None:
            return (), None
        filed, known_version = (before.filed, before.version) if before else ((), None)
        version = _version_of(self._file)
        if version == known_version:
            return filed, version
        try:
            return read_key_file(self._file), version
        except ValueError as error:
            logger.error("API_KEYS_FILE %s; its keys stay as they were.", error)  # noqa: TRY400  # no trace is needed
            return filed, version


def _version_of(path: Path) -> object:
    """What changes when the file does, be it replaced as a whole."""
    try:
        found = os.stat(path)  # noqa: PTH116  # follows the links by which secrets are mounted
    except OSError:
        return "gone"
    return (found.st_mtime_ns, found.st_ino, found.st_size)
