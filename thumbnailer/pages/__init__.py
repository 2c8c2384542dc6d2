"""Pages that are kept photographed: what a page and its versions are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from thumbnailer.thumbnails import ThumbnailRequest


class PageState(StrEnum):
    """Whether there is a picture, and whether the last attempt at a new one went well."""

    PENDING = "pending"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PageOrder:
    """What a caller wants kept.

    ``options`` are the caller's own words, ``request`` what they come to; None where a newer version of this
    service has written what this one does not know. ``url`` is the target as the
    caller wrote it; a new picture is taken every ``refresh_seconds``; ``webhook_url`` is told when the
    page looks different.
    """

    url: str
    options: Mapping[str, Any]
    request: ThumbnailRequest | None
    refresh_seconds: int
    webhook_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PageVersion:
    """One stored picture of a page.

    ``captured_at`` is Unix time in seconds; ``fingerprint`` is what tells whether two look alike;
    ``distance`` is how far it is from the version before, None for the first of its ``edition``.
    """

    id: str
    captured_at: float
    object_key: str
    stored_url: str
    content_type: str
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    fingerprint: str
    distance: int | None
    edition: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page as it is written down; ``versions`` are its good pictures, the newest first.

    Times are Unix time in seconds; ``error`` is why the last attempt failed, as
    ``thumbnailer.failures.describe`` puts it; ``failures`` counts the failed attempts in a row,
    ``edition`` how often another picture than before was wanted.
    """

    id: str
    owner: str
    order: PageOrder
    state: PageState
    failures: int
    created_at: float
    refreshed_at: float | None
    due_at: float
    error: Mapping[str, Any] | None
    edition: int
    versions: Sequence[PageVersion]

    @property
    def current(self) -> PageVersion | None:
        """The newest good picture, if it was taken the way that is wanted now."""
        newest = next(iter(self.versions), None)
        return newest if newest and newest.edition == self.edition else None


@dataclass(frozen=True, slots=True)
class PageClaim:
    """The right to photograph a page, for a while; ``token`` proves it."""

    page: Page
    token: str
