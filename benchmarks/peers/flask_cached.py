"""The ``@cached`` peer: Flask-Caching around the whole view, on Redis, and no limiter."""

from __future__ import annotations

import os

import requests
from flask import Flask, Response, request
from flask_caching import Cache

UPSTREAM_URL = os.environ["UPSTREAM_URL"]

app = Flask(__name__)
cache = Cache(app, config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": os.environ["REDIS_URL"]})
session = requests.Session()


@app.get("/thumb")
@cache.cached(timeout=86_400, query_string=True)
def thumb() -> Response:
    """The picture of ``url``."""
    answer = session.get(UPSTREAM_URL, params={"url": request.args["url"]}, timeout=30)
    answer.raise_for_status()
    return Response(
        answer.content, content_type="image/png", headers={"Cache-Control": "public, max-age=86400"}
    )
