"""What picture routes answer that is no picture."""

from __future__ import annotations

from marshmallow import Schema, fields

from blueprints.schemas import IMAGE_PIXELS, described


class PendingAnswer(Schema):
    """What ``GET /thumb`` answers a program while the picture is being made."""

    status = fields.String(required=True, metadata=described("Always pending.", enum=["pending"]))
    detail = fields.String(required=True, metadata=described("The same in words."))
    retry_after_seconds = fields.Integer(required=True, metadata=described("When to ask again."))
    request_id = fields.String(required=True, metadata=described("Names this request in the logs."))


class StoredImageAnswer(Schema):
    """What ``POST /persist`` answers."""

    url = fields.String(required=True, metadata=described("Where the stored image is.", format="uri"))
    cached = fields.Boolean(required=True, metadata=described("Whether this very picture was stored before."))
    key = fields.String(required=True, metadata=described("The object's key in the storage."))
    etag = fields.String(required=True, metadata=described("The strong entity tag of the bytes."))
    sha256 = fields.String(required=True, metadata=described("Hexadecimal SHA-256 of the bytes."))
    content_type = fields.String(required=True, metadata=described("The media type of the bytes."))
    size_bytes = fields.Integer(required=True, metadata=described("The number of bytes."))
    width = fields.Integer(required=True, allow_none=True, metadata=IMAGE_PIXELS)
    height = fields.Integer(required=True, allow_none=True, metadata=IMAGE_PIXELS)
    captured_at = fields.String(
        required=True, metadata=described("When the picture was taken.", format="date-time")
    )
