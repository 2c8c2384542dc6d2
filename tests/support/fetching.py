"""Fetches in a small web of tests' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.small_web import ChangingAnswers, Internet, Reply, Seen, SmallWeb
from thumbnailer.egress import FetchedAnswer, GuardedSession
from thumbnailer.guard import Guard, parse_private_exceptions
from thumbnailer.model import Deadline

PUBLIC = "93.184.216.34"
OTHER_PUBLIC = "1.1.1.1"
OK = {"ok.example.com": [[PUBLIC]], "www.example.com": [[OTHER_PUBLIC]], "example.com": [[PUBLIC]]}
NAMES = [*OK, "rebind.attacker.example.com", "alias.example.com"]

Behaviour = Callable[[Seen], Reply]


def redirect(location: str, status: int = 302) -> Reply:
    return Reply(status, (("Location", location),), b"")


class Fetching:
    """A session over a small web, and all that happened in it."""

    def __init__(self, web: SmallWeb, internet: Internet, resolver: ChangingAnswers, exceptions: str) -> None:
        self.web, self.internet, self.resolver = web, internet, resolver
        guard = Guard(resolver=resolver, exceptions=parse_private_exceptions(exceptions))
        self.session = GuardedSession(guard, connect=internet.connect, ca_bundle=str(web.ca))

    def fetch(self, url: str, *, method: str = "GET", seconds: float = 20, **options: Any) -> FetchedAnswer:
        asked: dict[str, Any] = {"deadline": Deadline.after(seconds), "max_bytes": 100_000} | options
        return self.session.fetch(method, url, **asked)
