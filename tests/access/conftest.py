"""What the tests of access share: an application with signing keys and public targets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.access import folder_environment
from tests.support.service import running_app
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return folder_environment(
        upstream.url,
        tmp_path,
        RATELIMIT_ENABLED="false",
        SIGNING_KEYS=SIGNING_KEYS,
        PUBLIC_TARGETS="public.example.com,*.sites.example.com,93.184.216.35",
    )


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    with running_app(settings) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()
