"""What the tests of the waiting list share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.answers import image
from tests.support.gates import Gate
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def gate(upstream: Upstream) -> Iterator[Gate]:
    gate = Gate(image())
    upstream.behave(gate)
    yield gate
    gate.is_open = True
