"""Limits, budgets and the count of usage, from the settings."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from limits.storage import Storage, storage_from_string

from config import Settings
from thumbnailer.accounts import Accounts, key_id_of
from thumbnailer.budgets import EVERYBODY, CaptureBudgets
from thumbnailer.counters import DatabaseStorage
from thumbnailer.database import Database
from thumbnailer.keyring import Keyring
from thumbnailer.usage import UsageMeter
from wiring.trip import redis_options


def counter_options(settings: Settings, database: Database) -> dict[str, Any]:
    """What the store of counters is made with, beside its URI."""
    url = settings.limits.redis_url
    own = redis_options(settings, url) if url else {"database": database}
    return {**own, "wrap_exceptions": True}


def build_accounts(settings: Settings, database: Database, keyring: Keyring) -> Accounts:
    """The accounts of one process."""
    meter = UsageMeter(database, kept_days=settings.limits.usage_days)
    budgets = CaptureBudgets(
        _counter_store(settings, database),
        total=settings.limits.daily_captures,
        quota_of=_quota_of(keyring),
        prefix=settings.cache.key_prefix,
        taken_today=lambda account: meter.captures_today(None if account == EVERYBODY else account),
    )
    return Accounts(budgets, meter, is_live=_liveness_of(keyring))


def _counter_store(settings: Settings, database: Database) -> Storage:
    if settings.limits.redis_url is None:
        return DatabaseStorage(**counter_options(settings, database))
    store = storage_from_string(settings.limits.storage_uri, **counter_options(settings, database))
    assert isinstance(store, Storage), "none of the asynchronous ones has been asked for"
    return store


def _liveness_of(keyring: Keyring) -> Callable[[str], bool]:
    def is_live(account: str) -> bool:
        key_id = key_id_of(account)
        return key_id is None or keyring.is_live(key_id, time.time())

    return is_live


def _quota_of(keyring: Keyring) -> Callable[[str], int | None]:
    def quota_of(account: str) -> int | None:
        key_id = key_id_of(account)
        return None if key_id is None else keyring.daily_captures(key_id)

    return quota_of
