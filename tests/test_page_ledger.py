"""When pages are photographed: out of step, never twice at once, later after failures; and what is kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from settings.values import database_url_of
from tests.support.clocks import NOON
from tests.support.page_books import (
    CHANGED_BITS,
    HOUR,
    LEASE_SECONDS,
    MAX_PAGES,
    Book,
    opened,
    otherwise,
    version,
)
from tests.support.query_plans import looks_at_every_row, plans_of
from thumbnailer.errors import Overloaded, StorageUnavailable, UpstreamFailed
from thumbnailer.jobs.tables import deliveries
from thumbnailer.pages import Page, PageState
from thumbnailer.pages.ledger import JITTER
from thumbnailer.pages.pauses import LONGEST_PAUSE_SECONDS


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with opened(f"sqlite:///{tmp_path}/pages.sqlite3") as book:
        yield book


@pytest.fixture(params=["sqlite", "postgresql"])
def any_book(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Book]:
    """The same in either kind of database."""
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path}/pages.sqlite3" if is_sqlite else request.getfixturevalue("postgres_url")
    with opened(database_url_of(url)) as book:
        yield book


@pytest.mark.parametrize("chosen", [-JITTER, 0.0, JITTER])
def test_the_next_picture_comes_an_interval_later_more_or_less(book: Book, chosen: float) -> None:
    book.chosen[0] = chosen
    page = book.add()
    book.store(book.begin(page), version("a", 1))
    assert book.pause(page) == pytest.approx(HOUR * (1 + chosen))


def test_a_page_that_fails_waits_longer_each_time_and_no_longer_once_it_works(book: Book) -> None:
    page, pauses = book.add(), []
    book.store(book.begin(page), version("a", 1))
    for _ in range(10):
        book.ledger.fail(book.begin(page), UpstreamFailed("down"))
        pauses.append(book.pause(page))
    doubled = [min(LONGEST_PAUSE_SECONDS, HOUR * 2**failures) for failures in range(1, 11)]
    assert pauses == pytest.approx(doubled)
    assert book.find(page).failures == 10
    assert book.find(page).error is not None
    book.store(book.begin(page), version("a", 2))
    assert book.pause(page) == pytest.approx(HOUR)
    assert (book.find(page).failures, book.find(page).error) == (0, None)


def test_a_picture_that_is_not_there_yet_is_tried_again_sooner_and_then_later_each_time(book: Book) -> None:
    page, pauses = book.add(), []
    for _ in range(12):
        book.ledger.fail(book.begin(page), UpstreamFailed("down"))
        pauses.append(book.pause(page))
    assert pauses == pytest.approx([60 * 2**failures for failures in range(12)])
    book.clock.now = book.find(page).due_at
    for _ in range(3):
        book.ledger.fail(book.begin(page), UpstreamFailed("down"))
    assert book.pause(page) == pytest.approx(LONGEST_PAUSE_SECONDS)
    book.ledger.amend(page, otherwise(page, width=900))
    assert book.find(page).error is None, "it is of no attempt at what is wanted now"
    book.ledger.fail(book.begin(page), UpstreamFailed("down"))
    assert book.pause(page) == pytest.approx(60), "of what is wanted now there was one attempt"


def test_trouble_of_the_service_itself_does_not_cost_a_page_its_turn(book: Book) -> None:
    page = book.add()
    book.store(book.begin(page), version("a", 1))
    for pause in (60, 120):
        book.ledger.fail(book.begin(page), StorageUnavailable("down"))
        assert book.pause(page) == pytest.approx(pause)


def test_an_interval_beyond_the_longest_pause_is_kept(book: Book) -> None:
    page = book.add(refresh_seconds=2 * LONGEST_PAUSE_SECONDS)
    book.store(book.begin(page), version("a", 1))
    book.ledger.fail(book.begin(page), UpstreamFailed("down"))
    assert book.pause(page) == pytest.approx(2 * LONGEST_PAUSE_SECONDS)


def test_the_first_picture_waits_for_no_clock(book: Book) -> None:
    page = book.add()
    book.clock.now -= 5
    claim = book.ledger.claim(page.id)
    assert claim is not None
    assert book.ledger.claim(page.id) is None
    book.store(claim, version("a", 1))
    assert book.ledger.claim(page.id) is None


def test_of_many_who_begin_at_once_one_does(book: Book) -> None:
    page = book.add()
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _number: book.ledger.claim(page.id), range(16)))
    assert sum(claim is not None for claim in claims) == 1


def test_an_attempt_that_died_is_made_again_and_what_it_brings_late_is_not_counted(book: Book) -> None:
    page = book.add()
    dead = book.begin(page)
    book.clock.now += LEASE_SECONDS - 1
    assert book.ledger.claim(page.id) is None
    book.clock.now += 1
    second = book.ledger.claim(page.id)
    assert second is not None
    book.ledger.fail(dead, UpstreamFailed("late"))
    assert book.find(page).failures == 0
    book.store(second, version("a", 1))
    assert [each.id for each in book.find(page).versions] == ["ver_1"]


def test_old_versions_go_and_a_picture_that_comes_again_is_a_new_one(book: Book) -> None:
    page = book.add()
    for number, look in enumerate("abca"):
        book.store(book.begin(page), version(look, number))
    assert [each.object_key for each in book.find(page).versions] == ["pages/3.png", "pages/2.png"]
    assert sorted(book.ledger.outdated(10)) == ["pages/0.png", "pages/1.png"]


def test_the_newest_version_is_renewed_where_nothing_has_changed(book: Book) -> None:
    page = book.add()
    book.store(book.begin(page), version("a", 1))
    claim = book.begin(page)
    assert book.ledger.succeed(claim, replace(claim.page.versions[0], captured_at=NOON + 9)) == ()
    assert [(each.id, each.captured_at) for each in book.find(page).versions] == [("ver_1", NOON + 9)]
    assert book.pause(page) == pytest.approx(HOUR)
    assert book.ledger.outdated(10) == []


def test_a_picture_for_a_page_that_was_forgotten_meanwhile_is_taken_away(book: Book) -> None:
    page = book.add()
    claim = book.begin(page)
    book.ledger.remove(page.id)
    book.store(claim, version("a", 1))
    assert book.ledger.outdated(10) == ["pages/1.png"]


def test_what_an_attempt_stored_that_died_is_taken_away_in_time(book: Book) -> None:
    page = book.add()
    book.begin(page)
    book.ledger.expect_object("pages/1.png")
    book.clock.now += LEASE_SECONDS
    assert book.ledger.outdated(10) == []
    book.clock.now += LEASE_SECONDS
    assert book.ledger.outdated(10) == ["pages/1.png"]


def test_a_picture_that_may_have_been_taken_away_already_is_taken_anew(book: Book) -> None:
    page = book.add()
    claim = book.begin(page)
    book.ledger.expect_object("pages/1.png")
    book.clock.now += 2 * LEASE_SECONDS
    book.ledger.succeed(claim, version("a", 1))
    assert book.find(page).versions == []
    book.store(book.begin(page), version("a", 2))
    assert [each.id for each in book.find(page).versions] == ["ver_2"]


def test_a_page_that_is_wanted_another_way_is_due_at_once(book: Book) -> None:
    page = book.add()
    book.store(book.begin(page), version("a", 1))
    book.ledger.amend(page, otherwise(page, width=900))
    assert book.pause(page) == 0


def test_a_change_during_an_attempt_begins_no_second_one(book: Book) -> None:
    page = book.add()
    claim = book.begin(page)
    amended = book.ledger.amend(page, otherwise(page, width=900))
    assert amended is not None
    assert book.ledger.claim(page.id) is None
    book.store(claim, version("a", 1))
    assert book.find(page).versions == []
    assert book.ledger.outdated(10) == ["pages/1.png"]
    following = book.ledger.claim(page.id)
    assert following is not None
    assert following.page.order == amended.order
    book.store(following, version("b", 2, following.page.edition))
    assert [each.id for each in book.find(page).versions] == ["ver_2"]


def test_a_failure_of_what_is_not_wanted_any_more_is_none(book: Book) -> None:
    page = book.add()
    claim = book.begin(page)
    book.ledger.amend(page, otherwise(page, width=900))
    book.ledger.fail(claim, UpstreamFailed("down"))
    assert (book.find(page).failures, book.pause(page)) == (0, 0)


def test_another_interval_counts_for_the_attempt_that_is_being_made(book: Book) -> None:
    page = book.add()
    claim = book.begin(page)
    book.ledger.amend(page, replace(page.order, refresh_seconds=3 * HOUR))
    book.store(claim, version("a", 1))
    assert [each.id for each in book.find(page).versions] == ["ver_1"]
    assert book.pause(page) == pytest.approx(3 * HOUR)


def test_what_was_forgotten_can_be_changed_no_more(book: Book) -> None:
    page = book.add()
    book.ledger.remove(page.id)
    assert book.ledger.amend(page, page.order) is None


def test_no_more_pages_are_kept_than_may_be_however_many_come_at_once(any_book: Book) -> None:
    def is_kept(_number: int) -> bool:
        try:
            any_book.add()
        except Overloaded:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(is_kept, range(48))) == MAX_PAGES


def test_a_page_that_is_forgotten_while_a_version_is_written_down_leaves_no_object(any_book: Book) -> None:
    page = any_book.add(webhook_url="https://receiver.example/")
    any_book.store(any_book.begin(page), version("a", 1))
    with ThreadPoolExecutor(1) as pool:

        def forget_meanwhile(_page: Page) -> Mapping[str, Any]:
            forgetting.append(pool.submit(any_book.ledger.remove, page.id))
            any_book.wait_for_one_who_waits()
            return {}

        forgetting: list[Future[None]] = []
        any_book.descriptions.append(forget_meanwhile)
        any_book.store(any_book.begin(page), replace(version("b", 2), distance=99))
        forgetting[0].result(20)
    assert any_book.ledger.find(page.id) is None
    assert sorted(any_book.ledger.outdated(10)) == ["pages/1.png", "pages/2.png"]


def test_what_comes_later_is_newer_whatever_the_clock_says(any_book: Book) -> None:
    page = any_book.add()
    for number in range(4):
        claim = any_book.begin(page)
        any_book.store(claim, replace(version("abcd"[number], number), captured_at=NOON - number))
    assert [each.id for each in any_book.find(page).versions] == ["ver_3", "ver_2"]


def test_a_page_of_which_another_picture_is_wanted_is_pending_and_shows_its_old_one(book: Book) -> None:
    page = book.add()
    book.store(book.begin(page), version("a", 1))
    done = book.find(page)
    assert (done.current, done.state) == (done.versions[0], PageState.READY)
    amended = book.ledger.amend(page, otherwise(page, width=900))
    assert amended is not None
    assert (amended.current, amended.state, amended.versions) == (None, PageState.PENDING, done.versions)
    claim = book.begin(page)
    book.store(claim, version("b", 2, claim.page.edition))
    again = book.find(page)
    assert (again.current, again.state) == (again.versions[0], PageState.READY)


def test_a_page_that_looks_the_same_when_it_is_wanted_another_way_shows_what_is_wanted(book: Book) -> None:
    page = book.add()
    book.store(book.begin(page), version("a", 1))
    book.ledger.amend(page, otherwise(page, width=900))
    claim = book.begin(page)
    book.ledger.succeed(claim, replace(claim.page.versions[0], edition=claim.page.edition))
    found = book.find(page)
    assert (found.current, found.state) == (found.versions[0], PageState.READY)


def test_the_newest_pages_are_listed_and_no_more(book: Book) -> None:
    for _ in range(3):
        page = book.add()
        book.clock.now += 1
    newest, rest = (
        book.ledger.latest("owner", None, 2),
        book.ledger.latest("owner", (page.created_at, page.id)),
    )
    assert [each.created_at for each in newest] == [NOON + 2, NOON + 1]
    assert [each.created_at for each in rest] == [NOON + 1, NOON]


@pytest.mark.parametrize("apart", [0, 0.0001], ids=["one moment", "one millisecond"])
def test_a_list_that_is_read_piece_by_piece_leaves_out_no_page(any_book: Book, apart: float) -> None:
    kept = set()
    for _ in range(5):
        kept.add(any_book.add().id)
        any_book.clock.now += apart
    seen, place = list[str](), None
    while found := any_book.ledger.latest("owner", place, 2):
        seen += [page.id for page in found]
        place = (found[-1].created_at, found[-1].id)
    assert (len(seen), set(seen)) == (5, kept)


@pytest.mark.parametrize(("distance", "is_told"), [(CHANGED_BITS - 1, False), (CHANGED_BITS, True)])
def test_so_many_bits_and_no_fewer_are_a_change(book: Book, distance: int, is_told: bool) -> None:
    page = book.add(webhook_url="https://receiver.example/")
    book.store(book.begin(page), version("a", 1))
    book.store(book.begin(page), replace(version("b", 2), distance=distance))
    assert told(book) == [page.id] * is_told


@pytest.mark.parametrize("asked", [frozenset({"dark_mode"}), frozenset()], ids=["spelt out", "the same"])
def test_a_change_that_changes_no_picture_leaves_the_page_as_it_is(book: Book, asked: frozenset[str]) -> None:
    page = book.add()
    book.store(book.begin(page), version("a", 1))
    amended = book.ledger.amend(page, otherwise(page, asked=asked))
    assert amended is not None
    assert (amended.current, amended.state) == (amended.versions[0], PageState.READY)


def test_of_two_who_change_a_page_at_once_one_has_to_look_again(any_book: Book) -> None:
    page = any_book.add()
    assert any_book.ledger.amend(page, otherwise(page, width=900)) is not None
    with pytest.raises(Overloaded):
        any_book.ledger.amend(page, otherwise(page, height=900))
    assert any_book.find(page).order == otherwise(page, width=900)


def told(book: Book) -> list[str]:
    """The pages that messages have been written about."""
    with book.database.reading() as connection:
        return list(connection.execute(select(deliveries.c.subject)).scalars())


def test_a_change_is_told_once_whoever_dies_before_or_after_it_is_written_down(any_book: Book) -> None:
    page = any_book.add(webhook_url="https://receiver.example/")
    any_book.store(any_book.begin(page), version("a", 1))
    killed = any_book.begin(page)
    any_book.ledger.expect_object("pages/2.png")  # stored, and then its worker was killed
    broken, different = any_book.begin(page), replace(version("b", 3), distance=99)
    any_book.descriptions.append(_break_off)
    with pytest.raises(Killed):
        any_book.store(broken, different)
    assert (told(any_book), len(any_book.find(page).versions)) == ([], 1)
    any_book.descriptions.pop()
    again = any_book.begin(page)
    any_book.store(again, replace(different, id="ver_4", object_key="pages/4.png"))
    for late, number in ((killed, 2), (broken, 3), (again, 4)):
        any_book.ledger.succeed(late, replace(different, id=f"late_{number}"))
    assert told(any_book) == [page.id]
    assert [each.id for each in any_book.find(page).versions] == ["ver_4", "ver_1"]


class Killed(Exception):
    """What ends a worker in the midst of writing something down."""


def _break_off(_page: Page) -> Mapping[str, Any]:
    raise Killed


def test_a_list_of_pages_takes_as_many_statements_as_one_page(any_book: Book) -> None:
    kept = []
    for number in range(3):
        any_book.clock.now += 1
        page = any_book.add()
        for taken in range(number):
            any_book.store(any_book.begin(page), version("a", 10 * number + taken))
        kept.append(page.id)
    statements: list[str] = []
    with any_book.database.reading() as connection:
        event.listen(connection.engine, "before_cursor_execute", lambda *told: statements.append(told[2]))
    found = any_book.ledger.latest("owner")
    assert len([each for each in statements if each.startswith("SELECT")]) == 2
    assert [page.id for page in found] == kept[::-1]
    assert [[each.id for each in page.versions] for page in found] == [["ver_21", "ver_20"], ["ver_10"], []]
    assert found == [any_book.find(page) for page in found]


def test_a_version_goes_without_a_look_at_those_of_all_other_pages(book: Book) -> None:
    page = book.add()
    with plans_of(book.database) as steps:
        for number, look in enumerate("abcd"):
            book.store(book.begin(page), version(look, number))
    assert any("USING COVERING INDEX ix_page_versions_object_key" in step for step in steps)
    assert not looks_at_every_row(steps, "page_versions")
    assert not looks_at_every_row(steps, "pages")
