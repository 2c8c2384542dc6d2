"""The plain peer: Flask, requests, Flask-Caching's ``get`` and ``set``, Flask-Limiter, both on Redis."""

from __future__ import annotations

import os

import requests
from flask import Flask, Response, request
from flask_caching import Cache
from flask_limiter import Limiter
from flask_limiter.util import get_remote_address

REDIS_URL, UPSTREAM_URL = os.environ["REDIS_URL"], os.environ["UPSTREAM_URL"]

app = Flask(__name__)
cache = Cache(
    app,
    config={"CACHE_TYPE": "RedisCache", "CACHE_REDIS_URL": REDIS_URL, "CACHE_DEFAULT_TIMEOUT": 86_400},
)
limiter = Limiter(get_remote_address, app=app, storage_uri=REDIS_URL)
session = requests.Session()


@app.get("/thumb")
@limiter.limit("100000000 per minute")
def thumb() -> Response:
    """The picture of ``url``, from the cache where it is there."""
    target = request.args["url"]
    picture = cache.get(target)
    if picture is None:
        answer = session.get(UPSTREAM_URL, params={"url": target}, timeout=30)
        answer.raise_for_status()
        picture = answer.content
        cache.set(target, picture)
    return Response(picture, content_type="image/png", headers={"Cache-Control": "public, max-age=86400"})
