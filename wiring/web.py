"""The web application's parts, from the settings."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flask import Flask
from flask_caching import Cache
from flask_limiter import Limiter

from blueprints.callers import caller
from blueprints.capture_requests import RouteDefaults, refuse_ttl
from blueprints.idempotency import Ledger
from blueprints.limits import Allowance
from blueprints.parsing import typed_options
from blueprints.schemas import CaptureOptions, ThumbQuery
from blueprints.services import RequestBounds, Services
from config import Settings
from settings.keeping import CacheSettings
from settings.reading import ConfigurationError, Fault
from thumbnailer.accounts import Accounts
from thumbnailer.backend import ResilientBackend
from thumbnailer.bounded_calls import BoundedCalls
from thumbnailer.database import Database
from thumbnailer.errors import ImageTooLarge, InvalidParameters, NotAnImage
from thumbnailer.imaging import PictureLimits
from thumbnailer.line import Line
from thumbnailer.metrics import FOLDER_VARIABLE, Metrics
from thumbnailer.placeholders import PlaceholderKind, Placeholders, read_own_picture
from thumbnailer.sharing import Shared
from thumbnailer.signing import UrlSigner
from thumbnailer.storage import Storage
from wiring.access import build_gate, build_keyring, check_key_file
from wiring.accounts import build_accounts
from wiring.databases import build_database
from wiring.jobs import WebJobs, build_web_jobs
from wiring.limits import build_limiters, counts, limit_texts, limiter_config
from wiring.providers import read_challenge_markers
from wiring.trip import Trip, build_locks, build_storage, build_trip, cache_config

DAY_SECONDS = 86_400
HOUR_SECONDS = 3_600
READY_KEY = "ready"

#: Pages that are shown to people are photographed without what covers them.
UNCOVERED = {"block_ads": True, "block_cookie_banners": True}

#: What each request has to say for itself.
WITHOUT_DEFAULT = frozenset({"url", "preset", "fresh", "on_error", "download", "sig", "exp", "kid"})


def check_settings(settings: Settings) -> None:
    """Find the faults that only the parts themselves can see, all at once.

    Raises ``ConfigurationError``. Starts and calls nothing, so it may come before a fork.
    """
    faults: list[Fault] = []
    checks = (_bounds, _presets, _own_placeholders, build_storage, read_challenge_markers, check_key_file)
    for check in checks:
        try:
            check(settings)
        except ConfigurationError as error:
            faults += error.faults
    if faults:
        raise ConfigurationError(faults)


def build_services(app: Flask, settings: Settings) -> Services:
    """Everything the doors call. Raises ``ConfigurationError``."""
    line, storage, database = Line(settings.server.waiting), build_storage(settings), build_database(settings)
    metrics, keyring, signer = _metrics(line), build_keyring(settings, database), _signer(settings)
    trip = build_trip(settings, _configured_cache(app, settings), metrics.count_attempt)
    accounts, limiters = build_accounts(settings, database, keyring), build_limiters(app, settings, database)
    allowance = Allowance(*limiters, limit_texts(settings), accounts.charge_capture)
    web_jobs = build_web_jobs(settings, database, trip, storage, accounts, metrics.count_job)
    return Services(
        thumbnails=trip.thumbnails,
        placeholders=Placeholders(trip.renderer, own_pictures=_own_placeholders(settings)),
        storage=storage,
        storage_calls=BoundedCalls(settings.server.threads),
        database=database,
        gate=build_gate(settings, keyring=keyring, signer=signer, guard=trip.guard),
        keyring=keyring,
        accounts=accounts,
        metrics=metrics,
        guard=trip.guard,
        purges=trip.purges,
        purger=trip.purger,
        explainer=trip.explainer,
        allowance=allowance,
        line=line,
        idempotency=_ledger(settings, trip, allowance),
        jobs=web_jobs.desk,
        signs_webhooks=bool(settings.webhooks.secrets),
        bounds=_bounds(settings),
        signer=signer,
        presets=_presets(settings),
        key_template=settings.storage.key_template,
        public_base_url=settings.doors.public_base_url,
        tag_headers=settings.doors.cache_tags,
        is_cache_shared=settings.cache.kind != "simple",
        checks=_checks(settings, trip, limiters.captures, storage, database),
        providers=trip.failover.health,
        examination=Shared(settings.server.ready_seconds),
        resume=web_jobs.resume,
        close=partial(_close, web_jobs, trip, accounts, database),
    )


def _configured_cache(app: Flask, settings: Settings) -> Cache:
    """Flask-Caching, which like Flask-Limiter takes its configuration from the application's."""
    app.config.update(cache_config(settings), **limiter_config(settings))
    return Cache(app)


def _metrics(line: Line) -> Metrics:
    """Told together with those of the other processes where gunicorn's configuration has given a folder."""
    folder = os.environ.get(FOLDER_VARIABLE)
    return Metrics(
        Path(folder) if folder else None,
        count_waiting=lambda: line.length,
        waiting_places=line.places,
    )


def _ledger(settings: Settings, trip: Trip, allowance: Allowance) -> Ledger:
    return Ledger(
        trip.backend,
        build_locks(settings),
        caller=lambda: caller().identity,
        charge_replay=allowance.answer,
        deadline_seconds=settings.providers.timeout_seconds,
    )


def _checks(
    settings: Settings, trip: Trip, limiter: Limiter, storage: Storage, database: Database
) -> dict[str, Callable[[], bool]]:
    return {
        "provider": lambda: any(provider.is_ready() for provider in trip.failover.providers),
        "cache": _cache_check(trip.backend),
        "limiter": lambda: not settings.limits.enabled or counts(limiter, settings),
        "storage": storage.is_ready,
        "database": database.is_ready,
    }


def _close(web_jobs: WebJobs, trip: Trip, accounts: Accounts, database: Database) -> None:
    web_jobs.close()
    trip.close()
    accounts.meter.close()
    database.close()


def _own_placeholders(settings: Settings) -> dict[PlaceholderKind, bytes]:
    """The operator's own pictures, as far as there are some. Raises ``ConfigurationError``."""
    limits = PictureLimits(settings.pictures.max_bytes, settings.pictures.max_pixels)
    found, faults = {}, []
    for kind, name, path in (
        (PlaceholderKind.FAILED, "PLACEHOLDER_IMAGE", settings.pictures.placeholder),
        (PlaceholderKind.PENDING, "PENDING_IMAGE", settings.pictures.pending_placeholder),
    ):
        try:
            if path is not None:
                found[kind] = read_own_picture(path, limits)
        except (OSError, NotAnImage, ImageTooLarge):
            faults.append(Fault(name, "must be a whole PNG, JPEG or WebP within the limits for pictures"))
    if faults:
        raise ConfigurationError(faults)
    return found


def _signer(settings: Settings) -> UrlSigner | None:
    keys = settings.signing.keys
    return UrlSigner(keys, settings.signing.longest_life_seconds) if keys else None


def _bounds(settings: Settings) -> RequestBounds:
    written = _options_of("THUMB_DEFAULTS", settings.doors.thumb_defaults, ThumbQuery(), settings.cache)
    thumb = {**UNCOVERED, **written}
    least, most = settings.cache.min_ttl_seconds, settings.cache.max_ttl_seconds
    day, hour = (min(most, max(least, seconds)) for seconds in (DAY_SECONDS, HOUR_SECONDS))
    return RequestBounds(
        deadline_seconds=settings.providers.timeout_seconds,
        min_ttl_seconds=least,
        max_ttl_seconds=most,
        thumb=RouteDefaults(thumb.pop("ttl", day), thumb),
        screenshot=RouteDefaults(hour),
        persist=RouteDefaults(hour, UNCOVERED),
        hermesforge=RouteDefaults(hour, {"width": 1280, "height": 800, "format": "webp"}),
        snapsharp=RouteDefaults(hour),
        snapapi=RouteDefaults(hour, {"width": 1280, "height": 800, "fail_on_status": ()}),
    )


def _presets(settings: Settings) -> dict[str, dict[str, Any]]:
    return {
        name: _options_of("PRESETS", texts, CaptureOptions(), settings.cache)
        for name, texts in settings.doors.presets.items()
    }


def _options_of(
    setting: str, texts: Mapping[str, str], schema: CaptureOptions, cache: CacheSettings
) -> dict[str, Any]:
    """Options that are written in a setting. Raises ``ConfigurationError``."""
    without_default = WITHOUT_DEFAULT & texts.keys()
    if without_default:
        raise ConfigurationError([Fault(setting, f"{', '.join(sorted(without_default))}: Has no default.")])
    try:
        options: dict[str, Any] = typed_options(texts, schema)
        refuse_ttl(options.get("ttl"), cache.min_ttl_seconds, cache.max_ttl_seconds)
    except InvalidParameters as error:
        faults = "; ".join(f"{name}: {' '.join(messages)}" for name, messages in error.fields.items())
        raise ConfigurationError([Fault(setting, faults)]) from None
    return options


def _cache_check(backend: ResilientBackend) -> Callable[[], bool]:
    """Writes and reads one small value."""

    def works() -> bool:
        value = secrets.token_bytes(8)
        return backend.set(READY_KEY, value, timeout_seconds=60) and backend.get(READY_KEY) is not None

    return works
