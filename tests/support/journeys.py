"""What the tests of the trip ask for."""

from __future__ import annotations

from tests.support.trips import TARGET, Journey
from thumbnailer.model import CaptureRequest
from thumbnailer.terms import CacheStatus

REQUEST = CaptureRequest(url=TARGET)
HOUR = 3600


def statuses(trip: Journey, *requests: CaptureRequest) -> list[CacheStatus]:
    return [trip.pipeline.fetch(request, trip.terms()).cache_status for request in requests]
