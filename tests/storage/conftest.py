"""What the tests of storages share."""

from __future__ import annotations

import pytest

from tests.support.s3 import forget_aws_settings
from tests.support.storages import RECORD, URL
from thumbnailer.storage import (
    DEFAULT_KEY_TEMPLATE,
    object_key,
)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_aws_settings(monkeypatch)


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """A key of this test's own."""
    return object_key(DEFAULT_KEY_TEMPLATE, capture_key=request.node.nodeid, record=RECORD, url=URL)
