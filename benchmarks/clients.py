"""Clients over loopback: one that reads a whole answer or counts it, and crowds of them."""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from http.client import HTTPConnection, HTTPException
from itertools import cycle
from urllib.parse import quote, urlsplit

PIECE_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Received:
    """An answer as its client saw it; the moments are seconds of the monotonic clock.

    ``is_whole`` is false where the connection broke before the end that HTTP had promised.
    """

    status: int
    headers: dict[str, str]
    sha256: str
    size_bytes: int
    is_whole: bool
    began_at: float
    ended_at: float


def picture_path(route: str, target: str) -> str:
    return f"{route}?url={quote(target, safe='')}"


def fetch(service_url: str, path: str, *, ready: Callable[[], object] = lambda: None) -> Received:
    """Connect, wait until ``ready`` returns, ask, and read to the end without keeping the bytes."""
    address = urlsplit(service_url)
    connection = HTTPConnection(str(address.hostname), address.port, timeout=120)
    with contextlib.closing(connection):
        connection.connect()
        ready()
        connection.request("GET", path)
        response = connection.getresponse()
        digest, size_bytes, is_whole, began_at = hashlib.sha256(), 0, True, 0.0
        try:
            while piece := response.read1(PIECE_BYTES):
                began_at = began_at or time.monotonic()
                digest.update(piece)
                size_bytes += len(piece)
        except (HTTPException, OSError):
            is_whole = False
        headers = {name.lower(): value for name, value in response.getheaders()}
        is_whole = is_whole and size_bytes == int(headers.get("content-length", size_bytes))
        ended_at = time.monotonic()
        return Received(
            response.status, headers, digest.hexdigest(), size_bytes, is_whole, began_at or ended_at, ended_at
        )


def crowd(service_urls: Sequence[str], paths: Sequence[str]) -> list[Received]:
    """Fetch all ``paths`` at the same moment, from the services in turn."""
    barrier = threading.Barrier(len(paths))
    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(partial(fetch, ready=barrier.wait), cycle(service_urls), paths))
