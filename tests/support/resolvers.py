"""Resolvers that answer what a test wants, and guards that ask them."""

from __future__ import annotations

from collections.abc import Sequence

from thumbnailer.errors import InvalidTarget, TargetForbidden, TargetUnreachable
from thumbnailer.guard import Guard, parse_private_exceptions

PUBLIC = "93.184.216.34"
PUBLIC_V6 = "2606:2800:220:1:248:1893:25c8:1946"


class FixedAnswers:
    """A resolver that always gives the same answers and remembers who was asked for."""

    def __init__(self, *answers: str) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers


def no_such_name(host: str, port: int) -> Sequence[str]:
    raise OSError(-2, "Name or service not known")


def guard_with(exceptions: str, *answers: str) -> Guard:
    return Guard(resolver=FixedAnswers(*answers), exceptions=parse_private_exceptions(exceptions))


def verdict(guard: Guard, url: str) -> str:
    try:
        guard.check(guard.parse(url))
    except (InvalidTarget, TargetForbidden, TargetUnreachable):
        return "block"
    return "allow"
