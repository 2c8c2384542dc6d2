"""A pipeline whose provider does as it is told and whose clock stands still."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from tests.support.clocks import Clock
from tests.support.pictures import picture
from tests.support.stores import flask_cache
from thumbnailer.backend import ResilientBackend
from thumbnailer.blanks import Blanks
from thumbnailer.breakers import Breakers
from thumbnailer.bulkhead import Bulkhead
from thumbnailer.cache import CaptureCache
from thumbnailer.catalogue import Catalogue
from thumbnailer.circuits import LocalCircuits
from thumbnailer.errors import ThumbnailerError
from thumbnailer.explaining import Explainer
from thumbnailer.failures import FailureBoard
from thumbnailer.file_cache import FolderCache
from thumbnailer.flights import Flights
from thumbnailer.guard import Guard
from thumbnailer.imaging import PictureLimits
from thumbnailer.locks import FileLocks
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.picture_cache import PictureCache
from thumbnailer.pipeline import Pipeline
from thumbnailer.providers import WholeBody
from thumbnailer.providers.fallback import Failover
from thumbnailer.purges import Purges
from thumbnailer.purging import Purger
from thumbnailer.refreshing import Refresher
from thumbnailer.setbacks import Setbacks
from thumbnailer.telemetry import Timings
from thumbnailer.terms import Terms

TARGET = "http://93.184.216.34/page"


class ScriptedProvider:
    """Takes pictures of noise: each has another width, so that they can be told apart."""

    name = "scripted"

    def __init__(self) -> None:
        self.calls = 0
        self.fails_with: ThumbnailerError | None = None
        self.body: bytes | None = None
        self.may_finish = threading.Event()
        self.may_finish.set()

    def unsupported_option(self, request: CaptureRequest) -> str | None:
        return "selector" if request.selector and "selector" in request.asked else None

    def capture(self, request: CaptureRequest, deadline: Deadline) -> WholeBody:
        self.calls += 1
        number = self.calls
        assert self.may_finish.wait(20)
        if self.fails_with is not None:
            raise self.fails_with
        return WholeBody(self.body or picture("png", 100 + number, 100))

    def is_ready(self) -> bool:
        return True

    def close(self) -> None:
        pass


@dataclass
class Journey:
    """Everything around one pipeline."""

    pipeline: Pipeline
    provider: ScriptedProvider
    clock: Clock
    refresher: Refresher
    purges: Purges
    purger: Purger
    explainer: Explainer
    breakers: Breakers
    setbacks: Setbacks
    charged: list[str] = field(default_factory=list)

    def terms(
        self, *, max_age_seconds: int = 3600, admit: Callable[[], None] | None = None, recapture: bool = False
    ) -> Terms:
        return Terms(
            max_age_seconds=max_age_seconds,
            deadline=Deadline.after(30),
            admit=admit or (lambda: self.charged.append("capture")),
            timings=Timings(),
            recapture=recapture,
        )


def journey(folder: Path, *, forgets: bool = False) -> Journey:
    """A pipeline over a cache in memory; or, where it ``forgets`` by the journey's clock, in files."""
    provider, clock = ScriptedProvider(), Clock()
    memory = flask_cache(CACHE_TYPE="thumbnailer.memory_cache.MemoryCache")
    files = FolderCache(folder / "cache", clock=clock)
    backend = ResilientBackend(files if forgets else memory)
    cache = CaptureCache(backend, clock=clock)
    refresher, locks = Refresher(workers=2, backlog=10, clock=clock), FileLocks(folder / "locks")
    purges = Purges(backend, locks, horizon_seconds=31 * 86_400, clock=clock)
    pictures, setbacks = PictureCache(cache, purges), Setbacks(backend, purges, clock=clock)
    breakers = Breakers(LocalCircuits(), clock=clock)
    failover = Failover([provider], attempts=1, breakers=breakers)
    pipeline = Pipeline(
        guard=Guard(),
        failover=failover,
        pictures=pictures,
        flights=Flights(locks, FailureBoard(backend)),
        setbacks=setbacks,
        refresher=refresher,
        bulkhead=Bulkhead(in_flight=4, waiting=4, fair_seconds=15),
        limits=PictureLimits(),
        blanks=Blanks(),
        retention_seconds=30 * 86_400,
        refresh_seconds=30,
        clock=clock,
    )
    catalogue = files if forgets else cast(Catalogue, memory.cache)
    purger = Purger(purges, catalogue, cache, clock=clock)
    explainer = Explainer(failover=failover, pictures=pictures, setbacks=setbacks, purges=purges, clock=clock)
    return Journey(pipeline, provider, clock, refresher, purges, purger, explainer, breakers, setbacks)
