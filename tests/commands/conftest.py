"""What the tests of commands share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from tests.support.answers import image
from tests.support.command_sites import SITES
from tests.support.service import running_app, snapapi_environment
from tests.support.small_web import Reply, Site, serving
from tests.support.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(image("png", 640, 360)) as upstream:
        yield upstream


@pytest.fixture
def web() -> Iterator[Site]:
    site = Site(lambda seen: SITES.get(seen.path, Reply(status=404)))
    with serving(site):
        yield site


@pytest.fixture
def settings(upstream: Upstream, web: Site, tmp_path: Path) -> dict[str, str]:
    return snapapi_environment(
        upstream.url,
        CACHE_DIR=str(tmp_path / "cache"),
        MEDIA_DIR=str(tmp_path / "media"),
        PRESETS="card:thumb_width=100,format=auto;hero:thumb_width=200",
        ALLOWED_PRIVATE_TARGETS=f"127.0.0.1:{web.server_address[1]}",
        LIMIT_THUMB="1 per hour",
    )


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    with running_app(settings) as app:
        yield app
