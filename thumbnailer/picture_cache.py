"""Captures and renditions in the cache, except for those that have been purged."""

from __future__ import annotations

import time
from dataclasses import dataclass

from thumbnailer.cache import CaptureCache, Filling
from thumbnailer.errors import CaptureLost
from thumbnailer.model import Capture, CaptureRecord
from thumbnailer.purges import Purges
from thumbnailer.sites import PictureKey, Site


@dataclass(frozen=True, slots=True)
class Boarding:
    """Where the taker of a picture stands: ``epoch`` is when the page had last been purged by then."""

    key: PictureKey
    epoch: float

    @property
    def flight_key(self) -> str:
        """Who comes after a purge does not wait for a picture that was begun before."""
        return f"{self.key.name}@{self.epoch}" if self.epoch else self.key.name


class PictureCache:
    """The cache as the trip sees it: what was purged is not there, and does not come in any more.

    A picture that is under way when a purge comes shows the page as it was before. Whoever takes one
    boards first; by that, and not by clocks alone, ``confirm`` sees what came between.
    """

    def __init__(self, cache: CaptureCache, purges: Purges) -> None:
        self._cache = cache
        self._purges = purges

    def load(self, key: PictureKey) -> Capture | None:
        """The picture, None unless all of it is there and none of it purged."""
        capture = self._cache.load(key.address)
        return None if capture is None or self.is_purged(key.site, capture.record) else capture

    def is_purged(self, site: Site, record: CaptureRecord) -> bool:
        """Whether a picture that was loaded before has been purged since."""
        return self._purges.covers(site, record)

    def prolong(self, key: PictureKey, *, retention_seconds: int) -> None:
        """Keep what is under ``key`` for so long from now on; see ``CaptureCache.prolong``."""
        self._cache.prolong(key.address, retention_seconds=retention_seconds)
        record = self._cache.record_of(key.address)
        if record and self.is_purged(key.site, record):
            self._cache.forget(key.address)

    def board(self, key: PictureKey, *, since: float | None = None) -> Boarding:
        """What to begin the taking of a picture with.

        Asks the backend for purges, unless somebody has ``since`` a moment on the monotonic clock.
        """
        return Boarding(key, self._purges.newest(key.site, since=_or_now(since)))

    def store(
        self, boarding: Boarding, picture: Capture, *, retention_seconds: int, since: float | None = None
    ) -> bool:
        """Keep a picture, unless the page was purged since ``boarding``; whether the cache has it now.

        What was asked of purges ``since`` a moment on the monotonic clock will do before it is stored.
        Raises what ``picture.chunks()`` raises.
        """
        if not self.is_wanted(boarding, picture.record, since=since):
            return False
        is_kept = self._cache.store(boarding.key.address, picture, retention_seconds=retention_seconds)
        return self.confirm(boarding, picture.record) and is_kept

    def filling(self, boarding: Boarding, *, retention_seconds: int) -> PictureFilling:
        """Begin to keep a picture whose bytes are still arriving."""
        filling = self._cache.filling(boarding.key.address, retention_seconds=retention_seconds)
        return PictureFilling(self, boarding, filling)

    def is_wanted(self, boarding: Boarding, record: CaptureRecord, *, since: float | None = None) -> bool:
        """Whether the page has not been purged since ``boarding``; asks the backend as ``board`` does."""
        site = boarding.key.site
        newest = self._purges.newest(site, since=_or_now(since))
        return newest <= boarding.epoch and not self._purges.covers(site, record)

    def confirm(self, boarding: Boarding, record: CaptureRecord) -> bool:
        """Whether a picture that has just been stored may stay; it goes where the page was purged meanwhile.

        A purge either has left its mark by now, or comes later and finds the picture.
        """
        if self.is_wanted(boarding, record):
            return True
        self._cache.forget(boarding.key.address)
        return False


def _or_now(since: float | None) -> float:
    return time.monotonic() if since is None else since


class PictureFilling:
    """A picture on its way into the cache, as a ``Filling`` is."""

    def __init__(self, pictures: PictureCache, boarding: Boarding, filling: Filling) -> None:
        self._pictures = pictures
        self._boarding = boarding
        self._filling = filling
        self.add = filling.add
        self.abort = filling.abort

    def commit(self, record: CaptureRecord) -> None:
        """Make the picture visible, where the cache can keep it.

        Raises:
            CaptureLost: the page was purged meanwhile. The answer under way says that it may be kept.
        """
        if self._pictures.is_wanted(self._boarding, record):
            self._filling.commit(record)
            if self._pictures.confirm(self._boarding, record):
                return
        self._filling.abort()
        raise CaptureLost("The page was purged while its picture was taken; please ask again.")
