"""The FastAPI peer: asynchronous Redis and httpx, no limiter."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Response
from redis.asyncio import Redis

UPSTREAM_URL = os.environ["UPSTREAM_URL"]

redis = Redis.from_url(os.environ["REDIS_URL"])
client = httpx.AsyncClient(timeout=30)


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close what is open at the end."""
    yield
    await client.aclose()
    await redis.aclose()


app = FastAPI(lifespan=lifespan)


@app.get("/thumb")
async def thumb(url: str) -> Response:
    """The picture of ``url``, from the cache where it is there."""
    picture = await redis.get(url)
    if picture is None:
        answer = await client.get(UPSTREAM_URL, params={"url": url})
        answer.raise_for_status()
        picture = answer.content
        await redis.set(url, picture, ex=86_400)
    return Response(picture, media_type="image/png", headers={"Cache-Control": "public, max-age=86400"})
