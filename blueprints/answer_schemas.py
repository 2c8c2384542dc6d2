"""What picture routes answer that is no picture."""

from __future__ import annotations

from marshmallow import Schema

from blueprints.answer_fields import flag, moment, pixels, text, whole_number


class PendingAnswer(Schema):
    """What ``GET /thumb`` answers a program while the picture is being made."""

    status = text("Always pending.", enum=["pending"])
    detail = text("The same in words.")
    retry_after_seconds = whole_number("When to ask again.")
    request_id = text("Names this request in the logs.")


class StoredImageAnswer(Schema):
    """What ``POST /persist`` answers."""

    url = text("Where the stored image is.", format="uri")
    cached = flag("Whether this very picture was stored before.")
    key = text("The object's key in the storage.")
    etag = text("The strong entity tag of the bytes.")
    sha256 = text("Hexadecimal SHA-256 of the bytes.")
    content_type = text("The media type of the bytes.")
    size_bytes = whole_number("The number of bytes.")
    width = pixels()
    height = pixels()
    captured_at = moment("When the picture was taken.")
