"""The trip, from the settings: what every process needs that takes captures."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import redis
from flask_caching import Cache

from blueprints.media import MEDIA_PREFIX
from config import Settings
from settings.reading import ConfigurationError, Fault
from settings.rules import usable_cores
from thumbnailer.backend import RawBytesSerializer, ResilientBackend
from thumbnailer.blanks import Blanks
from thumbnailer.bounded_calls import BoundedCalls
from thumbnailer.breakers import Breakers
from thumbnailer.bulkhead import Bulkhead
from thumbnailer.cache import CHUNK_GRACE_SECONDS, CaptureCache
from thumbnailer.catalogue import Catalogue, RedisCatalogue
from thumbnailer.circuits import Circuits, LocalCircuits, RedisCircuits
from thumbnailer.errands import Errands
from thumbnailer.explaining import Explainer
from thumbnailer.failures import FailureBoard
from thumbnailer.flights import Flights
from thumbnailer.guard import Guard
from thumbnailer.imaging import PictureLimits
from thumbnailer.local_storage import LocalStorage
from thumbnailer.locks import FileLocks, Locks, MemoryLocks, RedisLocks
from thumbnailer.model import MAX_TTL_SECONDS
from thumbnailer.picture_cache import PictureCache
from thumbnailer.pipeline import Pipeline
from thumbnailer.providers.fallback import Failover
from thumbnailer.purges import Purges
from thumbnailer.purging import Purger
from thumbnailer.refreshing import Refresher
from thumbnailer.rendering import Renderer
from thumbnailer.setbacks import Pauses, Setbacks
from thumbnailer.storage import Storage
from thumbnailer.thumbnails import Thumbnails
from wiring.providers import build_providers

if TYPE_CHECKING:
    from thumbnailer.s3_settings import S3Settings

#: Seconds of silence until the system asks whether a Redis is still there, seconds between two such
#: questions, and after how many without an answer it is not. Firewalls forget silent connections, some
#: without a word; each would cost a time-out, and the cache a pause.
KEPT_ALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 15, socket.TCP_KEEPCNT: 4}


def redis_bounds(settings: Settings) -> dict[str, Any]:
    """What everybody's Redis client is made with: without a limit of its own, it would wait for ever."""
    seconds = settings.cache.redis_timeout_seconds
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


def redis_options(settings: Settings, url: str) -> dict[str, Any]:
    """What redis-py's clients of the Redis at ``url`` are made with.

    They do not tell Redis their version: each connection would look for it in the package's files, 5 ms long.
    """
    options = {**redis_bounds(settings), "driver_info": None}
    if url.startswith("unix:"):
        return options
    return options | {"socket_keepalive": True, "socket_keepalive_options": KEPT_ALIVE}


def redis_client(settings: Settings) -> redis.Redis:
    """A client of the cache's Redis, which connects when it is first used."""
    url = str(settings.cache.redis_url)
    return redis.Redis.from_url(url, **redis_options(settings, url))


def cache_config(settings: Settings) -> dict[str, Any]:
    """Flask-Caching's configuration: memory, files or Redis, and never pickle."""
    cache = settings.cache
    config: dict[str, Any] = {
        "CACHE_DEFAULT_TIMEOUT": cache.retention_seconds,
        "CACHE_SERIALIZER": RawBytesSerializer,
    }
    if cache.kind == "redis":
        return config | {
            "CACHE_TYPE": "RedisCache",
            "CACHE_REDIS_URL": cache.redis_url,
            "CACHE_KEY_PREFIX": cache.key_prefix,
            "CACHE_OPTIONS": redis_options(settings, str(cache.redis_url)),
        }
    if cache.kind == "file":
        return config | {
            "CACHE_TYPE": "thumbnailer.file_cache.FileCache",
            "CACHE_DIR": str(cache.folder),
            "CACHE_OPTIONS": {"max_bytes": cache.max_bytes},
        }
    return config | {"CACHE_TYPE": "thumbnailer.memory_cache.MemoryCache"}


def build_guard(settings: Settings) -> Guard:
    return Guard(ports=frozenset(settings.targets.ports), exceptions=settings.targets.private_exceptions)


Observe = Callable[[str, str, float], None]


def _build_failover(settings: Settings, guard: Guard, observe: Observe) -> Failover:
    return Failover(
        build_providers(settings, guard),
        breakers=_build_breakers(settings),
        reserve_seconds=settings.providers.reserve_seconds,
        observe=observe,
    )


def _build_breakers(settings: Settings) -> Breakers:
    """The providers' circuit breakers: of all machines on one Redis, else of this process."""
    providers, circuits = settings.providers, LocalCircuits()
    return Breakers(
        redis_circuits(settings, circuits) if settings.cache.redis_url else circuits,
        threshold=providers.breaker_failures,
        pause_seconds=providers.breaker_pause_seconds,
        fair_seconds=providers.timeout_seconds / (2 * len(providers.names)),
    )


def redis_circuits(settings: Settings, fallback: Circuits) -> Circuits:
    """The breakers' states on Redis; ``fallback`` serves while that is out of reach."""
    prefix = f"{settings.cache.key_prefix}breaker:"
    return RedisCircuits(redis_client(settings), fallback, prefix=prefix)


def build_storage(settings: Settings) -> Storage:
    """The bucket where one is configured, else the local folder behind ``MEDIA_PREFIX``.

    Raises ``ConfigurationError``.
    """
    if settings.s3.bucket is None:
        return LocalStorage(settings.storage.media_folder, MEDIA_PREFIX)
    from thumbnailer.s3_storage import S3Storage

    try:
        return S3Storage(_s3_settings(settings, settings.s3.bucket))
    except ValueError as error:
        raise ConfigurationError(
            [Fault("S3_BUCKET", f"together with the other S3_ settings: {error}")]
        ) from None


def _s3_settings(settings: Settings, bucket: str) -> S3Settings:
    from thumbnailer.s3_settings import S3Settings

    s3 = settings.s3
    return S3Settings(
        bucket=bucket,
        region=s3.region,
        endpoint_url=s3.endpoint_url,
        public_base_url=s3.public_base_url,
        access_key_id=s3.access_key_id,
        secret_access_key=s3.secret_access_key,
        addressing_style=cast(Literal["auto", "path", "virtual"], s3.addressing_style),
        acl=s3.acl,
        sse=s3.sse,
        sse_kms_key_id=s3.sse_kms_key_id,
        storage_class=s3.storage_class,
        ca_bundle=str(s3.ca_bundle) if s3.ca_bundle else None,
        connect_timeout_seconds=s3.connect_timeout_seconds,
        read_timeout_seconds=s3.read_timeout_seconds,
        attempts=s3.attempts,
        credentials_pause_seconds=s3.credentials_pause_seconds,
    )


def build_locks(settings: Settings) -> Locks:
    """Locks for all that share the cache: every machine on one Redis, this machine's processes on one
    folder, or this process alone where the cache is its memory.
    """
    folder = settings.cache.folder
    of_machine = FileLocks(folder / "locks") if folder else MemoryLocks()
    if not settings.cache.redis_url:
        return of_machine
    return RedisLocks(redis_client(settings), of_machine, prefix=f"{settings.cache.key_prefix}lock:")


@dataclass(frozen=True, slots=True)
class Trip:
    """A pipeline and the parts that others look at too."""

    thumbnails: Thumbnails
    renderer: Renderer
    guard: Guard
    failover: Failover
    backend: ResilientBackend
    refresher: Refresher
    errands: Errands
    purges: Purges
    purger: Purger
    explainer: Explainer

    def close(self) -> None:
        """End what runs behind the answers, and the providers' connections and processes."""
        self.refresher.close()
        self.errands.close()
        self.failover.close()


def _build_catalogue(settings: Settings, store: Cache) -> Catalogue:
    """What can tell what is in the cache: Redis itself, and our own backends."""
    if not settings.cache.redis_url:
        with store.app.app_context():  # whichever application is being served just now
            return cast(Catalogue, store.cache)
    return RedisCatalogue(redis_client(settings), key_prefix=settings.cache.key_prefix)


def _build_bulkhead(settings: Settings) -> Bulkhead:
    providers = settings.providers
    return Bulkhead(
        in_flight=providers.concurrency,
        waiting=providers.queue,
        fair_seconds=providers.timeout_seconds / 2,
    )


def _build_setbacks(settings: Settings, backend: ResilientBackend, purges: Purges) -> Setbacks:
    providers = settings.providers
    pauses = Pauses(providers.failure_pause_seconds, providers.longest_failure_pause_seconds)
    return Setbacks(backend, purges, pauses)


def build_trip(settings: Settings, store: Cache, observe: Observe) -> Trip:
    """Everything between a request for a capture and its bytes; ``observe`` hears of each attempt at one."""
    guard, backend, locks = build_guard(settings), ResilientBackend(store), build_locks(settings)
    failover = _build_failover(settings, guard, observe)
    cache, flights = CaptureCache(backend), Flights(locks, FailureBoard(backend))
    horizon_seconds = max(settings.cache.retention_seconds, MAX_TTL_SECONDS) + CHUNK_GRACE_SECONDS
    purges = Purges(backend, locks, horizon_seconds=horizon_seconds)
    pictures, setbacks = PictureCache(cache, purges), _build_setbacks(settings, backend, purges)
    providers = settings.providers
    limits = PictureLimits(settings.pictures.max_bytes, settings.pictures.max_pixels)
    refresher = Refresher(workers=providers.refresh_concurrency, backlog=providers.refresh_queue)
    errands = Errands(places=providers.concurrency + providers.queue)
    pipeline = Pipeline(
        guard=guard,
        failover=failover,
        pictures=pictures,
        flights=flights,
        setbacks=setbacks,
        refresher=refresher,
        bulkhead=_build_bulkhead(settings),
        limits=limits,
        blanks=Blanks(
            is_on=settings.pictures.refuse_blank, stray_per_million=settings.pictures.blank_stray_pixels
        ),
        retention_seconds=settings.cache.retention_seconds,
        refresh_seconds=providers.timeout_seconds,
    )
    renderer = Renderer(limits, concurrency=max(1, usable_cores() // settings.server.workers))
    thumbnails = Thumbnails(
        pipeline=pipeline,
        renderer=renderer,
        pictures=pictures,
        flights=flights,
        calls=BoundedCalls(settings.server.threads),
        errands=errands,
        retention_seconds=settings.cache.retention_seconds,
    )
    purger = Purger(purges, _build_catalogue(settings, store), cache)
    explainer = Explainer(failover=failover, pictures=pictures, setbacks=setbacks, purges=purges)
    return Trip(thumbnails, renderer, guard, failover, backend, refresher, errands, purges, purger, explainer)
