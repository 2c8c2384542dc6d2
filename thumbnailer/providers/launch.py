"""How the local Chromium is found and started: its program, switches and environment."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thumbnailer.providers.challenges import Marker
from thumbnailer.providers.memory_watch import MemoryBounds

#: Debian puts the real program here; what it puts on the path is a shell script around it.
DEBIAN_HEADLESS_SHELL = Path("/usr/lib/chromium/chromium-headless-shell")

#: In order of preference: the headless shell takes half the time and memory of the whole browser.
PROGRAM_NAMES = (
    "chromium-headless-shell",
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
)

PLAYWRIGHT_PATTERNS = (
    "chromium_headless_shell-*/chrome-*/*headless*shell",
    "chromium-*/chrome-linux*/chrome",
)

#: Pages run with these rights; whatever else the service was given, keys above all, stays here.
PASSED_ON_VARIABLES = frozenset(
    {
        "FONTCONFIG_FILE",
        "FONTCONFIG_PATH",
        "HOME",
        "LANG",
        "LANGUAGE",
        "LD_LIBRARY_PATH",
        "PATH",
        "TMPDIR",
        "TZ",
        "USER",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_RUNTIME_DIR",
    }
)

PAGE_HEAP_MEGABYTES = 256

#: What Playwright turns off. Of two such lists Chromium heeds the last, so it stands in ours as well.
TURNED_OFF_BY_PLAYWRIGHT = (
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsUpgrades",
    "HttpsFirstBalancedModeAutoEnable",
    "LensOverlay",
    "MediaRouter",
    "PaintHolding",
    "ThirdPartyStoragePartitioning",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "TcpPortRandomizationWin",
    "OptimizationHints",
    "NetworkTimeServiceQuerying",
    "AimEnabled",
    "PreconnectToSearch",
    "msForceBrowserSignIn",
    "msEdgeUpdateLaunchServicesPreferredVersion",
)

#: Copies each font that a page needs into shared memory, and keeps it for the browser's life: 250 MB
#: after one page in Chinese, Japanese or Korean. Without it pages read the fonts' files, as they always did.
FONT_COPIES = "FontDataServiceLinux"

SWITCHES = (
    f"--js-flags=--max-old-space-size={PAGE_HEAP_MEGABYTES}",
    # A pop-up that is closed while it opens may leave the page's own frames waiting for ever.
    "--block-new-web-contents",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-dev-shm-usage",
    "--disable-domain-reliability",
    f"--disable-features={','.join((*TURNED_OFF_BY_PLAYWRIGHT, FONT_COPIES))}",
    "--disable-sync",
    "--dns-prefetch-disable",
    "--no-first-run",
    "--no-pings",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChromiumSettings:
    """What the operator decides about the local browser.

    ``executable`` is its program, None where there is none; ``concurrency`` the captures that one
    process takes at a time; ``recycle_after`` the captures after which the browser is replaced;
    ``has_spare_page`` whether a page is kept open for the next one;
    ``ad_filter_list`` a file in EasyList syntax instead of the one that comes along;
    ``challenge_markers`` give checks for robots away, which are refused;
    ``max_image_pixels``, ``max_pdf_bytes`` and ``max_full_page_height`` (CSS pixels) bound a picture;
    ``is_sandboxed`` says whether pages run in Chromium's sandbox; ``memory`` bounds what pages may use;
    ``load_timeout_seconds`` is how long a page that shows something may go on loading.
    """

    executable: Path | None
    concurrency: int = os.cpu_count() or 1
    recycle_after: int = 150
    has_spare_page: bool = True
    ad_filter_list: Path | None = None
    challenge_markers: tuple[Marker, ...] = ()
    max_image_pixels: int = 50_000_000
    max_pdf_bytes: int = 20 * 1024 * 1024
    max_full_page_height: int = 16_384
    is_sandboxed: bool = True
    memory: MemoryBounds = field(default_factory=MemoryBounds)
    load_timeout_seconds: float = 15.0


def find_chromium(
    *, environment: Mapping[str, str] = os.environ, debian: Path = DEBIAN_HEADLESS_SHELL
) -> Path | None:
    """The best Chromium of this machine, None where there is none. Starts nothing."""
    if is_executable(debian):
        return debian
    for name in PROGRAM_NAMES:
        if found := shutil.which(name, path=environment.get("PATH", os.defpath)):
            return Path(found)
    return _newest_of_playwright(environment)


def _newest_of_playwright(environment: Mapping[str, str]) -> Path | None:
    home = environment.get("HOME", "/nonexistent")
    folder = Path(environment.get("PLAYWRIGHT_BROWSERS_PATH") or f"{home}/.cache/ms-playwright")
    for pattern in PLAYWRIGHT_PATTERNS:
        found = [path for path in folder.glob(pattern) if is_executable(path)]
        if found:
            return max(found, key=lambda path: _revision(path.relative_to(folder)))
    return None


def _revision(inside: Path) -> int:
    revision = inside.parts[0].rpartition("-")[2]
    return int(revision) if revision.isdecimal() else 0


def is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def environment_for_pages(environment: Mapping[str, str]) -> dict[str, str | float | bool]:
    """The few variables that Chromium needs."""
    return {
        name: value
        for name, value in environment.items()
        if name in PASSED_ON_VARIABLES or name.startswith("LC_")
    }
