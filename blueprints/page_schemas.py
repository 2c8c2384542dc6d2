"""What callers may say of pages that are kept photographed, and what they are told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema, fields, pre_load, validate

from blueprints.fields import MomentField, Text, WholeNumber, allow_null
from blueprints.job_schemas import TIME
from blueprints.schemas import IMAGE_FORMATS, IMAGE_PIXELS, BodyOptions, StrictSchema, described
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
    refresh_seconds = REFRESH
    webhook_url = RECEIVER


class PageChanges(PageBody):
    """``PATCH /pages/<page_id>``: what is not named stays as it is, what is null is taken away (RFC 7396)."""

    url = Text(max_length=2048, metadata=described("Another page.", format="uri"))

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Document what may be taken away."""
        if field_name != "url":
            allow_null(field_obj)

    @pre_load
    def drop_what_is_taken_away(self, data: Mapping[str, Any], **_more: object) -> dict[str, Any]:
        return {name: value for name, value in data.items() if value is not None or name == "url"}


class PageList(StrictSchema):
    """``GET /pages``."""

    before = MomentField(
        metadata=described(
            "Only pages made before this moment: the created_at of the last one goes on.",
            oneOf=[
                {"type": "string", "format": "date-time"},
                {"type": "number", "minimum": 0, "maximum": MomentField.MAX_SECONDS},
            ],
        )
    )


class VersionAnswer(Schema):
    """One picture of a page."""

    captured_at = fields.String(required=True, metadata=described("When it was taken.", **TIME))
    url = fields.String(required=True, metadata=described("Where it is stored.", format="uri-reference"))
    content_type = fields.String(required=True, metadata=described("The media type of the bytes."))
    size_bytes = fields.Integer(required=True, metadata=described("The number of bytes."))
    sha256 = fields.String(required=True, metadata=described("Hexadecimal SHA-256 of the bytes."))
    width = fields.Integer(required=True, allow_none=True, metadata=IMAGE_PIXELS)
    height = fields.Integer(required=True, allow_none=True, metadata=IMAGE_PIXELS)
    distance = fields.Integer(
        required=True,
        allow_none=True,
        metadata=described(
            "How different it looks from the one before, 0 to 256; null where that was no such picture."
        ),
    )


class PageAnswer(Schema):
    """A page that is kept photographed."""

    id = fields.String(required=True, metadata=described("The page's id."))
    status = fields.String(
        required=True,
        metadata=described(
            "How the last attempt went; `pending`: there was none yet.",
            enum=[state.value for state in PageState],
        ),
    )
    url = fields.String(required=True, metadata=described("The page, as it was written."))
    options = fields.Dict(required=True, metadata=described("The options, as they were written."))
    refresh_seconds = fields.Integer(required=True, metadata=described("Seconds between two pictures."))
    webhook_url = fields.String(
        required=True, allow_none=True, metadata=described("Who is told when it looks different.")
    )
    thumb_url = fields.String(
        required=True,
        allow_none=True,
        metadata=described("The newest good picture, once there is one.", format="uri-reference"),
    )
    created_at = fields.String(required=True, metadata=described("When it was first asked for.", **TIME))
    refreshed_at = fields.String(
        required=True, allow_none=True, metadata=described("When an attempt last went well.", **TIME)
    )
    next_refresh_at = fields.String(required=True, metadata=described("When the next is due.", **TIME))
    failures = fields.Integer(required=True, metadata=described("Failed attempts in a row."))
    error = fields.String(
        required=True, allow_none=True, metadata=described("Why the last attempt failed: a slug.")
    )
    error_detail = fields.String(required=True, allow_none=True, metadata=described("The same in words."))
    versions = fields.List(
        fields.Nested(VersionAnswer), required=True, metadata=described("Its good pictures, newest first.")
    )


class PagesAnswer(Schema):
    """Pages, the newest first."""

    pages = fields.List(fields.Nested(PageAnswer), required=True)
