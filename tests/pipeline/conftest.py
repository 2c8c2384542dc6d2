"""What the tests of the trip share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.trips import Journey, journey


@pytest.fixture
def trip(tmp_path: Path) -> Iterator[Journey]:
    trip = journey(tmp_path)
    yield trip
    trip.provider.may_finish.set()
    trip.refresher.close()
