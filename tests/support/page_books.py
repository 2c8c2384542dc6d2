"""A book of pages whose time stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import text

from tests.support.clocks import NOON, Clock
from tests.support.processes import wait_until
from thumbnailer.database import Database
from thumbnailer.model import CaptureRequest
from thumbnailer.pages import Page, PageClaim, PageOrder, PageVersion
from thumbnailer.pages.ledger import PageLedger, PageRules
from thumbnailer.schema import upgrade
from thumbnailer.thumbnails import ThumbnailRequest

HOUR = 3600
TARGET = "https://page.example/"
LEASE_SECONDS = 60
MAX_PAGES = 10
CHANGED_BITS = 12

Describe = Callable[[Page], Mapping[str, Any]]


@dataclass
class Book:
    """A ledger whose clock stands still and whose chance is chosen."""

    ledger: PageLedger
    clock: Clock
    database: Database
    chosen: list[float]
    descriptions: list[Describe]

    def add(self, refresh_seconds: int = HOUR, webhook_url: str | None = None) -> Page:
        order = PageOrder(
            url=TARGET,
            options={},
            request=ThumbnailRequest(CaptureRequest(url=TARGET)),
            refresh_seconds=refresh_seconds,
            webhook_url=webhook_url,
        )
        return self.ledger.add(order, "owner")

    def begin(self, page: Page) -> PageClaim:
        """The next attempt, at the moment it is due."""
        self.clock.now = max(self.clock.now, self.find(page).due_at)
        claim = self.ledger.claim(page.id)
        assert claim is not None
        return claim

    def store(self, claim: PageClaim, version: PageVersion) -> None:
        """End an attempt well, as it goes: its object is expected, stored, and then had."""
        self.ledger.expect_object(version.object_key)
        self.ledger.succeed(claim, version)

    def find(self, page: Page) -> Page:
        found = self.ledger.find(page.id)
        assert found is not None
        return found

    def wait_for_one_who_waits(self) -> None:
        """Until a transaction waits for another; on SQLite it cannot even begin."""
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        if not self.database.is_sqlite:
            with self.database.reading() as connection:
                wait_until(lambda: bool(connection.execute(waiting).scalar_one()))

    def pause(self, page: Page) -> float:
        """Seconds until the next attempt."""
        return self.find(page).due_at - self.clock.now


@contextmanager
def opened(url: str) -> Iterator[Book]:
    clock, chosen = Clock(), [0.0]
    descriptions: list[Describe] = [_describe_briefly]
    rules = PageRules(
        max_pages=MAX_PAGES, kept_versions=2, changed_bits=CHANGED_BITS, lease_seconds=LEASE_SECONDS
    )

    def describe(page: Page) -> Mapping[str, Any]:
        return descriptions[-1](page)

    with closing(Database(url, upgrade=upgrade)) as database:
        ledger = PageLedger(database, rules, describe, clock=clock, jitter=lambda _least, _most: chosen[0])
        yield Book(ledger, clock, database, chosen, descriptions)


def _describe_briefly(page: Page) -> Mapping[str, Any]:
    return {"id": page.id}


def version(look: str, number: int, edition: int = 0) -> PageVersion:
    """A picture of that look, as it is stored: under a key of its own."""
    return PageVersion(
        id=f"ver_{number}",
        captured_at=NOON + number,
        object_key=f"pages/{number}.png",
        stored_url=f"/media/pages/{number}.png",
        content_type="image/png",
        size_bytes=100,
        sha256=look * 64,
        width=640,
        height=360,
        fingerprint="0" * 64,
        distance=None,
        edition=edition,
    )


def otherwise(page: Page, **changes: Any) -> PageOrder:
    """The same page, wanted another way."""
    return replace(page.order, request=ThumbnailRequest(CaptureRequest(url=TARGET, **changes)))
