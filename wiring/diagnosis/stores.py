"""Checks of what keeps something: database, cache, counters, storage and queue, from the settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import redis

from config import Settings
from thumbnailer.database import Database
from thumbnailer.diagnosis import Check, Verdict, databases, doubtful, folders, objects, stores, well, work
from thumbnailer.diagnosis.secrecy import shown
from thumbnailer.jobs import Backlog
from thumbnailer.model import Deadline
from wiring.databases import database_bounds
from wiring.jobs import build_office
from wiring.queue import LateCelery
from wiring.trip import build_storage, redis_client, redis_options

CONFIGURATION, DEPLOYMENT = "docs/configuration.md", "docs/deployment.md"


def database_probe(settings: Settings) -> databases.DatabaseProbe:
    """The database, to be looked at as it is."""
    return databases.DatabaseProbe(settings.database.url, database_bounds(settings))


def database_checks(settings: Settings) -> Iterator[Check]:
    """Whether it answers, is up to date, takes rows, and is there for all who need it."""
    probe = database_probe(settings)
    advice = "See whether DATABASE_URL names the right database, and what keeps it from answering."
    check = partial(Check, part="database", page=f"{DEPLOYMENT}#database", advice=advice)
    yield check(name="connection", tried="connect", look=partial(databases.answers, probe=probe))
    yield check(
        name="tables",
        tried="compare their revision",
        look=partial(databases.has_the_newest_tables, probe=probe),
    )
    yield check(
        name="writing", tried="write a row, take it back", look=partial(databases.takes_rows, probe=probe)
    )
    yield check(
        name="sharing",
        tried="judge who shares it",
        look=partial(databases.is_shared_rightly, probe=probe, web_workers=settings.server.workers),
    )


def cache_checks(settings: Settings) -> Iterator[Check]:
    """Redis where there is one, else the folder, else each process's memory."""
    if settings.cache.redis_url:
        yield from _redis_cache_checks(settings, settings.cache.redis_url)
        return
    check = partial(Check, part="cache")
    folder = settings.cache.folder
    if folder is None:
        look = partial(_keeps_in_memory, workers=settings.server.workers)
        yield check(name="memory", tried="nothing", look=look, page=f"{CONFIGURATION}#cache_dir")
        return
    yield check(
        name="folder",
        tried="write a file, delete it",
        look=partial(folders.takes_files, folder=folder, setting="CACHE_DIR"),
        page=f"{CONFIGURATION}#cache_dir",
    )
    yield check(
        name="room",
        tried="ask for free space",
        look=partial(
            folders.has_room, folder=folder, setting="CACHE_DIR", wanted_bytes=settings.cache.max_bytes
        ),
        page=f"{CONFIGURATION}#cache_dir",
    )


def _keeps_in_memory(_deadline: Deadline, *, workers: int) -> Verdict:
    found = "pictures are kept in the memory of each process"
    if workers == 1:
        return well(found)
    return doubtful(
        f"{found}, and there are {workers}", "Set CACHE_DIR or REDIS_URL, which all workers share."
    )


def _redis_cache_checks(settings: Settings, url: str) -> Iterator[Check]:
    check = partial(
        Check, part="cache", page=f"{DEPLOYMENT}#redis", advice="See what the check of Redis says."
    )
    connect = partial(redis_client, settings)
    yield check(
        name="Redis",
        tried=f"greet {shown(url)}; write, read and delete a value",
        look=partial(stores.answers, connect=connect, setting="REDIS_URL", prefix=settings.cache.key_prefix),
    )
    holds_counters = settings.limits.redis_url == url
    yield check(
        name="bound",
        tried="ask for maxmemory and its policy",
        look=partial(stores.evicts_when_full, connect=connect, holds_counters=holds_counters),
    )
    yield check(
        name="clock",
        tried="compare the clocks",
        look=partial(stores.agrees_on_the_time, connect=connect),
        page=f"{DEPLOYMENT}#several-machines",
    )


def limit_checks(settings: Settings) -> Iterator[Check]:
    """Whether they are on, and the store that counts for them."""
    look = partial(_are_on, is_on=settings.limits.enabled, is_production=settings.is_production)
    page = f"{CONFIGURATION}#ratelimit_enabled"
    yield Check(part="limits", name="rate limits", tried="look at the setting", look=look, page=page)
    url = settings.limits.redis_url
    if url is None:
        told = well("the database counts; answers from the cache are counted by each process")
        page = f"{CONFIGURATION}#limiter_redis_url"
        yield Check(part="limits", name="store", tried="nothing", look=lambda _deadline: told, page=page)
        return
    connect = partial(redis.Redis.from_url, url, **redis_options(settings, url))
    check = partial(
        Check, part="limits", page=f"{DEPLOYMENT}#redis", advice="See what the check of Redis says."
    )
    setting = "REDIS_URL" if url == settings.cache.redis_url else "LIMITER_REDIS_URL"
    yield check(
        name="Redis",
        tried=f"greet {shown(url)}; write, read and delete a value",
        look=partial(stores.answers, connect=connect, setting=setting, prefix=settings.cache.key_prefix),
    )
    yield check(
        name="memory",
        tried="ask for its policy and persistence",
        look=partial(stores.forgets_no_counter, connect=connect),
    )


def _are_on(_deadline: Deadline, *, is_on: bool, is_production: bool) -> Verdict:
    if is_on:
        return well("on")
    judge = doubtful if is_production else _fine
    return judge("off: whoever may come in may ask as often as they like", "Leave RATELIMIT_ENABLED out.")


def _fine(found: str, _advice: str) -> Verdict:
    return well(found)


def storage_checks(settings: Settings) -> Iterator[Check]:
    """The bucket, or the folder."""
    if settings.s3.bucket:
        yield from _bucket_checks(settings, settings.s3.bucket)
        return
    folder, check = settings.storage.media_folder, partial(Check, part="storage")
    page = f"{CONFIGURATION}#media_dir"
    yield check(
        name="folder",
        tried="write a file, delete it",
        look=partial(folders.takes_files, folder=folder, setting="MEDIA_DIR"),
        page=page,
    )
    yield check(
        name="room",
        tried="ask for free space",
        look=partial(folders.has_room, folder=folder, setting="MEDIA_DIR"),
        page=page,
    )


def _bucket_checks(settings: Settings, bucket: str) -> Iterator[Check]:
    make = partial(build_storage, settings)
    where = f"{bucket} at {shown(settings.s3.endpoint_url) if settings.s3.endpoint_url else 'Amazon S3'}"
    check = partial(
        Check, part="storage", page=f"{DEPLOYMENT}#storage-s3-r2-minio", advice=objects.UNREACHABLE
    )
    yield check(
        name="bucket",
        tried=f"write, find and delete an object below {objects.PROBE_FOLDER}/",
        look=partial(objects.takes_objects, make=make, where=where),
    )
    is_promised = settings.s3.public_base_url is not None
    yield check(
        name="public",
        tried="read an object as callers do",
        look=partial(objects.is_read_by_the_public, make=make, is_promised=is_promised),
    )


def job_checks(settings: Settings) -> Iterator[Check]:
    """The queue, and who takes from it."""
    has_own_workers = settings.cache.redis_url is not None
    check = partial(Check, part="jobs", page="docs/jobs.md")
    if has_own_workers:
        yield check(
            name="queue",
            tried="connect as Celery does, count messages",
            look=partial(work.takes_messages, make_celery=LateCelery(settings)),
        )
    else:
        told = well("the web processes do the jobs by themselves")
        yield check(name="queue", tried="nothing", look=lambda _deadline: told)
    count = partial(_backlog, settings)
    yield check(
        name="workers",
        tried="read the roster and the backlog",
        look=partial(
            databases.asked,
            probe=database_probe(settings),
            look=partial(work.is_done, count=count, has_own_workers=has_own_workers),
            without=well("there are no jobs yet"),
        ),
        advice=databases.ASK_THE_DATABASE,
    )


def _backlog(settings: Settings, database: Database) -> Backlog:
    """What ``GET /ready`` goes by as well."""
    office = build_office(settings, database)
    return office.ledger.backlog(office.roster.count())
