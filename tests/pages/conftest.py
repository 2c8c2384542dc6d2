"""What the tests of kept pages share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.support import answers
from tests.support.kept_pages import SECRET, look
from tests.support.service import client_of, snapapi_environment
from tests.support.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(answers.content(look(1), "image/png")) as upstream:
        yield upstream


@pytest.fixture
def media(tmp_path: Path) -> Path:
    return tmp_path / "media"


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path, media: Path) -> Iterator[FlaskClient]:
    settings = snapapi_environment(
        upstream.url,
        DATABASE_URL=f"sqlite:///{tmp_path}/pages.sqlite3",
        MEDIA_DIR=str(media),
        RATELIMIT_ENABLED="false",
        WEBHOOK_SECRET=SECRET,
        PAGE_VERSIONS="2",
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
    )
    with client_of(settings) as client:
        yield client
