"""One attempt at a new picture of a kept page, whatever it comes to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from tests.support.kept_pages import look
from tests.support.ledgers import Queue
from tests.support.page_books import Book, opened
from thumbnailer.errors import NotARealPicture, TargetStatus, UpstreamFailed
from thumbnailer.local_storage import LocalStorage
from thumbnailer.model import Capture, CaptureRecord
from thumbnailer.pages import Page, PageState
from thumbnailer.pages.refreshing import PageRunner
from thumbnailer.photographer import Photographer
from thumbnailer.terms import CacheStatus, Delivery
from thumbnailer.thumbnails import ThumbnailRequest


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with opened(f"sqlite:///{tmp_path}/pages.sqlite3") as book:
        yield book


class Album:
    """Brings pictures, one after the other, or fails."""

    def __init__(self, *found: Delivery | Exception) -> None:
        self._found = iter(found)
        self.max_ages: list[int] = []

    def take(self, _request: ThumbnailRequest, _account: str, max_age_seconds: int) -> Delivery:
        self.max_ages.append(max_age_seconds)
        found = next(self._found)
        if isinstance(found, Exception):
            raise found
        return found


def taken(
    body: bytes, status: CacheStatus = CacheStatus.MISS, trouble: UpstreamFailed | None = None
) -> Delivery:
    record = CaptureRecord(
        content_type="image/png",
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        width=640,
        height=360,
        captured_at=1_800_000_000.0,
        provider="album",
        upstream_seconds=0.1,
    )
    return Delivery(Capture.of_bytes(record, body), status, trouble)


def after_attempts(book: Book, folder: Path, page: Page, album: Album, queue: Queue) -> Page:
    """The page as it stands when each of the pictures has been asked for when it was due."""
    storage = LocalStorage(folder / "media", "/media")
    photographer = cast(Photographer, album)
    runner = PageRunner(ledger=book.ledger, photographer=photographer, storage=storage, queue=queue)
    for _ in range(2):
        book.clock.now = max(book.clock.now, book.find(page).due_at)
        runner.run(page.id)
    return book.find(page)


GOOD, OTHER = taken(look(1)), taken(look(2))


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (TargetStatus(404), TargetStatus),
        (ZeroDivisionError(), UpstreamFailed),
        (taken(look(2), CacheStatus.STALE, UpstreamFailed("It is down.")), UpstreamFailed),
        (taken(look(2), CacheStatus.STALE), NotARealPicture),
    ],
    ids=["the page", "a bug", "an old picture instead", "an old picture"],
)
def test_an_attempt_that_fails_leaves_the_last_good_picture_and_says_why(
    book: Book, tmp_path: Path, second: Delivery | Exception, error: type[Exception]
) -> None:
    found = after_attempts(book, tmp_path, book.add(), Album(GOOD, second), Queue())
    assert (found.state, found.failures, len(found.versions)) == (PageState.FAILED, 1, 1)
    assert found.error is not None
    assert found.error["class"] == error.__name__


def test_a_change_is_queued_at_once_and_a_picture_of_half_the_interval_will_do(
    book: Book, tmp_path: Path
) -> None:
    album, queue = Album(GOOD, OTHER), Queue()
    page = book.add(webhook_url="https://receiver.example/")
    found = after_attempts(book, tmp_path, page, album, queue)
    assert (len(found.versions), len(queue.deliveries)) == (2, 1)
    assert album.max_ages == [page.order.refresh_seconds // 2] * 2
