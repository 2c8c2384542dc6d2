"""The limiters, from the settings."""

from __future__ import annotations

from typing import Any, NamedTuple

import flask
from flask import Flask
from flask_limiter import Limiter
from limits.errors import StorageError

from blueprints.callers import caller
from blueprints.limits import LimitTexts
from config import Settings
from thumbnailer.database import Database
from wiring.accounts import counter_options

#: Doors that charge nobody: without this, Flask-Limiter looks for a lost Redis at each of them too.
UNLIMITED = frozenset({"ops", "media"})


class Limiters(NamedTuple):
    """What counts captures and all that is as dear, and what counts answers from the cache."""

    captures: Limiter
    answers: Limiter


def limiter_config(settings: Settings) -> dict[str, Any]:
    """Flask-Limiter's configuration: limits go on in memory where their store is gone."""
    return {
        "RATELIMIT_ENABLED": settings.limits.enabled,
        "RATELIMIT_IN_MEMORY_FALLBACK_ENABLED": True,
        "RATELIMIT_KEY_PREFIX": settings.cache.key_prefix,
    }


def build_limiters(app: Flask, settings: Settings, database: Database) -> Limiters:
    """Redis counts for both; without it the database does, but answers are far too many for that."""
    options = counter_options(settings, database)
    captures = _limiter(app, storage_uri=settings.limits.storage_uri, storage_options=options)
    has_redis = settings.limits.redis_url is not None
    return Limiters(captures, captures if has_redis else _limiter(app, storage_uri="memory://"))


def counts(limiter: Limiter, settings: Settings) -> bool:
    """Whether its store counts now: a Redis that is full, or a replica, answers and takes nothing."""
    storage = limiter.storage
    if settings.limits.redis_url is None:
        return bool(storage.check())
    try:
        return storage.incr(f"{settings.cache.key_prefix}ready", 60) > 0
    except StorageError:
        return False


def limit_texts(settings: Settings) -> LimitTexts:
    limits = settings.limits
    return LimitTexts(
        limits.thumb, limits.screenshot, limits.persist, limits.jobs, limits.cached, limits.purge
    )


def _limiter(app: Flask, **options: Any) -> Limiter:
    limiter = Limiter(lambda: caller().identity, app=app, **options)
    limiter.request_filter(lambda: flask.request.blueprint in UNLIMITED)
    return limiter
