"""Settings: what each value means, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config import ConfigurationError, Settings, load_settings
from settings import rules
from settings.values import PROJECT_FOLDER
from tests.support.settings import NO_FILE, faults_of, load
from thumbnailer.guard import parse_private_exceptions


def value_at(settings: Settings, path: str) -> Any:
    value: Any = settings
    for part in path.split("."):
        value = getattr(value, part)
    return value


DEFAULTS = {
    "providers.names": ("chromium",),
    "providers.timeout_seconds": 30.0,
    "providers.queue": 32,
    "chromium.path": None,
    "chromium.recycle_after": 150,
    "pictures.max_bytes": 20 * 1024 * 1024,
    "pictures.max_pixels": 50_000_000,
    "targets.ports": (80, 443),
    "targets.private_exceptions": (),
    "cache.kind": "simple",
    "cache.max_bytes": 2 * 1024**3,
    "cache.retention_seconds": 2_592_000,
    "limits.enabled": True,
    "limits.thumb": "30 per minute",
    "limits.screenshot": "10 per minute",
    "limits.persist": "5 per minute",
    "limits.cached": "600 per minute",
    "limits.storage_uri": "database://",
    "storage.media_folder": PROJECT_FOLDER / "var/media",
    "storage.key_template": "thumbs/{digest}.{ext}",
    "s3.bucket": None,
    "doors.trusted_proxies": (),
    "doors.max_body_bytes": 1024 * 1024,
    "doors.thumb_defaults": {},
    "server.port": 8000,
    "server.workers": 2,
    "server.threads": 256,
    "server.waiting": 224,
}


@pytest.mark.parametrize("path", DEFAULTS, ids=str)
def test_nothing_has_to_be_configured(path: str) -> None:
    assert value_at(load(), path) == DEFAULTS[path]


@pytest.mark.parametrize(
    ("environ", "path", "value"),
    [
        ({"UPSTREAM_TIMEOUT": "2.5"}, "providers.timeout_seconds", 2.5),
        ({"MAX_IMAGE_BYTES": "3 MiB"}, "pictures.max_bytes", 3 * 1024 * 1024),
        ({"MAX_IMAGE_BYTES": "4096"}, "pictures.max_bytes", 4096),
        ({"MAX_IMAGE_PIXELS": "12_000_000"}, "pictures.max_pixels", 12_000_000),
        ({"TARGET_PORTS": "80, 443,8080,80"}, "targets.ports", (80, 443, 8080)),
        ({"PROVIDERS": "Chromium , hermesforge"}, "providers.names", ("chromium", "hermesforge")),
        ({"RATELIMIT_ENABLED": "Off"}, "limits.enabled", False),
        ({"LIMIT_THUMB": "1/second;9/day"}, "limits.thumb", "1/second;9/day"),
        (
            {"PUBLIC_BASE_URL": "https://example.com/thumbs/"},
            "doors.public_base_url",
            "https://example.com/thumbs",
        ),
        ({"LOG_LEVEL": "WARNING"}, "logs.level", "warning"),
        ({"CACHE_DIR": "elsewhere"}, "cache.folder", PROJECT_FOLDER / "elsewhere"),
        ({"CACHE_DIR": "/srv/cache"}, "cache.folder", Path("/srv/cache")),
        ({"PORT": "  81 "}, "server.port", 81),
        ({"PORT": ""}, "server.port", 8000),
        ({"CAPTURE_QUEUE": "0"}, "providers.queue", 0),
        ({"WEB_THREADS": "10"}, "providers.queue", 4),
        ({"WEB_THREADS": "10"}, "server.waiting", 9),
        ({"WEB_THREADS": "2"}, "server.waiting", 1),
        ({"PROVIDERS": "chromium"}, "providers.queue", 32),
        ({"UPSTREAM_CONCURRENCY": "20"}, "providers.queue", 60),
        ({"HERMESFORGE_BASE": "http://h.test"}, "providers.hermesforge_base", "http://h.test"),
        ({"DATABASE_URL": "sqlite:////srv/a.db"}, "database.url", "sqlite:////srv/a.db"),
        ({"DATABASE_URL": "sqlite:///a.db"}, "database.url", f"sqlite:///{PROJECT_FOLDER}/a.db"),
        ({"DATABASE_URL": "postgres://u@h/n?a=b"}, "database.url", "postgresql+psycopg://u@h/n?a=b"),
        (
            {"ALLOWED_PRIVATE_TARGETS": "10.0.0.0/8,localhost:3000"},
            "targets.private_exceptions",
            parse_private_exceptions("10.0.0.0/8,localhost:3000"),
        ),
    ],
    ids=str,
)
def test_a_value_becomes_what_it_means(environ: dict[str, str], path: str, value: object) -> None:
    assert value_at(load(environ), path) == value


def test_proxies_are_addresses_and_networks() -> None:
    settings = load({"TRUSTED_PROXIES": "10.0.0.5, fd00::/8"})
    assert [str(network) for network in settings.doors.trusted_proxies] == ["10.0.0.5/32", "fd00::/8"]


def test_thumb_defaults_are_pairs_whose_values_may_hold_commas() -> None:
    settings = load({"THUMB_DEFAULTS": "width=800, clip=0,0,10,10 ,format=webp"})
    assert settings.doors.thumb_defaults == {"width": "800", "clip": "0,0,10,10", "format": "webp"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("UPSTREAM_TIMEOUT", "0"),
        ("UPSTREAM_TIMEOUT", "301"),
        ("UPSTREAM_TIMEOUT", "nan"),
        ("UPSTREAM_TIMEOUT", "30s"),
        ("MAX_IMAGE_BYTES", "20 MB"),
        ("MAX_IMAGE_BYTES", "0"),
        ("MAX_IMAGE_BYTES", "-1"),
        ("RATELIMIT_ENABLED", "maybe"),
        ("LIMIT_THUMB", "plenty"),
        ("LIMIT_CACHED", "10"),
        ("PROVIDERS", "chromium,firefox"),
        ("TARGET_PORTS", "80,99999"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("TRUSTED_PROXIES", "proxy.example.com"),
        ("ALLOWED_PRIVATE_TARGETS", "everything"),
        ("STORAGE_KEY_TEMPLATE", "thumbs/{ext}"),
        ("THUMB_DEFAULTS", "400"),
        ("THUMB_DEFAULTS", "width=1,width=2"),
        ("S3_ADDRESSING_STYLE", "host"),
        ("S3_ENDPOINT_URL", "minio:9000"),
        ("SNAPSHARP_API_BASE", "https://user:pass@example.com"),
        ("SNAPSHARP_API_BASE", "https://example.com:port"),
        ("PUBLIC_BASE_URL", "https://example.com/?a=b"),
        ("PUBLIC_BASE_URL", "https:///thumbs"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://[::1"),
        ("REDIS_URL", "redis:///0"),
        ("REDIS_URL", "unix:"),
        ("SNAPAPI_KEY", "two words"),
        ("CHROMIUM_PATH", "/nowhere/chromium"),
        ("CHROMIUM_PATH", "README.md"),
        ("AD_FILTER_LIST", "tests"),
        ("S3_CA_BUNDLE", "/nowhere/ca.pem"),
        ("CACHE_DIR", "config.py"),
        ("CACHE_KEY_PREFIX", "two words"),
        ("PUBLIC_TARGETS", "https://example.com"),
        ("PUBLIC_PRESETS", "Card"),
        ("DATABASE_URL", "mysql://host/name"),
        ("DATABASE_URL", "postgresql://host"),
        ("DATABASE_URL", "sqlite:///"),
        ("LOG_FORMAT", "xml"),
    ],
    ids=str,
)
def test_a_wrong_value_stops_the_start_naming_setting_and_page(name: str, text: str) -> None:
    assert f"(docs/configuration.md#{name.lower()})" in faults_of({name: text})[name]


def test_all_faults_are_reported_together_one_line_each() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load({"PORT": "x", "LIMIT_THUMB": "x", "S3_ACCESS_KEY_ID": "x"}, profile="production")
    named = [line.partition(":")[0] for line in str(raised.value).splitlines()[1:]]
    assert named == ["LIMIT_THUMB", "PORT", "S3_SECRET_ACCESS_KEY"]


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({"PROVIDERS": "snapsharp"}, "SNAPSHARP_API_KEY"),
        ({"PROVIDERS": "chromium,snapapi"}, "SNAPAPI_KEY"),
        ({"SCREENSHOT_API_KEY": "k"}, "SCREENSHOT_API_KEY"),
        ({"SCREENSHOT_API_KEY": "k", "PROVIDERS": "snapsharp,snapapi"}, "SCREENSHOT_API_KEY"),
        ({"SCREENSHOT_API_BASE": "http://x", "PROVIDERS": "hermesforge,snapapi"}, "SCREENSHOT_API_BASE"),
        ({"CAPTURE_QUEUE": "7", "WEB_THREADS": "8"}, "CAPTURE_QUEUE"),
        ({"CAPTURE_QUEUE": "5", "WEB_WAITING": "5"}, "CAPTURE_QUEUE"),
        ({"WEB_WAITING": "8", "WEB_THREADS": "8"}, "WEB_WAITING"),
        ({"PUBLIC_PRESETS": "card"}, "PUBLIC_PRESETS"),
        ({"S3_SECRET_ACCESS_KEY": "k"}, "S3_ACCESS_KEY_ID"),
        ({"S3_SSE_KMS_KEY_ID": "k", "S3_SSE": "AES256"}, "S3_SSE_KMS_KEY_ID"),
        ({"HERMESFORGE_BASE": "http://a", "HERMESFORGE_API_BASE": "http://b"}, "HERMESFORGE_API_BASE"),
    ],
    ids=str,
)
def test_a_contradiction_between_settings_stops_the_start(environ: dict[str, str], name: str) -> None:
    assert name in faults_of(environ)


def test_a_setting_that_cannot_be_read_causes_no_second_fault_elsewhere() -> None:
    assert set(faults_of({"WEB_THREADS": "many", "CAPTURE_QUEUE": "999"})) == {"WEB_THREADS"}


def test_an_unknown_profile_is_a_fault() -> None:
    assert "APP_ENV" in faults_of({}, profile="staging")


def test_the_profile_comes_from_the_environment_unless_given() -> None:
    assert load_settings(None, {"APP_ENV": "development"}, NO_FILE).profile == "development"
    assert load_settings("testing", {"APP_ENV": "development"}, NO_FILE).profile == "testing"


# --- providers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "names"),
    [
        ({}, ("chromium",)),
        ({"SNAPSHARP_API_KEY": "k"}, ("snapsharp",)),
        ({"SNAPAPI_KEY": "k", "HERMESFORGE_API_KEY": "k"}, ("hermesforge", "snapapi")),
        ({"SNAPSHARP_API_KEY": "k", "PROVIDERS": "chromium"}, ("chromium",)),
        ({"PROVIDERS": "hermesforge"}, ("hermesforge",)),
    ],
    ids=str,
)
def test_providers_are_those_named_else_those_with_a_key(environ: dict[str, str], names: tuple[str]) -> None:
    assert load(environ).providers.names == names


@pytest.mark.parametrize(
    ("environ", "name", "base", "key"),
    [
        ({"PROVIDERS": "hermesforge"}, "hermesforge", "https://hermesforge.dev", None),
        ({"SNAPSHARP_API_KEY": "k"}, "snapsharp", "https://api.snapsharp.dev", "k"),
        ({"SNAPAPI_KEY": "k", "SNAPAPI_BASE": "http://a.test/"}, "snapapi", "http://a.test", "k"),
        (
            {
                "PROVIDERS": "chromium,snapapi",
                "SCREENSHOT_API_KEY": "k",
                "SCREENSHOT_API_BASE": "http://a.test",
            },
            "snapapi",
            "http://a.test",
            "k",
        ),
        (
            {"PROVIDERS": "snapapi", "SCREENSHOT_API_KEY": "general", "SNAPAPI_KEY": "own"},
            "snapapi",
            "https://api.snapapi.pics",
            "own",
        ),
    ],
    ids=["without-key", "default-base", "own-base", "single-names", "own-key-first"],
)
def test_an_upstream_has_its_own_settings_before_the_general_ones(
    environ: dict[str, str], name: str, base: str, key: str | None
) -> None:
    upstream = load(environ).providers.upstream(name)
    assert (upstream.base, upstream.key) == (base, key)


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("200000 100000\n", 2), ("50000 100000\n", 1), ("max 100000\n", 8), (None, 8)],
    ids=["two-cores", "half-a-core", "no-quota", "no-cgroup"],
)
def test_usable_cores_heed_a_container_quota(
    quota: str | None, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quota_file = tmp_path / "cpu.max"
    if quota is not None:
        quota_file.write_text(quota)
    monkeypatch.setattr(rules, "CPU_QUOTA_FILE", quota_file)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    assert rules.usable_cores() == cores


def test_chromium_takes_no_more_than_its_share_of_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.setattr(rules, "CPU_QUOTA_FILE", Path("/nowhere"))
    assert load({"WEB_CONCURRENCY": "2"}).chromium_concurrency == 4
    assert load({"WEB_CONCURRENCY": "2", "UPSTREAM_CONCURRENCY": "3"}).chromium_concurrency == 3
    assert load({"WEB_CONCURRENCY": "16"}).chromium_concurrency == 1
    both = load({"PROVIDERS": "hermesforge,chromium"})
    assert (both.providers.concurrency, both.chromium_concurrency) == (32, 4)


# --- cache and limits -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "environ", "kind"),
    [
        ("testing", {}, "simple"),
        ("testing", {"CACHE_DIR": "var/x"}, "file"),
        ("testing", {"REDIS_URL": "redis://h"}, "redis"),
        ("development", {}, "file"),
        ("development", {"REDIS_URL": "redis://h", "CACHE_DIR": "var/x"}, "redis"),
    ],
    ids=["tests-in-memory", "tests-on-disk", "tests-in-redis", "files-by-default", "redis-goes-first"],
)
def test_the_cache_is_redis_else_files_else_memory(profile: str, environ: dict[str, str], kind: str) -> None:
    assert load(environ, profile=profile).cache.kind == kind


@pytest.mark.parametrize(
    ("environ", "uri"),
    [
        ({"REDIS_URL": "redis://h:1/0"}, "redis://h:1/0"),
        ({"REDIS_URL": "redis://h:1/0", "LIMITER_REDIS_URL": "rediss://l:2/0"}, "rediss://l:2/0"),
        ({"REDIS_URL": "unix:///run/redis.sock"}, "redis+unix:///run/redis.sock"),
    ],
    ids=["shared", "own", "socket"],
)
def test_limits_are_counted_in_their_own_redis_else_the_shared_one(environ: dict[str, str], uri: str) -> None:
    assert load(environ).limits.storage_uri == uri
