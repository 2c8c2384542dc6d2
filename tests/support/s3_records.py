"""What the tests put into buckets."""

from __future__ import annotations

from tests.support.s3 import (
    record_of,
)

KEY = "thumbs/größe/x.png"
BODY = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400
RECORD = record_of(BODY)
