"""What the tests of outgoing sessions share: sites on loopback addresses, and sessions that reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from tests.support.fetching import NAMES, OK, Behaviour, Fetching
from tests.support.small_web import ChangingAnswers, Reply, SmallWeb, running_small_web


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallWeb]:
    with running_small_web(tmp_path_factory.mktemp("web"), lambda _: Reply(), names=NAMES) as web:
        yield web


@pytest.fixture
def fetching(web: SmallWeb) -> Iterator[Callable[..., Fetching]]:
    """Makes sessions in which the sites answer by ``behaviour`` and names resolve by ``answers``."""
    made: list[Fetching] = []

    def make(
        behaviour: Behaviour = lambda _: Reply(),
        answers: Mapping[str, Sequence[Sequence[str]]] = OK,
        *,
        exceptions: str = "",
        **internet: Any,
    ) -> Fetching:
        for site in (web.plain, web.secure):
            site.reply = behaviour
            site.seen.clear()
        made.append(Fetching(web, web.internet(**internet), ChangingAnswers(answers), exceptions))
        return made[-1]

    yield make
    for one in made:
        one.session.close()
