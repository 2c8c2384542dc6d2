"""The HTTP providers, and what their settings are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from thumbnailer.providers.hermesforge import HERMESFORGE
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.providers.snapsharp import SNAPSHARP
from thumbnailer.providers.vendor import Vendor


@dataclass(frozen=True, slots=True)
class HttpProvider:
    """A vendor, and the settings of its key and of its base URL."""

    vendor: Vendor
    key_setting: str
    base_setting: str


HTTP_PROVIDERS: Mapping[str, HttpProvider] = {
    each.vendor.name: each
    for each in (
        HttpProvider(HERMESFORGE, "HERMESFORGE_API_KEY", "HERMESFORGE_API_BASE"),
        HttpProvider(SNAPSHARP, "SNAPSHARP_API_KEY", "SNAPSHARP_API_BASE"),
        HttpProvider(SNAPAPI, "SNAPAPI_KEY", "SNAPAPI_BASE"),
    )
}
PROVIDER_NAMES = ("chromium", *HTTP_PROVIDERS)
SINGLE_PROVIDER_SETTINGS = ("SCREENSHOT_API_KEY", "SCREENSHOT_API_BASE")
