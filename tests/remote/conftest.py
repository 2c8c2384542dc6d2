"""What the tests of HTTP providers share: an upstream, and a provider that calls it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.remote import provider_of
from tests.support.upstream import Upstream
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.snapapi import SNAPAPI


@pytest.fixture
def session() -> Iterator[UpstreamSession]:
    with UpstreamSession() as pooled:
        yield pooled


@pytest.fixture
def provider(upstream: Upstream, session: UpstreamSession) -> RemoteProvider:
    return provider_of(SNAPAPI, session, upstream.url)
