"""What callers may say of pages that are kept photographed, and what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, fields, pre_load, validate

from blueprints.answer_fields import moment, nested_list, pixels, text, whole_number
from blueprints.cursors import next_cursor
from blueprints.fields import Text, WholeNumber, allow_null
from blueprints.schemas import (
    IMAGE_FORMATS,
    BodyOptions,
    blocks_ads,
    blocks_cookie_banners,
    described,
)
from thumbnailer.pages import PageState

SHORTEST_REFRESH_SECONDS, LONGEST_REFRESH_SECONDS = 60, 31_536_000

REFRESH = WholeNumber(
    validate=validate.Range(SHORTEST_REFRESH_SECONDS, LONGEST_REFRESH_SECONDS),
    metadata=described("Seconds between two pictures.", default=86_400),
)
RECEIVER = Text(
    max_length=2048,
    allow_none=True,
    metadata=described(
        "Who is told when the page looks different, by Standard Webhooks; null for nobody.",
        format="uri",
    ),
)


class PageBody(BodyOptions):
    """``POST /pages``."""

    class Meta(BodyOptions.Meta):
        exclude = ("ttl", "fresh")

    format = fields.String(
        validate=validate.OneOf([name for name in IMAGE_FORMATS if name != "auto"]),
        metadata=described("How the picture is encoded.", default="png"),
    )
    block_ads = blocks_ads(default=True)
    block_cookie_banners = blocks_cookie_banners(default=True)
    refresh_seconds = REFRESH
    webhook_url = RECEIVER


class PageChanges(PageBody):
    """``PATCH /pages/<page_id>``: what is not named stays as it is, what is null is taken away (RFC 7396)."""

    url = Text(max_length=2048, metadata=described("Another page.", format="uri"))

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Document what may be taken away, and that nothing else changes by itself."""
        field_obj.metadata = {name: told for name, told in field_obj.metadata.items() if name != "default"}
        if field_name != "url":
            allow_null(field_obj)

    @pre_load
    def drop_what_is_taken_away(self, data: Mapping[str, Any], **_more: object) -> dict[str, Any]:
        """A page always has its URL, and a name that nobody knows is refused, whatever it says."""
        taken_away = {name for name, value in data.items() if value is None and name in self.fields}
        return {name: value for name, value in data.items() if name not in taken_away - {"url"}}


class VersionAnswer(Schema):
    """One picture of a page."""

    captured_at = moment("When it was taken.")
    url = text("Where it is stored.", format="uri-reference")
    content_type = text("The media type of the bytes.")
    size_bytes = whole_number("The number of bytes.")
    sha256 = text("Hexadecimal SHA-256 of the bytes.")
    width = pixels()
    height = pixels()
    distance = whole_number(
        "How different it looks from the one before, 0 to 256; null where that was no such picture.",
        allow_none=True,
    )


class PageAnswer(Schema):
    """A page that is kept photographed."""

    id = text("The page's id.")
    status = text(
        "How the last attempt went; `pending`: there was none yet.", enum=[state.value for state in PageState]
    )
    url = text("The page, as it was written.")
    options = fields.Dict(required=True, metadata=described("The options, as they were written."))
    refresh_seconds = whole_number("Seconds between two pictures.")
    webhook_url = text("Who is told when it looks different.", allow_none=True)
    thumb_url = text("The newest good picture, once there is one.", allow_none=True, format="uri-reference")
    created_at = moment("When it was first asked for.")
    refreshed_at = moment("When an attempt last went well.", allow_none=True)
    next_refresh_at = moment("When the next is due.")
    failures = whole_number("Failed attempts in a row.")
    error = text("Why the last attempt failed: a slug.", allow_none=True)
    error_detail = text("The same in words.", allow_none=True)
    versions = nested_list(VersionAnswer, "Its good pictures, newest first.")


class PagesAnswer(Schema):
    """Pages, the newest first."""

    pages = nested_list(PageAnswer, "The pages.")
    next_cursor = next_cursor()
