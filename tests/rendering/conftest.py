"""What the tests of rendering share."""

from __future__ import annotations

import pytest

from tests.support.renderings import LIMITS
from tests.support.screenshots import encoded, page_picture
from thumbnailer.rendering import Renderer


@pytest.fixture
def renderer() -> Renderer:
    return Renderer(LIMITS, concurrency=2)


@pytest.fixture(scope="module")
def page() -> bytes:
    return encoded(page_picture(), "png")
