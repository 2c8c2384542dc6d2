"""Settings of captures: who takes them, of what, and how large they may be."""

# ruff: noqa: RUF009 - setting() makes a new dataclass field each time; nothing is shared

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from settings.reading import setting
from settings.values import (
    choice,
    file_of,
    flag,
    integer,
    listed,
    port_of,
    program_of,
    seconds,
    size_of,
    token_of,
    web_url_of,
)
from settings.vendors import HTTP_PROVIDERS, PROVIDER_NAMES
from thumbnailer.guard import PrivateException, parse_private_exceptions
from thumbnailer.providers.hermesforge import HERMESFORGE
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.providers.snapsharp import SNAPSHARP


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where an HTTP provider is and what opens it; ``key`` is None where none is configured."""

    base: str
    key: str | None = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """Who takes captures, and how many at once."""

    names: tuple[str, ...] = setting(
        "PROVIDERS",
        listed(choice(*PROVIDER_NAMES)),
        None,
        "Who takes captures, in the order in which they are tried.",
        computed="every HTTP provider that has a key, else `chromium`",
    )
    timeout_seconds: float = setting(
        "UPSTREAM_TIMEOUT", seconds(1, 300), "30", "Seconds after which a capture is given up."
    )
    concurrency: int = setting(
        "UPSTREAM_CONCURRENCY",
        integer(1, 1000),
        None,
        "Captures under way at once in one worker process.",
        computed="32 with an HTTP provider, else the processor cores divided by `WEB_CONCURRENCY`",
    )
    queue: int = setting(
        "CAPTURE_QUEUE",
        integer(0, 10_000),
        None,
        "Captures that may wait for their turn in one worker process; the next one is refused.",
        computed="three times `UPSTREAM_CONCURRENCY`, 32 at least and half of `WEB_WAITING` at most",
    )
    reserve_seconds: float = setting(
        "FAILOVER_RESERVE",
        seconds(0, 300),
        "10",
        "Seconds reserved for each later provider of `PROVIDERS` while an earlier one is tried.",
    )
    failure_pause_seconds: float = setting(
        "FAILURE_PAUSE",
        seconds(1, 86_400),
        "60",
        "Seconds for which a page is left alone after a failure; doubled with each further one in a row.",
    )
    longest_failure_pause_seconds: float = setting(
        "FAILURE_PAUSE_MAX",
        seconds(1, 86_400),
        "3600",
        "The most that this becomes.",
    )
    refresh_concurrency: int = setting(
        "REFRESH_CONCURRENCY",
        integer(1, 1000),
        "4",
        "Old pictures that one worker process replaces at once behind the answers.",
    )
    refresh_queue: int = setting(
        "REFRESH_QUEUE",
        integer(0, 100_000),
        "200",
        "Old pictures that may wait for that in one worker process.",
    )
    breaker_failures: int = setting(
        "BREAKER_FAILURES",
        integer(1, 10_000),
        "5",
        "Failures in a row after which a provider is left alone.",
    )
    breaker_pause_seconds: float = setting(
        "BREAKER_PAUSE",
        seconds(0.1, 3600),
        "30",
        "Seconds for which a failing provider is left alone; then one capture tries it.",
    )
    single_key: str | None = setting(
        "SCREENSHOT_API_KEY",
        token_of,
        None,
        "The key of the HTTP provider, where `PROVIDERS` names exactly one.",
        secret=True,
    )
    single_base: str | None = setting(
        "SCREENSHOT_API_BASE",
        web_url_of,
        None,
        "The base URL of the HTTP provider, where `PROVIDERS` names exactly one.",
    )
    hermesforge_key: str | None = setting(
        "HERMESFORGE_API_KEY",
        token_of,
        None,
        "hermesforge's key; it also works without one, within a smaller quota.",
        secret=True,
    )
    hermesforge_base: str | None = setting(
        "HERMESFORGE_API_BASE",
        web_url_of,
        None,
        "hermesforge's base URL.",
        computed=f"`{HERMESFORGE.base_url}`",
        alias="HERMESFORGE_BASE",
    )
    snapsharp_key: str | None = setting("SNAPSHARP_API_KEY", token_of, None, "SnapSharp's key.", secret=True)
    snapsharp_base: str | None = setting(
        "SNAPSHARP_API_BASE",
        web_url_of,
        None,
        "SnapSharp's base URL.",
        computed=f"`{SNAPSHARP.base_url}`",
        alias="SNAPSHARP_BASE",
    )
    snapapi_key: str | None = setting("SNAPAPI_KEY", token_of, None, "SnapAPI's key.", secret=True)
    snapapi_base: str | None = setting(
        "SNAPAPI_BASE",
        web_url_of,
        None,
        "SnapAPI's base URL.",
        computed=f"`{SNAPAPI.base_url}`",
    )

    def upstream(self, name: str) -> Upstream:
        """Base URL and key of the HTTP provider ``name``; its own settings go before the single ones."""
        is_single = [each for each in self.names if each in HTTP_PROVIDERS] == [name]
        base = getattr(self, f"{name}_base") or (self.single_base if is_single else None)
        key = getattr(self, f"{name}_key") or (self.single_key if is_single else None)
        return Upstream(base or HTTP_PROVIDERS[name].vendor.base_url, key)


@dataclass(frozen=True, kw_only=True)
class ChromiumSettings:
    """The local browser."""

    path: Path | None = setting(
        "CHROMIUM_PATH",
        program_of,
        None,
        "The browser's program.",
        computed="headless shell, Chromium, Chrome or Playwright's own, whichever is found first",
    )
    recycle_after: int = setting(
        "CHROMIUM_RECYCLE_AFTER",
        integer(1, 100_000),
        "150",
        "Captures after which the browser is replaced by a fresh one.",
    )
    has_spare_page: bool = setting(
        "CHROMIUM_SPARE_PAGE",
        flag,
        "true",
        "Whether a page is opened ahead of the next capture, once two in a row were alike.",
    )
    load_timeout_seconds: float = setting(
        "CHROMIUM_LOAD_TIMEOUT",
        seconds(1, 300),
        "15",
        "Seconds after which a page that shows something and is still loading is photographed as it is.",
    )
    page_memory_bytes: int = setting(
        "CHROMIUM_PAGE_MEMORY",
        size_of,
        "1 GiB",
        "Memory that one process of a page may use before it is ended.",
    )
    memory_bytes: int = setting(
        "CHROMIUM_MEMORY",
        size_of,
        "4 GiB",
        "Memory that one browser with all its processes may use before the largest of them is ended.",
    )
    sandbox: bool = setting(
        "CHROMIUM_SANDBOX", flag, "true", "Whether Chromium isolates pages in its own sandbox."
    )
    refuse_challenges: bool = setting(
        "REFUSE_CHALLENGES",
        flag,
        "true",
        "Whether a check for robots in place of the page counts as a failure.",
    )
    challenge_markers: Path | None = setting(
        "CHALLENGE_MARKERS",
        file_of,
        None,
        "A file that says by what such checks are recognised.",
        computed="the small one that comes with the service",
    )
    filter_list: Path | None = setting(
        "AD_FILTER_LIST",
        file_of,
        None,
        "A filter list in Adblock Plus syntax for `block_ads`.",
        computed="the small list that comes with the service",
    )


@dataclass(frozen=True, kw_only=True)
class PictureSettings:
    """How large a picture may be."""

    max_bytes: int = setting("MAX_IMAGE_BYTES", size_of, "20 MiB", "Bytes that a capture may have at most.")
    max_pixels: int = setting(
        "MAX_IMAGE_PIXELS",
        integer(10_000, 1_000_000_000),
        "50000000",
        "Pixels that a capture may have at most.",
    )
    refuse_blank: bool = setting(
        "REFUSE_BLANK",
        flag,
        "true",
        "Whether a picture of one colour all over counts as a failure.",
    )
    blank_stray_pixels: int = setting(
        "BLANK_STRAY_PIXELS",
        integer(0, 10_000),
        "20",
        "Pixels in a million that may differ in a picture of one colour.",
    )
    placeholder: Path | None = setting(
        "PLACEHOLDER_IMAGE",
        file_of,
        None,
        "A picture to show where there is none to show.",
        computed="a broken browser window in a soft grey, drawn in the size asked for",
    )
    pending_placeholder: Path | None = setting(
        "PENDING_IMAGE",
        file_of,
        None,
        "A picture to show while the true one is being made, or cannot be yet because a limit is reached.",
        computed="a browser window with three dots in the same grey",
    )


@dataclass(frozen=True, kw_only=True)
class TargetSettings:
    """Which pages may be photographed."""

    private_exceptions: tuple[PrivateException, ...] = setting(
        "ALLOWED_PRIVATE_TARGETS",
        parse_private_exceptions,
        "",
        "Networks (CIDR) and `host:port` pairs that are allowed although they are private; "
        "for development and tests.",
    )
    ports: tuple[int, ...] = setting(
        "TARGET_PORTS", listed(port_of), "80,443", "Ports that targets may have."
    )
