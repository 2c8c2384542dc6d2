"""What the OpenAPI document says of the headers that answers come with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any


def text_header(text: str) -> Mapping[str, Any]:
    """The documentation of a header that holds text."""
    return {"description": text, "schema": {"type": "string"}}


CAPTURE_HEADERS = {
    "Cache-Control": text_header("How long caches may keep the picture."),
    "ETag": text_header("The strong entity tag of the bytes; absent from a stream."),
    "Last-Modified": text_header("When the picture was taken; absent from a stream."),
    "Age": text_header("Seconds since then; absent from a stream."),
    "Accept-Ranges": text_header("bytes; none of a stream."),
    "Content-Disposition": text_header("What the picture is called when it is saved."),
    "X-Cache": text_header("HIT, STALE or MISS."),
    "Cache-Status": text_header("The same in the words of RFC 9211."),
    "X-Problem": text_header("The slug of why an old picture could not be replaced."),
    "Cache-Tag": text_header("Tags for purging, with commas between; where the operator wants it."),
    "Surrogate-Key": text_header("The same with spaces between; where the operator wants it."),
    "RateLimit-Policy": text_header("The limits that a capture was charged to."),
    "RateLimit": text_header("What is left of them, and the seconds until they start anew."),
    "Server-Timing": text_header("How long each step took, in milliseconds."),
    "X-Request-ID": text_header("Names this request in logs and problem documents."),
}

STORED_HEADERS = {
    name: CAPTURE_HEADERS[name]
    for name in (
        "Cache-Control",
        "ETag",
        "Last-Modified",
        "Accept-Ranges",
        "Content-Disposition",
        "X-Request-ID",
    )
}


@cache
def problem_headers(status: int) -> Mapping[str, Mapping[str, Any]]:
    """The headers that a problem of ``status`` comes with; asked for hundreds of times at a start."""
    headers = {"X-Request-ID": text_header("Names this request in logs.")}
    headers["X-Problem"] = text_header("The slug, where a placeholder stands for the document.")
    if status == 401:
        headers["WWW-Authenticate"] = text_header("How a key is given.")
    if status in (409, 422, 429, 502, 503, 504):
        headers["Retry-After"] = text_header("Seconds until a later try makes sense.")
    if status == 429:
        headers["RateLimit-Policy"] = text_header("The limit that was reached.")
        headers["RateLimit"] = text_header("What is left of it, and the seconds until it starts anew.")
    return headers
