"""Pages between their dataclasses and the database's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from thumbnailer.pages import Page, PageOrder, PageState, PageVersion
from thumbnailer.thumbnails import ThumbnailRequest
from thumbnailer.written_requests import read_request, write_request

log = structlog.get_logger(__name__)


def write_order(order: PageOrder) -> dict[str, Any]:
    """The columns of an order."""
    return {
        "url": order.url,
        "options": dict(order.options),
        "request": write_request(order.request) if order.request else "",
        "refresh_seconds": order.refresh_seconds,
        "webhook_url": order.webhook_url,
    }


def _read_request(written: str) -> ThumbnailRequest | None:
    """None where a newer version has written what this one does not know: that page fails, and no other."""
    try:
        return read_request(written)
    except ValueError as error:
        log.warning("page_unreadable", detail=str(error))
        return None


def read_version(row: Mapping[Any, Any]) -> PageVersion:
    """A version from its row."""
    return PageVersion(**{name: row[name] for name in PageVersion.__slots__})


def read_page(row: Mapping[Any, Any], versions: Sequence[PageVersion]) -> Page:
    """A page from its row."""
    return Page(
        id=row["id"],
        owner=row["owner"],
        order=PageOrder(
            url=row["url"],
            options=row["options"],
            request=_read_request(row["request"]),
            refresh_seconds=row["refresh_seconds"],
            webhook_url=row["webhook_url"],
        ),
        state=PageState(row["state"]),
        failures=row["failures"],
        created_at=row["created_at"],
        refreshed_at=row["refreshed_at"],
        due_at=row["due_at"],
        error=row["error"],
        edition=row["edition"],
        versions=versions,
    )
