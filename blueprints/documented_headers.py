"""What the OpenAPI document says of the headers that answers come with.

Told with each answer is what is its own. What every answer may have, the document says at its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

Headers = Mapping[str, Mapping[str, Any]]


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
    "Vary": text_header("Accept, where format=auto was asked for."),
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

CAPTURE_CHARGE_HEADERS = {
    name: CAPTURE_HEADERS[name] for name in ("RateLimit-Policy", "RateLimit", "Server-Timing")
}

#: Of pictures that are no answer to a URL of their target: those of jobs and of kept pages.
BOUND_HEADERS = {
    name: CAPTURE_HEADERS[name]
    for name in ("Cache-Control", "ETag", "Last-Modified", "Accept-Ranges", "X-Request-ID")
}

STORED_HEADERS = {**BOUND_HEADERS, "Content-Disposition": CAPTURE_HEADERS["Content-Disposition"]}

#: What 304 leaves out of the headers of the whole answer: RFC 9110, section 15.4.5.
NOT_OF_304 = frozenset({"Last-Modified", "Accept-Ranges"})

RETRY_AFTER = {"Retry-After": text_header("Seconds until a later try makes sense.")}
REDIRECT_HEADERS = {"Location": text_header("Where the stored image is.")}

#: Where somebody waits for what is done behind the answers.
UNFINISHED_HEADERS = {
    "Retry-After": text_header("Seconds until it makes sense to ask again; absent once it has ended.")
}

CHARGED_HEADERS = {
    "RateLimit-Policy": text_header("The limit that this was charged to."),
    "RateLimit": text_header("What is left of it, and the seconds until it starts anew."),
}

REPLAYED_HEADERS = {
    "Idempotency-Replayed": text_header("true: the first answer to this Idempotency-Key, given again.")
}

PREFERENCE_HEADERS = {"Preference-Applied": text_header("wait=N, where Prefer asked for that.")}

PLACEHOLDER_HEADERS = {
    "X-Problem": text_header("The slug, where a placeholder stands for the document."),
    "Vary": text_header("Accept, Sec-Fetch-Dest: they decide between placeholder and document."),
}


def made_headers(what: str) -> Headers:
    """Of an answer that says what was made by a request with, perhaps, an ``Idempotency-Key``."""
    return {"Location": text_header(f"Where {what} is."), **CHARGED_HEADERS, **REPLAYED_HEADERS}


@cache
def problem_headers(status: int) -> Headers:
    """The headers that a problem of ``status`` comes with; asked for hundreds of times at a start."""
    headers = {"X-Request-ID": text_header("Names this request in logs.")}
    if status == 401:
        headers["WWW-Authenticate"] = text_header("How a key is given.")
    if status in (402, 409, 422, 429, 502, 503, 504):
        headers |= RETRY_AFTER
    if status == 416:
        headers["Content-Range"] = text_header("How many bytes there are.")
    if status in (402, 429):
        headers["RateLimit-Policy"] = text_header("The limit that was reached.")
        headers["RateLimit"] = text_header("What is left of it, and the seconds until it starts anew.")
    return headers
