"""Storing a delivered picture for good."""

from __future__ import annotations

from dataclasses import dataclass

from thumbnailer.errors import CallerLimited, CaptureLost, NotARealPicture, Overloaded
from thumbnailer.storage import Storage, StoredImage, object_key
from thumbnailer.terms import CacheStatus, Delivery
from thumbnailer.thumbnails import ThumbnailRequest


@dataclass(frozen=True, slots=True)
class Kept:
    """A stored image, and whether this very picture was stored before."""

    image: StoredImage
    was_there: bool


def keep(storage: Storage, key_template: str, request: ThumbnailRequest, delivery: Delivery) -> Kept:
    """Write a picture unless it is there; ``key_template`` has passed ``check_key_template``.

    Raises:
        NotARealPicture, CallerLimited, Overloaded, CaptureLost: as ``refuse_old`` does.
        StorageUnavailable: it could not be stored.
    """
    refuse_old(delivery)
    record = delivery.capture.record
    key = object_key(key_template, capture_key=request.key, record=record, url=request.capture.url)
    stored = storage.find(key)
    if stored is not None:
        return Kept(stored, was_there=True)
    return Kept(storage.write(key, delivery.capture.body(), record), was_there=False)


def refuse_old(delivery: Delivery) -> None:
    """Refuse to store what is no picture of today.

    Raises:
        NotARealPicture: it is an old one, because a new one could not be taken.
        CallerLimited, Overloaded: likewise, and this is why.
        CaptureLost: the page was purged while the picture was taken.
    """
    if isinstance(delivery.trouble, CallerLimited | Overloaded):
        raise delivery.trouble
    if delivery.was_purged:
        raise CaptureLost("The page was purged while its picture was taken; please ask again.")
    if delivery.cache_status is CacheStatus.STALE:
        raise NotARealPicture from delivery.trouble
