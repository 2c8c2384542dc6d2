"""Settings of what is kept: for a while in the cache, for good in storage."""

# ruff: noqa: RUF009 - setting() makes a new dataclass field each time; nothing is shared

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from settings.reading import setting
from settings.values import (
    choice,
    database_url_of,
    file_of,
    folder_of,
    integer,
    matching,
    redis_url_of,
    seconds,
    size_of,
    token_of,
    web_url_of,
)
from thumbnailer.model import MAX_TTL_SECONDS, MIN_TTL_SECONDS
from thumbnailer.storage import DEFAULT_KEY_TEMPLATE, check_key_template


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """Where captures are kept for a while."""

    redis_url: str | None = setting(
        "REDIS_URL",
        redis_url_of,
        None,
        "The Redis that all workers and machines share; cache and limits move there.",
        secret=True,
    )
    redis_timeout_seconds: float = setting(
        "REDIS_TIMEOUT",
        seconds(0.01, 60),
        "0.3",
        "Seconds to wait for a Redis that does not answer before going on without it.",
    )
    folder: Path | None = setting(
        "CACHE_DIR",
        folder_of,
        "var/cache",
        "The folder of the file cache, used where there is no `REDIS_URL`.",
        profile_defaults={"testing": None},
    )
    max_bytes: int = setting("CACHE_MAX_BYTES", size_of, "2 GiB", "Bytes that the file cache may take up.")
    replay_bytes: int = setting(
        "REPLAY_BYTES",
        size_of,
        "32 MiB",
        "Bytes of memory in which each worker process keeps its latest answers from the cache.",
    )
    replay_seconds: float = setting(
        "REPLAY_SECONDS",
        seconds(0, 3),
        "3",
        "Seconds for which a worker process repeats an answer out of its own memory; `0`: never.",
    )
    retention_seconds: int = setting(
        "CACHE_DEFAULT_TIMEOUT",
        integer(60, 31_536_000),
        "2592000",
        "Seconds that a capture is kept, to be served where a new one cannot be taken.",
    )
    min_ttl_seconds: int = setting(
        "TTL_MIN",
        integer(MIN_TTL_SECONDS, MAX_TTL_SECONDS),
        "60",
        "The least `ttl` in seconds that a caller may ask for.",
    )
    max_ttl_seconds: int = setting(
        "TTL_MAX",
        integer(MIN_TTL_SECONDS, MAX_TTL_SECONDS),
        "2592000",
        "The greatest `ttl` in seconds that a caller may ask for.",
    )
    key_prefix: str = setting(
        "CACHE_KEY_PREFIX",
        matching(r"[A-Za-z0-9_.:-]{1,64}", "1 to 64 letters, digits and . _ : -"),
        "thumbnailer:",
        "What every key in a shared cache starts with.",
    )

    @property
    def kind(self) -> Literal["simple", "file", "redis"]:
        """Redis where there is one, else files; memory where not even a folder is set."""
        if self.redis_url:
            return "redis"
        return "file" if self.folder else "simple"


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """Where API keys and counts are kept."""

    url: str = setting(
        "DATABASE_URL",
        database_url_of,
        "sqlite:///var/thumbnailer.sqlite3",
        "The database: an SQLite file, or PostgreSQL where several machines share it.",
        secret=True,
        profile_defaults={"testing": "sqlite://"},
    )
    pool_size: int = setting(
        "DATABASE_POOL_SIZE", integer(1, 100), "5", "Connections that one worker process opens at most."
    )
    timeout_seconds: float = setting(
        "DATABASE_TIMEOUT",
        seconds(0.1, 60),
        "5",
        "Seconds that anything waits for the database: for a connection, a lock, a statement.",
    )
    ping_seconds: float = setting(
        "DATABASE_PING_TIMEOUT",
        seconds(0.05, 60),
        "2",
        "Seconds after which a PostgreSQL connection that was open and gives no sign of life is made anew.",
    )


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """Where persisted images are kept for good."""

    media_folder: Path = setting(
        "MEDIA_DIR",
        folder_of,
        "var/media",
        "The folder of stored images, used where there is no `S3_BUCKET`.",
    )
    key_template: str = setting(
        "STORAGE_KEY_TEMPLATE",
        check_key_template,
        DEFAULT_KEY_TEMPLATE,
        "The key of a stored image, made of `{digest}`, `{ext}` and `{host}`.",
    )


@dataclass(frozen=True, kw_only=True)
class S3Settings:
    """An object store that speaks S3; used where ``bucket`` is set."""

    bucket: str | None = setting(
        "S3_BUCKET",
        matching(r"[A-Za-z0-9][A-Za-z0-9._-]{1,253}[A-Za-z0-9]", "the name of a bucket"),
        None,
        "The bucket for stored images.",
    )
    region: str = setting(
        "S3_REGION",
        matching(r"[A-Za-z0-9-]{1,64}", "the name of a region"),
        "us-east-1",
        "The bucket's region; `auto` for Cloudflare R2.",
    )
    endpoint_url: str | None = setting(
        "S3_ENDPOINT_URL", web_url_of, None, "The store's URL, where it is not Amazon's."
    )
    public_base_url: str | None = setting(
        "S3_PUBLIC_BASE_URL",
        web_url_of,
        None,
        "Where the public reaches the bucket: a CDN or a domain of your own.",
        computed="the bucket's own URL",
    )
    access_key_id: str | None = setting(
        "S3_ACCESS_KEY_ID",
        token_of,
        None,
        "The access key's id.",
        secret=True,
        computed="what the AWS SDK finds: shared files, instance or task role",
    )
    secret_access_key: str | None = setting(
        "S3_SECRET_ACCESS_KEY", token_of, None, "The access key's secret.", secret=True
    )
    addressing_style: str = setting(
        "S3_ADDRESSING_STYLE",
        choice("auto", "path", "virtual"),
        "auto",
        "Whether the bucket stands in the path or in the host name.",
    )
    acl: str | None = setting(
        "S3_ACL",
        choice(
            "private",
            "public-read",
            "authenticated-read",
            "bucket-owner-read",
            "bucket-owner-full-control",
        ),
        None,
        "The canned ACL of stored images.",
        computed="none is sent",
    )
    sse: str | None = setting(
        "S3_SSE",
        choice("AES256", "aws:kms", "aws:kms:dsse"),
        None,
        "The server-side encryption to ask for.",
        computed="the bucket's own",
    )
    sse_kms_key_id: str | None = setting(
        "S3_SSE_KMS_KEY_ID",
        matching(r"[A-Za-z0-9:/_-]{1,256}", "the id or ARN of a KMS key"),
        None,
        "The KMS key, with `S3_SSE=aws:kms`.",
        computed="the account's own",
    )
    storage_class: str | None = setting(
        "S3_STORAGE_CLASS",
        matching(r"[A-Z0-9_]{1,64}", "a storage class such as STANDARD_IA"),
        None,
        "The storage class of stored images.",
        computed="the bucket's own",
    )
    ca_bundle: Path | None = setting(
        "S3_CA_BUNDLE",
        file_of,
        None,
        "A PEM file of certificate authorities for the store's https.",
        computed="those that come with the AWS SDK",
    )
    connect_timeout_seconds: float = setting(
        "S3_CONNECT_TIMEOUT", seconds(0.1, 60), "3", "Seconds to wait for a connection to the store."
    )
    read_timeout_seconds: float = setting(
        "S3_READ_TIMEOUT", seconds(0.1, 300), "10", "Seconds to wait for the store's next bytes."
    )
    attempts: int = setting("S3_ATTEMPTS", integer(1, 10), "2", "Tries of one call to the store.")
    credentials_pause_seconds: float = setting(
        "S3_CREDENTIALS_PAUSE",
        seconds(0, 3600),
        "5",
        "Seconds until credentials that the AWS SDK did not find are looked for again.",
    )
