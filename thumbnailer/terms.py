"""What a caller of the trip asks for besides a picture, and what they get."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum, auto

from thumbnailer.errors import ThumbnailerError
from thumbnailer.flights import is_alone
from thumbnailer.model import Capture, Deadline
from thumbnailer.telemetry import Timings


class StaleUse(Enum):
    """When a caller takes a capture that is older than they wished."""

    AT_ONCE = auto()
    WHERE_A_NEW_ONE_FAILS = auto()


class CacheStatus(StrEnum):
    """How an answer came about."""

    HIT = "hit"
    STALE = "stale"
    MISS = "miss"
    COLLAPSED = "collapsed"


def waits_elsewhere() -> None:
    """No request's thread waits for this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What one caller gets.

    ``max_age_seconds`` is the oldest capture they accept; ``admit`` is called once before a capture
    is taken on their account, and raises ``CallerLimited`` where they may not; ``line_up`` before
    anything that they may have to wait for, perhaps several times, and raises ``Overloaded`` where too
    many wait already. ``has_company`` says whether others wait for what becomes of this request without
    having come here yet. ``recapture`` asks for a capture newer than this request. ``stale_use`` says
    when one that is too old will do.
    """

    max_age_seconds: int
    deadline: Deadline
    admit: Callable[[], None]
    timings: Timings
    line_up: Callable[[], None] = waits_elsewhere
    has_company: Callable[[], bool] = is_alone
    recapture: bool = False
    stale_use: StaleUse = StaleUse.AT_ONCE


@dataclass(frozen=True, slots=True)
class Delivery:
    """A whole capture and how it came about.

    ``trouble`` is why a stale one could not be replaced; ``is_kept`` says whether the cache has it.
    ``was_purged`` says that the page was purged while the capture was taken: it is for those who waited for
    it, and nobody may keep it.
    """

    capture: Capture
    cache_status: CacheStatus
    trouble: ThumbnailerError | None = None
    is_kept: bool = True
    was_purged: bool = False
