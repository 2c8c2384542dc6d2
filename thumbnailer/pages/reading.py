"""Reads pages with their versions out of the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, select

from thumbnailer.pages import Page, PageVersion
from thumbnailer.pages.rows import read_page, read_version
from thumbnailer.pages.tables import NEWEST_FIRST, page_versions, pages


def find_page(connection: Connection, page_id: str, *, is_locked: bool = False) -> Page | None:
    """The page of that id; ``is_locked``: as it stays until this transaction ends."""
    wanted = select(pages).where(pages.c.id == page_id)
    found = read_pages(connection, wanted.with_for_update() if is_locked else wanted)
    return found[0] if found else None


def written_page(connection: Connection, page_id: str) -> Page:
    """A page that this transaction has written, so that nobody else can have deleted it."""
    (page,) = read_pages(connection, select(pages).where(pages.c.id == page_id))
    return page


def read_pages(connection: Connection, wanted: Select[Any]) -> list[Page]:
    """The pages of a SELECT, in its order, by two statements however many they are."""
    rows: Sequence[Mapping[Any, Any]] = connection.execute(wanted).mappings().all()
    versions: dict[str, list[PageVersion]] = {row["id"]: [] for row in rows}
    of_these = (
        select(page_versions).where(page_versions.c.page_id.in_(list(versions))).order_by(*NEWEST_FIRST)
    )
    for version in connection.execute(of_these).mappings():
        versions[version["page_id"]].append(read_version(version))
    return [read_page(row, versions[row["id"]]) for row in rows]
