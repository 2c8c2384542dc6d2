"""Long lists, a piece at a time: each answer says where the next one goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from marshmallow import fields

from blueprints.answer_fields import text
from blueprints.fields import CursorField
from blueprints.schemas import StrictSchema
from thumbnailer.database import MAX_LISTED, Place
from thumbnailer.jobs.deliveries import Delivery
from thumbnailer.pages import Page

Listed = TypeVar("Listed", Page, Delivery)


class ListQuery(StrictSchema):
    """Of every long list."""

    cursor = CursorField()


def next_cursor() -> fields.String:
    """What an answer says of where its list goes on."""
    return text("Where the list goes on, for cursor; null where it ends here.", allow_none=True)


def listed(
    latest: Callable[[str, Place | None, int], list[Listed]], owner: str, after: Place | None
) -> tuple[list[Listed], str | None]:
    """The next of a list's things, and where it goes on after those, if it does."""
    found = latest(owner, after, MAX_LISTED + 1)
    shown = found[:MAX_LISTED]
    return shown, _cursor_of(shown[-1]) if len(found) > MAX_LISTED else None


def _cursor_of(last: Page | Delivery) -> str:
    """Its place to the last bit: the times that callers see are rounded."""
    return f"{last.created_at!r}_{last.id}"
