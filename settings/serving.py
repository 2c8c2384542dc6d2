"""Settings of serving: who may come in and how often, what is logged, where it listens."""

# ruff: noqa: RUF009 - setting() makes a new dataclass field each time; nothing is shared

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from settings.reading import setting
from settings.values import (
    choice,
    flag,
    integer,
    limit_of,
    listed,
    matching,
    network_of,
    pairs_of,
    presets_of,
    redis_url_of,
    seconds,
    size_of,
    web_url_of,
)
from thumbnailer.addresses import Network
from thumbnailer.signing import SigningKeys, parse_signing_keys


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """How often one caller may ask; counted for captures, not for answers from the cache."""

    enabled: bool = setting("RATELIMIT_ENABLED", flag, "true", "Whether rate limits apply at all.")
    thumb: str = setting(
        "LIMIT_THUMB", limit_of, "30 per minute", "Captures by way of `/thumb`, for each caller."
    )
    screenshot: str = setting(
        "LIMIT_SCREENSHOT",
        limit_of,
        "10 per minute",
        "Captures by way of `/screenshot`, for each caller.",
    )
    persist: str = setting(
        "LIMIT_PERSIST",
        limit_of,
        "5 per minute",
        "Captures by way of `/persist`, for each caller.",
    )
    jobs: str = setting(
        "LIMIT_JOBS",
        limit_of,
        "200 per minute",
        "Jobs by way of `/screenshots`, and pages by way of `/pages`, for each caller.",
    )
    cached: str = setting(
        "LIMIT_CACHED", limit_of, "600 per minute", "Answers from the cache, for each caller."
    )
    purge: str = setting("LIMIT_PURGE", limit_of, "30 per minute", "Purges, for each caller.")
    daily_captures: int | None = setting(
        "CAPTURE_BUDGET",
        integer(0, 10**12),
        None,
        "Captures that the whole service takes in a day, UTC; then only what the cache has is answered.",
        computed="no bound",
    )
    usage_days: int = setting(
        "USAGE_DAYS", integer(1, 3650), "400", "Days for which the counts of `GET /usage` are kept."
    )
    redis_url: str | None = setting(
        "LIMITER_REDIS_URL",
        redis_url_of,
        None,
        "The Redis that counts for the limits; it must not evict keys.",
        secret=True,
        computed="`REDIS_URL`, else the database counts, and cached answers each worker process for itself",
    )

    @property
    def storage_uri(self) -> str:
        """The store in the words of the library ``limits``, whose socket URLs have a name of their own."""
        if self.redis_url is None:
            return "database://"
        is_socket = self.redis_url.startswith("unix:")
        return f"redis+{self.redis_url}" if is_socket else self.redis_url


@dataclass(frozen=True, kw_only=True)
class DoorSettings:
    """How callers come in."""

    public_base_url: str | None = setting(
        "PUBLIC_BASE_URL",
        web_url_of,
        None,
        "How this service is reached from outside; URLs in answers start with it.",
        computed="the host that the caller used",
    )
    trusted_proxies: tuple[Network, ...] = setting(
        "TRUSTED_PROXIES",
        listed(network_of),
        "",
        "Addresses and networks of the proxies that may say who the client is.",
    )
    allow_anonymous: bool = setting(
        "ALLOW_ANONYMOUS", flag, "false", "Says that production may be open to everyone."
    )
    thumb_defaults: Mapping[str, str] = setting(
        "THUMB_DEFAULTS",
        pairs_of,
        "",
        "Other defaults for the options of `/thumb`, such as `thumb_width=400,format=webp`.",
    )
    presets: Mapping[str, Mapping[str, str]] = setting(
        "PRESETS",
        presets_of,
        "",
        "Options under a name, for `preset=…`, such as `card:thumb_width=400,format=auto;hero:width=1920`.",
    )
    cache_tags: tuple[str, ...] = setting(
        "CACHE_TAGS",
        listed(choice("Cache-Tag", "Surrogate-Key")),
        "",
        "Headers that tell a CDN by which tags it can purge a picture: `Cache-Tag`, `Surrogate-Key`.",
    )
    has_playground: bool = setting(
        "PLAYGROUND_ENABLED",
        flag,
        "true",
        "Whether `GET /` is a page on which people try the options of `/thumb`.",
    )
    max_body_bytes: int = setting(
        "MAX_BODY_BYTES", size_of, "1 MiB", "Bytes that a request's body may have at most."
    )


@dataclass(frozen=True, kw_only=True)
class SigningSettings:
    """Who may write URLs for public pages."""

    keys: SigningKeys | None = setting(
        "SIGNING_KEYS",
        parse_signing_keys,
        None,
        "The keys of signed URLs, `id:hex` pairs; the first signs, all of them verify.",
        secret=True,
    )
    longest_life_seconds: int | None = setting(
        "SIGNED_URL_MAX_SECONDS",
        integer(60, 3_155_760_000),
        None,
        "The longest life of a signed URL, in seconds.",
        computed="signed URLs may last for ever",
    )


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """What is logged, and how."""

    level: str = setting(
        "LOG_LEVEL",
        choice("debug", "info", "warning", "error", "critical"),
        "info",
        "The least severe level that is logged.",
    )
    format: str = setting(
        "LOG_FORMAT",
        choice("json", "console"),
        "json",
        "One JSON object for each line, or text for a terminal.",
        profile_defaults={"development": "console"},
    )


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """gunicorn's processes and where they listen."""

    host: str = setting(
        "HOST",
        matching(r"[A-Za-z0-9.:_-]{1,253}", "an address or host name"),
        "0.0.0.0",  # noqa: S104 - production listens in a container, behind a proxy
        "The address to listen on.",
        profile_defaults={"development": "127.0.0.1", "testing": "127.0.0.1"},
    )
    port: int = setting("PORT", integer(1, 65_535), "8000", "The TCP port to listen on.")
    workers: int = setting("WEB_CONCURRENCY", integer(1, 256), "2", "Worker processes.")
    threads: int = setting("WEB_THREADS", integer(2, 1000), "256", "Threads of each worker process.")
    waiting: int = setting(
        "WEB_WAITING",
        integer(1, 999),
        None,
        "Requests that may wait at a time in one worker process: for a capture, whoever takes it, a "
        "rendering, a storage, or the reader of their answer; the next one is refused. Those who send the "
        "same plain GET while the first of them waits are not counted: they hold no thread.",
        computed="seven eighths of `WEB_THREADS`",
    )
    client_request_seconds: float = setting(
        "CLIENT_REQUEST_TIMEOUT",
        seconds(1, 300),
        "10",
        "Seconds in which a client must send its whole request.",
    )
    client_keepalive_seconds: int = setting(
        "CLIENT_KEEPALIVE_TIMEOUT",
        integer(1, 3600),
        "75",
        "Seconds for which a connection may be idle between two requests.",
    )
    client_answer_seconds: float = setting(
        "CLIENT_ANSWER_TIMEOUT",
        seconds(1, 3600),
        "60",
        "Seconds, beyond `UPSTREAM_TIMEOUT` (of a batch, once for each four pages) and what a job is "
        "waited for, in which a client must take its whole answer.",
    )
    ready_seconds: float = setting(
        "READY_SECONDS",
        seconds(0, 60),
        "1",
        "Seconds for which a worker process tells all who ask `/ready` or `/metrics` the same of its parts; "
        "`0`: they are tried for each.",
        profile_defaults={"testing": "0"},
    )
