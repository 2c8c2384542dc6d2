"""When a page is photographed again after an attempt that failed."""

from __future__ import annotations

from thumbnailer.errors import (
    CallerLimited,
    CaptureLost,
    DatabaseUnavailable,
    Overloaded,
    StorageUnavailable,
    ThumbnailerError,
)
from thumbnailer.pages import Page

#: The longest pause after failures, in seconds: a week. A page whose own pause is longer keeps it.
LONGEST_PAUSE_SECONDS = 604_800

#: The first pause where another attempt is worth it soon, in seconds.
SHORT_PAUSE_SECONDS = 60

#: What says nothing about the page, nor about who photographs it.
OUR_TROUBLES = (CallerLimited, CaptureLost, DatabaseUnavailable, Overloaded, StorageUnavailable)


def pause_after_failure(page: Page, error: ThumbnailerError) -> float:
    """Seconds until the next attempt, twice as many each time.

    It begins with twice the page's interval; with a minute where there is no picture yet that is
    wanted now, or where ``error`` is this service's own trouble.
    """
    interval, growth = page.order.refresh_seconds, float(2 ** min(page.failures, 30))
    pause = max(interval, min(LONGEST_PAUSE_SECONDS, 2 * interval * growth))
    if page.current is None or isinstance(error, OUR_TROUBLES):
        return min(pause, SHORT_PAUSE_SECONDS * growth)
    return pause
