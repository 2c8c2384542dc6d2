"""Captures by an HTTP provider, as the tests of all of them make them."""

from __future__ import annotations

from contextlib import closing

from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.vendor import Vendor

KEY = "sk_live_dont_tell"
NOW = 1_000_000_000

REQUEST = CaptureRequest(url="https://example.com/")


def provider_of(vendor: Vendor, session: UpstreamSession, url: str) -> RemoteProvider:
    return RemoteProvider(vendor, session, key=KEY, base_url=url, clock=lambda: NOW)


def whole(provider: RemoteProvider, deadline: Deadline | None = None) -> bytes:
    with closing(provider.capture(REQUEST, deadline or Deadline.after(20))) as body:
        return b"".join(body)
