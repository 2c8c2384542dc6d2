"""Counts what each answer gave or refused, for ``GET /usage``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import flask
from flask import Response

from blueprints.callers import caller_so_far
from blueprints.request_log import noted
from thumbnailer.terms import CacheStatus
from thumbnailer.usage import ANONYMOUS, Counted, UsageMeter

#: By what the request's log line says of the cache.
KINDS: Mapping[str, Counted] = {
    CacheStatus.HIT: Counted.HITS,
    CacheStatus.COLLAPSED: Counted.HITS,  # somebody else's capture: it cost this caller nothing
    CacheStatus.STALE: Counted.STALE,
    CacheStatus.MISS: Counted.MISSES,
}
#: What a caller is answered who may not do it, or not so often.
REFUSALS = frozenset({401, 402, 403, 429})


def register_metering(app: flask.Flask, meter: UsageMeter) -> None:
    """Count every answer of ``app`` that has a picture or refuses one."""
    app.after_request(partial(_count, meter))


def _count(meter: UsageMeter, response: Response) -> Response:
    found, kind = caller_so_far(), KINDS.get(str(noted().get("cache")))
    account = found.account if found else ANONYMOUS
    if response.status_code in REFUSALS:
        meter.count(account, Counted.REFUSALS)
    elif kind is not None:
        has_body = flask.request.method != "HEAD" and response.status_code != 304
        size_bytes = response.content_length or 0 if has_body else 0
        meter.count(account, kind, size_bytes)
    return response
