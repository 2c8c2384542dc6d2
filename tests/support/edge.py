"""What tests of the edge share: asking, paths that nobody has asked for, and a stand-in for the service."""

from __future__ import annotations

import itertools
import threading
from urllib.parse import quote, urlsplit

from tests.support.answers import Answer, Received, content
from tests.support.raw_http import RawAnswer, exchange, head
from tests.support.upstream import Upstream

TARGETS = (f"http://93.184.216.34/edge/{number}" for number in itertools.count())

#: Short enough to be waited for.
SECOND = {"proxy_set_header X-Edge-Seconds 60;": "proxy_set_header X-Edge-Seconds 1;"}


def port_of(url: str) -> int:
    return urlsplit(url).port or 80


def ask(url: str, path: str, *fields: str, method: str = "GET") -> RawAnswer:
    return exchange(url, head(f"{method} {path} HTTP/1.1", *fields))


def thumb_path(target: str | None = None, **options: str) -> str:
    """A path that nobody has asked for before, unless ``target`` says so."""
    query = "".join(f"&{name}={text}" for name, text in options.items())
    return f"/thumb?url={quote(target or next(TARGETS), safe='')}{query}"


def edge_cache(answer: RawAnswer) -> str | None:
    return answer.headers.get("x-edge-cache")


class Application:
    """Stands where the service does, and counts its answers: the body of each is its number.

    ``blocked`` lets the next ones wait; ``failure`` is answered in place of pictures.
    """

    def __init__(self, terms: str = "max-age=1, stale-while-revalidate=1") -> None:
        self.free = threading.Event()
        self.free.set()
        self.failure: Answer | None = None
        self.terms = terms
        self._numbers = itertools.count(1)
        self._server = Upstream(self._answer)
        self.port = port_of(self._server.url)

    @property
    def requests(self) -> tuple[Received, ...]:
        return self._server.requests

    def _answer(self, _request: Received) -> Answer:
        number = next(self._numbers)
        assert self.free.wait(20)
        if self.failure is not None:
            return self.failure
        return content(
            str(number).encode(),
            "image/png",
            ("Cache-Control", self.terms),
            ("X-Edge-Client-Cache-Control", "public, max-age=60"),
            ("X-Edge-Client-Age", "5"),
        )

    def close(self) -> None:
        self.free.set()
        self._server.close()

    def __enter__(self) -> Application:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()
