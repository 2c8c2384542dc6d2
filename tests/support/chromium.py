"""Providers over the real Chromium of this machine, for tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.small_web import ChangingAnswers
from thumbnailer.guard import Guard, parse_private_exceptions
from thumbnailer.lookup import Resolver
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers.chromium import ChromiumProvider, ChromiumSettings, find_chromium

#: For browsers that a test starts by itself: names end here.
NO_NAMES = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"


def guard_with(exceptions: str = "127.0.0.0/8", *, resolver: Resolver | None = None) -> Guard:
    """A guard that lets the servers of tests pass, and knows no names; no look-up leaves the machine."""
    return Guard(exceptions=parse_private_exceptions(exceptions), resolver=resolver or ChangingAnswers({}))


def make_provider(guard: Guard | None = None, **settings: Any) -> ChromiumProvider:
    """A provider that takes two captures at a time."""
    usual = {"executable": find_chromium(), "concurrency": 2}
    return ChromiumProvider(ChromiumSettings(**(usual | settings)), guard or guard_with())


@contextmanager
def chromium(guard: Guard | None = None, **settings: Any) -> Iterator[ChromiumProvider]:
    """``make_provider`` for the length of a block."""
    provider = make_provider(guard, **settings)
    try:
        yield provider
    finally:
        provider.close()


def take(provider: ChromiumProvider, url: str, *, seconds: float = 30, **options: Any) -> bytes:
    """The bytes of a small picture of ``url``."""
    request = CaptureRequest(url=url, **({"width": 320, "height": 240} | options))
    return provider.capture(request, Deadline.after(seconds)).content
