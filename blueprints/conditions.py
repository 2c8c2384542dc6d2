"""Answers to those who have a part already, or all of it: RFC 9110, sections 13 and 14.

Werkzeug does most of that. It differs from the RFC in what is done here: a part is sent to ``GET``
only and to nobody who has the whole, ``If-Range`` compares exactly, the last bytes of a picture are all of it
where more are asked for than it has, and ``If-Match`` may fail.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import flask
from flask import Response
from werkzeug.exceptions import HTTPException, PreconditionFailed, RequestedRangeNotSatisfiable
from werkzeug.http import is_resource_modified, parse_date, parse_etags, quote_etag

#: A single range of bytes. Several, and other units, may be disregarded: section 14.2.
_RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))[ \t]*", re.ASCII | re.IGNORECASE)

#: What a caller has: the conditions of a 304.
_HELD = ("HTTP_IF_NONE_MATCH", "HTTP_IF_MODIFIED_SINCE")


def answer_conditionally(response: Response, size_bytes: int) -> Response:
    """Turn a whole picture with its validators into 304 or 206 where the current request wants that.

    Raises:
        PreconditionFailed: the caller wants another version of it (412).
        RequestedRangeNotSatisfiable: the picture has no such bytes (416).
    """
    request = flask.request
    if request.method not in ("GET", "HEAD"):
        return response
    try:
        _refuse_other_versions(request, response)
        if _is_held(request.environ, response):
            response.status_code = 304
            return response
        response.accept_ranges = "bytes"
        part = _part_asked_for(request, response, size_bytes)
    except HTTPException:
        response.close()
        raise
    if part is not None:
        environ = {"REQUEST_METHOD": "GET", "HTTP_RANGE": f"bytes={part[0]}-{part[1]}"}
        response.make_conditional(environ, accept_ranges=True, complete_length=size_bytes)
    return response


def _refuse_other_versions(request: flask.Request, response: Response) -> None:
    """``If-Match`` goes before ``If-Unmodified-Since``: section 13.2.2."""
    since, modified = request.if_unmodified_since, response.last_modified
    if "If-Match" in request.headers:
        etag, _ = response.get_etag()
        wanted = parse_etags(request.headers["If-Match"])
        if not (wanted.star_tag or (etag and wanted.is_strong(etag))):
            raise PreconditionFailed
    elif since and modified and modified > since:
        raise PreconditionFailed


def _is_held(environ: Mapping[str, str], response: Response) -> bool:
    conditions = {name: environ[name] for name in _HELD if name in environ}
    return not is_resource_modified(
        conditions,
        response.headers.get("ETag"),
        last_modified=response.headers.get("Last-Modified"),
    )


def _part_asked_for(request: flask.Request, response: Response, size_bytes: int) -> tuple[int, int] | None:
    """The first and the last byte to send; None: all of them."""
    match = _RANGE.fullmatch(request.headers.get("Range", ""))
    if request.method != "GET" or match is None or not _is_same_version(request, response):
        return None
    first, last, suffix = (int(number) if number else None for number in match.groups())
    if suffix is not None:
        first, last = max(0, size_bytes - suffix), size_bytes - 1
    assert first is not None, "the pattern has one of the two"
    if last is not None and last < first and suffix is None:
        return None  # no valid range: section 14.1.1
    if first >= size_bytes:
        raise RequestedRangeNotSatisfiable(size_bytes)
    return first, size_bytes - 1 if last is None else min(last, size_bytes - 1)


def _is_same_version(request: flask.Request, response: Response) -> bool:
    """Whether ``If-Range`` lets a part be sent; a weak tag never does: section 13.1.5."""
    condition = request.headers.get("If-Range", "").strip()
    if not condition:
        return True
    etag, is_weak = response.get_etag()
    if condition.startswith(('"', "W/")):
        return etag is not None and not is_weak and condition == quote_etag(etag)
    return response.last_modified is not None and parse_date(condition) == response.last_modified
