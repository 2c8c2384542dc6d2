"""The finished parts that the doors call, one set for each application."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import flask

from blueprints.access import Gate
from blueprints.capture_requests import RouteDefaults
from blueprints.idempotency import Ledger
from blueprints.limits import Allowance
from thumbnailer.accounts import Accounts
from thumbnailer.bounded_calls import BoundedCalls
from thumbnailer.database import Database
from thumbnailer.explaining import Explainer
from thumbnailer.guard import Guard
from thumbnailer.jobs.desk import JobDesk
from thumbnailer.keyring import Keyring
from thumbnailer.line import Line
from thumbnailer.metrics import Metrics
from thumbnailer.placeholders import Placeholders
from thumbnailer.providers.fallback import ProviderHealth
from thumbnailer.purges import Purges
from thumbnailer.purging import Purger
from thumbnailer.sharing import Shared
from thumbnailer.signing import UrlSigner
from thumbnailer.storage import Storage
from thumbnailer.thumbnails import Thumbnails

EXTENSION = "thumbnailer"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestBounds:
    """``deadline_seconds`` bounds a whole request, the other seconds the ``ttl`` that a caller may ask for.

    The rest is what routes do unless told otherwise.
    """

    deadline_seconds: float
    min_ttl_seconds: int
    max_ttl_seconds: int
    thumb: RouteDefaults
    screenshot: RouteDefaults
    persist: RouteDefaults
    hermesforge: RouteDefaults
    snapsharp: RouteDefaults
    snapapi: RouteDefaults


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What a door may use.

    ``is_cache_shared`` says whether other processes see what this one caches. ``tag_headers`` are those
    that name an answer's tags to caches downstream. ``storage_calls`` runs what ``storage`` does, which
    knows no deadline. ``signer`` is there where ``SIGNING_KEYS`` is set. ``checks`` tells of each part, by
    name, whether it works now, ``providers`` of each provider, and ``examination`` lets all who ask share
    what both say; ``resume`` goes on with jobs that an earlier process has left; ``close`` ends what is
    running.
    """

    thumbnails: Thumbnails
    placeholders: Placeholders
    storage: Storage
    storage_calls: BoundedCalls
    database: Database
    gate: Gate
    keyring: Keyring
    accounts: Accounts
    guard: Guard
    purges: Purges
    purger: Purger
    explainer: Explainer
    allowance: Allowance
    metrics: Metrics
    line: Line
    idempotency: Ledger
    jobs: JobDesk
    signs_webhooks: bool
    bounds: RequestBounds
    signer: UrlSigner | None
    presets: Mapping[str, Mapping[str, Any]]
    key_template: str
    public_base_url: str | None
    tag_headers: Sequence[str]
    is_cache_shared: bool
    clock: Callable[[], float] = time.time
    checks: Mapping[str, Callable[[], bool]]
    providers: Callable[[], Sequence[ProviderHealth]]
    examination: Shared[Any]
    resume: Callable[[], None]
    close: Callable[[], None]


def services() -> Services:
    """The parts of the current application."""
    return cast(Services, flask.current_app.extensions[EXTENSION])


def public_url(path: str) -> str:
    """``path`` as callers reach it: below PUBLIC_BASE_URL, else at the host they used, if they said which."""
    host_url = flask.request.host_url if "Host" in flask.request.headers else ""
    return (services().public_base_url or host_url).rstrip("/") + path
