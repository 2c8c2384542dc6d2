"""The book of pages: which are kept photographed, and what came of it."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, and_, case, delete, func, insert, or_, select, update

from thumbnailer.database import MAX_LISTED, Database, Place, newest_first, take_turns
from thumbnailer.errors import Overloaded, ThumbnailerError
from thumbnailer.failures import describe
from thumbnailer.jobs.events import Event, write_message
from thumbnailer.jobs.order_keys import OrderKey, find_order, note_order
from thumbnailer.jobs.rows import new_id
from thumbnailer.pages import Page, PageClaim, PageOrder, PageState, PageVersion
from thumbnailer.pages.leftovers import expect_object, is_expected, let_go, outdate_versions
from thumbnailer.pages.pauses import pause_after_failure
from thumbnailer.pages.reading import find_page, read_pages, written_page
from thumbnailer.pages.rows import write_order
from thumbnailer.pages.tables import NEWEST_FIRST, outdated_objects, page_versions, pages

CHANGED_EVENT = "page.changed"

#: A pause is made longer or shorter by up to this part of itself, so that pages do not come in step.
JITTER = 0.1

#: Who finds no room for another page comes again after so many seconds.
FULL_PAUSE_SECONDS = 3600.0

#: Who changes a page while another does comes again after so many seconds.
CONFLICT_PAUSE_SECONDS = 1.0

#: An attempt that takes longer than its lease is a slow one; one that takes so many of them is dead.
EXPECTED_LEASES = 2


#: The advisory lock of who counts the pages before adding one; any number that nobody else uses.
KEEPING_LOCK = 7_206_534_119


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRules:
    """``max_pages`` bounds the pages of all callers; ``kept_versions`` the good pictures of each.

    Two versions that differ in fewer than ``changed_bits`` of 256 look alike; ``lease_seconds`` is how
    long one attempt may take.
    """

    max_pages: int
    kept_versions: int
    changed_bits: int
    lease_seconds: float


class PageLedger:
    """Reads and writes pages; safe to use from many threads and processes.

    ``describe_page`` makes what receivers of webhooks see. Its methods raise ``DatabaseUnavailable``.
    """

    def __init__(
        self,
        database: Database,
        rules: PageRules,
        describe_page: Callable[[Page], Mapping[str, Any]],
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.rules = rules
        self._database = database
        self._describe_page = describe_page
        self._clock = clock
        self._jitter = jitter

    def add(self, order: PageOrder, owner: str, key: OrderKey | None = None) -> Page:
        """Write a page down, due at once, or find the one that the same order with this ``key`` has brought.

        Raises Overloaded where there are too many, IdempotencyMismatch.
        """
        now, page_id = self._clock(), new_id("pag")
        with self._database.transaction() as connection:
            take_turns(connection, KEEPING_LOCK)
            known = find_order(connection, key, now)
            page = find_page(connection, known) if known else None
            if page is not None:
                return page
            self._refuse_overload(connection)
            note_order(connection, key, page_id, now)
            row = {
                "id": page_id,
                "owner": owner,
                "state": PageState.PENDING,
                "failures": 0,
                "due_at": now,
                "queued_at": now,
                "created_at": now,
                **write_order(order),
            }
            connection.execute(insert(pages).values(**row))
            return written_page(connection, page_id)

    def find(self, page_id: str) -> Page | None:
        """The page of that id."""
        with self._database.reading() as connection:
            return find_page(connection, page_id)

    def latest(self, owner: str, after: Place | None = None, most: int = MAX_LISTED) -> list[Page]:
        """An owner's pages, the newest first: ``most`` of those that come ``after`` a place."""
        mine = select(pages).where(pages.c.owner == owner)
        with self._database.reading() as connection:
            return read_pages(connection, newest_first(mine, pages, after, most))

    def amend(self, page: Page, order: PageOrder) -> Page | None:
        """Keep a page another way; None where it was forgotten meanwhile.

        Its pictures stay until there are new ones, and the first of those is begun at once: or when the
        attempt that is being made has ended, which brings what nobody wants any more.

        Raises Overloaded where somebody else has changed ``page`` since it was read.
        """
        now = self._clock()
        with self._database.transaction() as connection:
            stored = find_page(connection, page.id, is_locked=True)
            if stored is None:
                return None
            if stored.order != page.order:
                message = "Another request is changing this page at this moment. Please try again."
                raise Overloaded(message, retry_after_seconds=CONFLICT_PAUSE_SECONDS)
            is_under_way = pages.c.claim.is_not(None)
            changed: dict[str, Any] = {
                "due_at": case((is_under_way, pages.c.due_at), else_=now),
                "queued_at": now,
                "failures": 0,
            }
            if _picture_of(order) != _picture_of(stored.order):
                changed |= {"edition": stored.edition + 1, "state": PageState.PENDING, "error": None}
            amended = update(pages).where(pages.c.id == page.id)
            connection.execute(amended.values(**write_order(order), **changed))
            return written_page(connection, page.id)

    def remove(self, page_id: str) -> None:
        """Forget a page; its pictures are taken out of the storage soon."""
        versions = select(page_versions.c.id).where(page_versions.c.page_id == page_id)
        with self._database.transaction() as connection:
            # Who ends an attempt has the page's row as well, so that no version comes in between.
            find_page(connection, page_id, is_locked=True)
            outdate_versions(connection, versions, self._clock())
            connection.execute(delete(pages).where(pages.c.id == page_id))

    def claim(self, page_id: str) -> PageClaim | None:
        """Begin an attempt; None where none is due, or another makes it.

        The first is due at once: the page may come from a machine whose clock is a little ahead.
        """
        now, token = self._clock(), secrets.token_urlsafe(16)
        is_first = and_(pages.c.state == PageState.PENDING, pages.c.claim.is_(None))
        with self._database.transaction() as connection:
            claimed = connection.execute(
                update(pages)
                .where(pages.c.id == page_id, or_(pages.c.due_at <= now, is_first))
                .values(claim=token, due_at=now + self.rules.lease_seconds)
            )
            return PageClaim(written_page(connection, page_id), token) if claimed.rowcount == 1 else None

    def expect_object(self, object_key: str) -> None:
        """Write down that an attempt is about to store an object: outdated in time, unless it succeeds."""
        since = self._clock() + EXPECTED_LEASES * self.rules.lease_seconds
        with self._database.transaction() as connection:
            expect_object(connection, object_key, since)

    def succeed(self, claim: PageClaim, version: PageVersion) -> tuple[str, ...]:
        """Write down how an attempt went well; the ids of the messages that this sets off.

        A version that is there already is as good as new. Where the page was forgotten, or is wanted
        another way meanwhile, nobody needs the picture.
        """
        now, is_new = self._clock(), version.id not in {each.id for each in claim.page.versions}
        with self._database.transaction() as connection:
            is_there = not is_new or is_expected(connection, version.object_key, now)
            page = self._end_attempt(connection, claim, is_usable=is_there)
            if page is None:
                let_go(connection, {version.object_key}, now)
                return ()
            values = {"state": PageState.READY, "failures": 0, "error": None, "refreshed_at": now}
            self._plan(connection, page, page.order.refresh_seconds, values)
            if not is_new:
                same = update(page_versions).where(page_versions.c.id == version.id)
                renewed = {"captured_at": version.captured_at, "edition": version.edition}
                connection.execute(same.values(**renewed))
                return ()
            _insert_version(connection, page.id, version)
            let_go(connection, {version.object_key}, now)
            self._forget_old_versions(connection, page.id)
            return self._announce(connection, page.id, version, now)

    def fail(self, claim: PageClaim, error: ThumbnailerError) -> None:
        """Write down why an attempt failed; the next one comes later each time."""
        with self._database.transaction() as connection:
            page = self._end_attempt(connection, claim)
            if page is None:
                return
            values = {"state": PageState.FAILED, "failures": page.failures + 1, "error": describe(error)}
            self._plan(connection, page, pause_after_failure(page, error), values)

    def outdated(self, limit: int) -> list[str]:
        """Objects that the storage may let go of; any of them, lest one that it keeps hold up the rest."""
        due = select(outdated_objects.c.object_key).where(outdated_objects.c.since <= self._clock())
        with self._database.reading() as connection:
            return list(connection.execute(due.order_by(func.random()).limit(limit)).scalars())

    def forget_object(self, object_key: str) -> None:
        """The storage has let go of it."""
        with self._database.transaction() as connection:
            connection.execute(delete(outdated_objects).where(outdated_objects.c.object_key == object_key))

    def _refuse_overload(self, connection: Connection) -> None:
        if connection.execute(select(func.count()).select_from(pages)).scalar_one() >= self.rules.max_pages:
            raise Overloaded(
                "This service keeps as many pages as it may (PAGE_LIMIT).",
                retry_after_seconds=FULL_PAUSE_SECONDS,
            )

    def _end_attempt(
        self, connection: Connection, claim: PageClaim, *, is_usable: bool = True
    ) -> Page | None:
        """The page as it is wanted now; None where what came is of no use to anybody.

        Where it is wanted another way by now, or what came ``is_usable`` no more, the next attempt is due.
        """
        mine = update(pages).where(pages.c.id == claim.page.id, pages.c.claim == claim.token)
        if connection.execute(mine.values(claim=None)).rowcount != 1:
            return None
        page = written_page(connection, claim.page.id)
        if is_usable and page.edition == claim.page.edition:
            return page
        again = update(pages).where(pages.c.id == page.id)
        connection.execute(again.values(due_at=self._clock(), queued_at=None))
        return None

    def _plan(
        self, connection: Connection, page: Page, pause_seconds: float, values: Mapping[str, Any]
    ) -> None:
        """Make the next attempt due after about ``pause_seconds``."""
        jittered = pause_seconds * (1 + self._jitter(-JITTER, JITTER))
        planned = update(pages).where(pages.c.id == page.id)
        connection.execute(planned.values(due_at=self._clock() + jittered, **values))

    def _forget_old_versions(self, connection: Connection, page_id: str) -> None:
        kept = (
            select(page_versions.c.id)
            .where(page_versions.c.page_id == page_id)
            .order_by(*NEWEST_FIRST)
            .limit(self.rules.kept_versions)
        )
        kept_ids = connection.execute(kept).scalars().all()
        old = select(page_versions.c.id).where(
            page_versions.c.page_id == page_id, page_versions.c.id.not_in(kept_ids)
        )
        outdate_versions(connection, old, self._clock())

    def _announce(
        self, connection: Connection, page_id: str, version: PageVersion, now: float
    ) -> tuple[str, ...]:
        page = written_page(connection, page_id)
        has_changed = version.distance is not None and version.distance >= self.rules.changed_bits
        if not has_changed or page.order.webhook_url is None:
            return ()
        event = Event(CHANGED_EVENT, page.owner, page.id, self._describe_page(page))
        return (write_message(connection, event, page.order.webhook_url, now),)


def _picture_of(order: PageOrder) -> str | None:
    """What tells the picture that is wanted from every other."""
    return order.request.key if order.request else None


def _insert_version(connection: Connection, page_id: str, version: PageVersion) -> None:
    """Write a version down as the newest, whenever its picture was taken."""
    newest = select(func.coalesce(func.max(page_versions.c.number), 0))
    number = newest.where(page_versions.c.page_id == page_id).scalar_subquery() + 1
    values = {"page_id": page_id, "number": number, **asdict(version)}
    connection.execute(insert(page_versions).values(**values))
