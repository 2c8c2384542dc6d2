"""Pages find their way into the queue: once when due, again when lost, and whatever the clock does."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest

from settings.values import database_url_of
from tests.support.page_books import HOUR, LEASE_SECONDS, Book, opened, version
from tests.support.processes import wait_until
from thumbnailer.errors import StorageUnavailable
from thumbnailer.jobs.events import Announcer
from thumbnailer.jobs.ledger import JobLedger
from thumbnailer.jobs.sweeping import Sweeper, SweepRules
from thumbnailer.jobs.unqueued import Unqueued
from thumbnailer.pages.refreshing import PageRunner
from thumbnailer.storage import Storage

DAY = 24 * HOUR


class Queue:
    """Takes note of what is put into it, and is never empty."""

    def __init__(self) -> None:
        self.pages: list[str] = []

    def put_job(self, job_id: str) -> None: ...

    def put_delivery(self, delivery_id: str) -> None: ...

    def put_page(self, page_id: str) -> None:
        self.pages.append(page_id)

    def is_empty(self) -> bool:
        return False


@pytest.fixture(params=["sqlite", "postgresql"])
def book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Book]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/pages.sqlite3" if is_sqlite else request.getfixturevalue("postgres_url")
    with opened(database_url_of(url)) as book:
        yield book


def sweeper_of(book: Book, queue: Queue) -> Sweeper:
    """A process that sweeps; each has its own."""
    jobs = JobLedger(
        book.database,
        max_pending=1,
        max_attempts=1,
        lease_seconds=LEASE_SECONDS,
        announce=Announcer(lambda _job: {}, lambda _batch: {}),
        clock=book.clock,
    )
    rules = SweepRules(max_attempts=1, retention_seconds=HOUR, lease_seconds=LEASE_SECONDS)
    return Sweeper(book.database, jobs, queue, Unqueued(book.database, {}), rules, book.clock)


def test_a_page_is_queued_once_however_many_sweep_at_once(book: Book) -> None:
    queue, page = Queue(), book.add()
    book.store(book.begin(page), version("a", 1))
    sweepers = [sweeper_of(book, queue) for _ in range(4)]
    book.clock.now = book.find(page).due_at
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(Sweeper.sweep, sweepers * 2))
    assert queue.pages == [page.id]


def test_a_page_whose_worker_was_killed_is_queued_again(book: Book) -> None:
    queue, page = Queue(), book.add()
    sweeper = sweeper_of(book, queue)
    assert sweeper.has_work(), "whoever starts anew goes on with it"
    book.begin(page)
    book.clock.now += LEASE_SECONDS - 1
    sweeper.sweep()
    assert queue.pages == []
    book.clock.now += 1
    sweeper.sweep()
    assert queue.pages == [page.id]
    assert book.ledger.claim(page.id) is not None


@pytest.mark.parametrize("is_new", [True, False], ids=["while nobody ran", "while it runs"])
def test_a_page_does_not_wait_for_a_time_that_the_clock_was_set_back_from(book: Book, is_new: bool) -> None:
    queue, page = Queue(), book.add()
    book.clock.now += DAY
    sweeper = sweeper_of(book, queue)
    sweeper.sweep()
    book.store(book.begin(page), version("a", 1))
    queue.pages.clear()
    book.clock.now -= DAY
    (sweeper_of(book, queue) if is_new else sweeper).sweep()
    assert queue.pages == [page.id]
    book.store(book.begin(page), version("b", 2))
    assert book.pause(page) == pytest.approx(HOUR)
    assert [each.id for each in book.find(page).versions] == ["ver_2", "ver_1"]


def test_a_clock_that_is_set_back_begins_no_second_attempt_but_of_what_died(book: Book) -> None:
    queue, page = Queue(), book.add()
    sweeper = sweeper_of(book, queue)
    book.clock.now += DAY
    sweeper.sweep()
    claim = book.begin(page)
    queue.pages.clear()
    book.clock.now -= DAY
    sweeper.sweep()
    assert book.ledger.claim(page.id) is None
    book.clock.now += LEASE_SECONDS
    sweeper.sweep()
    assert queue.pages == [page.id]
    again = book.begin(page)
    book.store(claim, version("a", 1))
    assert book.find(page).versions == []
    book.store(again, version("b", 2))
    assert [each.id for each in book.find(page).versions] == ["ver_2"]


class Reluctant:
    """A storage that never lets go of one object."""

    def __init__(self, kept: str) -> None:
        self.kept = kept

    def remove(self, key: str) -> None:
        if key == self.kept:
            raise StorageUnavailable("locked")


def test_an_object_that_the_storage_keeps_holds_up_no_other(book: Book) -> None:
    keys = [f"pages/{number}.png" for number in range(8)]
    for key in keys:
        book.ledger.expect_object(key)
    book.clock.now += DAY
    nobody: Any = None
    runner = PageRunner(
        ledger=book.ledger, photographer=nobody, storage=cast(Storage, Reluctant(keys[0])), queue=nobody
    )

    def is_tidy() -> bool:
        runner.tidy()
        return book.ledger.outdated(10) == keys[:1]

    wait_until(is_tidy)
