"""Providers over the real Chromium of this machine, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers.chromium import ChromiumProvider, ChromiumSettings, find_chromium

#: Names end here; no look-up leaves the machine.
NO_NAMES = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


def make_provider(**settings: Any) -> ChromiumProvider:
    """A provider that takes two captures at a time and visits no ``/forbidden``."""
    usual = {"executable": find_chromium(), "concurrency": 2, "extra_switches": (NO_NAMES,)}
    return ChromiumProvider(
        ChromiumSettings(**(usual | settings)), admits_url=lambda url: not url.endswith("/forbidden")
    )


@contextmanager
def chromium(**settings: Any) -> Iterator[ChromiumProvider]:
    """``make_provider`` for the length of a block."""
    provider = make_provider(**settings)
    try:
        yield provider
    finally:
        provider.close()


def take(provider: ChromiumProvider, url: str, *, seconds: float = 30, **options: Any) -> bytes:
    """The bytes of a small picture of ``url``."""
    request = CaptureRequest(url=url, **({"width": 320, "height": 240} | options))
    return provider.capture(request, Deadline.after(seconds)).content
