"""Fixtures that more than one room needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.processes import running_redis


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real Redis for the whole test session; tests keep apart by their key prefixes."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url
