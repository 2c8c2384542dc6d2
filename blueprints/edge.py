"""What the cache of a proxy in front may keep, and for how long: nginx, as in ``deploy/nginx``.

Such a cache is the operator's own, and a purge, a withdrawn key or a dead page should get through it
within minutes, so it gets terms of its own. A trusted proxy asks for them by ``X-Edge-Seconds``.
``Cache-Control`` of the answer is then for that cache; what clients are to be told stands beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import flask
from flask import Response
from werkzeug.datastructures import Headers

from blueprints.callers import comes_from
from thumbnailer.addresses import Network

#: A request's: for how many seconds the cache would like to answer without asking.
ASKED_HEADER = "X-Edge-Seconds"

#: An answer's: what the cache tells clients in ``Cache-Control``, and in ``Age`` when it answers by itself.
CLIENT_CACHE_CONTROL_HEADER = "X-Edge-Client-Cache-Control"
CLIENT_AGE_HEADER = "X-Edge-Client-Age"

#: What nginx looks for in a kept head, with each answer.
SOUGHT_HEADERS = (CLIENT_CACHE_CONTROL_HEADER, CLIENT_AGE_HEADER, "X-Cache")

#: The cache keeps what is not for long, or old already, for so many seconds at a time.
LEAST_SECONDS = 5
MOST_SECONDS = 3600

#: nginx counts whole seconds, from the moment when it has an answer's head, and takes the last one in.
MARGIN_SECONDS = 3

_ASKED = re.compile(r"[1-9]\d{0,3}", re.ASCII)
_SECONDS = re.compile(r"([a-z-]+)=(\d+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class EdgeTerms:
    """For how many seconds an answer may be given without asking, and afterwards while asking."""

    fresh_seconds: int
    stale_seconds: int

    @property
    def cache_control(self) -> str:
        """For the cache."""
        if not self.stale_seconds:
            return f"max-age={self.fresh_seconds}"
        return f"max-age={self.fresh_seconds}, stale-while-revalidate={self.stale_seconds}"


def edge_terms(cache_control: str, age_seconds: int, asked_seconds: int) -> EdgeTerms | None:
    """What a cache may do that asks for so many seconds; None: keep nothing.

    ``cache_control`` is that of ``Freshness``. The answer is used by the cache for no longer than a
    client would be allowed to, and at most for a quarter of the time in which it is fresh, so that
    clients keep most of that: they are told the age that it has at the end.
    """
    directives = {part.strip() for part in cache_control.split(",")}
    if "public" not in directives or "immutable" in directives:
        return None
    seconds = {name: int(number) for name, number in _SECONDS.findall(cache_control)}
    left_seconds = seconds.get("max-age", 0) - age_seconds
    usable_seconds = left_seconds + seconds.get("stale-while-revalidate", 0) - MARGIN_SECONDS
    fresh_seconds = min(asked_seconds, max(left_seconds // 4, LEAST_SECONDS), usable_seconds)
    if fresh_seconds <= 0:
        return None
    return EdgeTerms(fresh_seconds, min(fresh_seconds, usable_seconds - fresh_seconds))


def dress_for_edge(headers: Headers, asked_seconds: int) -> None:
    """Give an answer the terms of a cache that asks for so many seconds.

    nginx reads a kept head again with each answer: what it looks for comes first, and the id of the
    request that the answer was made for, which is nobody else's, is left out.
    """
    cache_control, age_seconds = headers.get("Cache-Control", ""), int(headers.get("Age", 0))
    terms = edge_terms(cache_control, age_seconds, asked_seconds)
    if terms is None:
        return
    oldest_seconds = age_seconds + terms.fresh_seconds + terms.stale_seconds + MARGIN_SECONDS
    headers["Cache-Control"] = terms.cache_control
    headers[CLIENT_CACHE_CONTROL_HEADER] = cache_control
    headers[CLIENT_AGE_HEADER] = str(oldest_seconds)
    headers.pop("X-Request-ID", None)
    ordered = sorted(headers, key=lambda header: header[0] not in SOUGHT_HEADERS)
    headers.clear()
    headers.extend(ordered)


def register_edge(app: flask.Flask, trusted_proxies: Sequence[Network]) -> None:
    """Let answers of ``app`` have terms for the caches of these proxies."""

    def dress(response: Response) -> Response:
        asked = flask.request.headers.get(ASKED_HEADER, "")
        if response.status_code == 200 and _ASKED.fullmatch(asked) and comes_from(trusted_proxies):
            # nginx would take it before the terms that it asks for.
            response.headers.pop("X-Accel-Expires", None)
            dress_for_edge(response.headers, min(int(asked), MOST_SECONDS))
        return response

    app.after_request(dress)
