"""Cache backends for tests, as the service makes them, and servers that fail them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import redis
from flask import Flask
from flask_caching import Cache

from thumbnailer.backend import RawBytesSerializer


def flask_cache(**config: Any) -> Cache:
    """A cache as the service makes it, through Flask-Caching."""
    settings = {"CACHE_SERIALIZER": RawBytesSerializer, "CACHE_DEFAULT_TIMEOUT": 60} | config
    return Cache(Flask("test"), config=settings)


def redis_cache(url: str, *, prefix: str, timeout_seconds: float = 0.3) -> Cache:
    return flask_cache(
        CACHE_TYPE="RedisCache",
        CACHE_REDIS_URL=url,
        CACHE_KEY_PREFIX=prefix,
        CACHE_OPTIONS={"socket_timeout": timeout_seconds, "socket_connect_timeout": timeout_seconds},
    )


def redis_pid(url: str) -> int:
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        return int(client.info("server")["process_id"])  # type: ignore[index]  # redis-py's types cover its async client too


@contextlib.contextmanager
def silent_server() -> Iterator[tuple[str, list[socket.socket]]]:
    """Accepts connections and never says a word; yields its Redis URL and the connections so far."""
    accepted: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    accepted.append(server.accept()[0])

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield f"redis://127.0.0.1:{server.getsockname()[1]}/0", accepted
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in accepted:
                connection.close()
