"""Asks HTTP servers that the operator has configured: no redirect is followed, and little is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from thumbnailer.model import Deadline
from thumbnailer.providers.exchange import UpstreamSession, begin_exchange

MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; the body is cut off at 64 KiB."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What the body says; None where it is no JSON."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


def ask(url: str, deadline: Deadline, headers: Mapping[str, str] | None = None) -> Answer:
    """Fetch a URL. Raises UpstreamFailed and UpstreamTimeout, with the cause."""
    host = urlsplit(url).netloc
    with closing(UpstreamSession(pool_size=1)) as session:
        request = requests.Request("GET", url, headers=dict(headers or {}))
        with closing(begin_exchange(session, request, deadline, host)) as exchange:
            body = bytearray()
            for chunk in exchange:
                body += chunk
                if len(body) >= MAX_BYTES:
                    break
            return Answer(exchange.status, exchange.headers, bytes(body[:MAX_BYTES]))
