"""The HTTP providers as the configuration knows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpProvider:
    """What the settings of an HTTP provider are called, and where it is unless they say otherwise."""

    key_setting: str
    base_setting: str
    base: str
    needs_key: bool


HTTP_PROVIDERS: Mapping[str, HttpProvider] = {
    "hermesforge": HttpProvider(
        "HERMESFORGE_API_KEY", "HERMESFORGE_API_BASE", "https://hermesforge.dev", needs_key=False
    ),
    "snapsharp": HttpProvider(
        "SNAPSHARP_API_KEY", "SNAPSHARP_API_BASE", "https://api.snapsharp.dev", needs_key=True
    ),
    "snapapi": HttpProvider("SNAPAPI_KEY", "SNAPAPI_BASE", "https://api.snapapi.pics", needs_key=True),
}
PROVIDER_NAMES = ("chromium", *HTTP_PROVIDERS)
SINGLE_PROVIDER_SETTINGS = ("SCREENSHOT_API_KEY", "SCREENSHOT_API_BASE")
