"""Connections whose answer is being made for another just now: the same request, asked a moment earlier.

The first who sends a request leads, in a thread of the pool. Who sends the same meanwhile is held here,
without a thread, until the leader's answer begins: then it is in memory, as a rule, or soon will be.
Varnish's waiting list and nginx's ``proxy_cache_lock`` do the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any

from blueprints.waiting import IS_TURNED_AWAY
from wiring.fast_path import Key, PlainRequest
from wiring.web_worker import Connection

#: Nobody relies on the first leader for longer: it may be lost, or take a capture that has been purged
#: meanwhile. Each who leads after it is given twice as long: a crowd is to take up few threads.
TRUSTED_SECONDS = 2.0

#: How often a request is held at most: behind the one that takes the capture, and behind the first
#: that finds it in the cache.
HOLDS = 2


@dataclass(slots=True)
class Asked:
    """A request in plain form that memory has no answer to: as it was read, and as it came."""

    request: PlainRequest
    received: bytes
    begun_at: float
    holds_left: int = HOLDS
    was_held: bool = False

    @property
    def key(self) -> Key:
        return self.request.key(self.request.accept)


class Outcome(Enum):
    """What the answer of who led means to those who were held: it is new, and in no memory yet; it was
    refused to the leader alone; or it is all that there will be.
    """

    NEW = auto()
    TURNED_AWAY = auto()
    KNOWN = auto()


def outcome_of(environ: dict[str, Any], headers: list[tuple[str, str]]) -> Outcome:
    """What an answer means that begins with these headers."""
    if environ.get(IS_TURNED_AWAY):
        return Outcome.TURNED_AWAY
    return Outcome.NEW if ("X-Cache", "MISS") in headers else Outcome.KNOWN


@dataclass(slots=True)
class _Group:
    """Who leads, since when, on the monotonic clock, and who is held.

    After ``patience_seconds`` another leads. ``earlier`` led before, and have no answer yet.
    """

    leader: Connection
    since: float
    patience_seconds: float = TRUSTED_SECONDS
    held: list[Connection] = field(default_factory=list)
    earlier: list[Connection] = field(default_factory=list)


class WaitingList:
    """Groups of connections with the same request; for one thread, but for ``has_company``.

    At most ``places`` are held in all.
    """

    def __init__(self, *, places: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._free_places = places
        self._clock = clock
        self._groups: dict[Key, _Group] = {}

    def join(self, key: Key, conn: Connection) -> bool:
        """Hold a connection behind the leader of its request, and say so.

        Where nobody leads, it does from now on; where all places are taken, it has nothing to do with them.
        """
        group = self._groups.setdefault(key, _Group(conn, self._clock()))
        if group.leader is conn or not self._free_places:
            return False
        group.held.append(conn)
        self._free_places -= 1
        return True

    def has_company(self, key: Key, leader: Connection) -> bool:
        """Whether anybody is held behind ``leader``; to be asked from any thread."""
        group = self._groups.get(key)
        if group is None or not group.held:
            return False
        return group.leader is leader or leader in group.earlier

    def leave(self, key: Key, leader: Connection) -> list[Connection]:
        """Those who were held behind ``leader``, who begins to answer or will not; none if that is known."""
        group = self._groups.get(key)
        if group is None:
            return []
        if group.leader is not leader:
            if leader in group.earlier:
                group.earlier.remove(leader)
            return []
        del self._groups[key]
        self._free_places += len(group.held)
        return group.held

    def step_back(self, key: Key, leader: Connection) -> list[Connection]:
        """The same for a leader who was turned away, which says nothing of what the others will get.

        Where somebody led before and is still at it, that one leads again.
        """
        group = self._groups.get(key)
        if group is not None and group.leader is leader and group.earlier:
            group.leader = group.earlier.pop()
            return []
        return self.leave(key, leader)

    def relieve(self) -> Iterator[Connection]:
        """The next of each group whose leader takes long: it leads from now on, and sees for itself."""
        now = self._clock()
        for key, group in list(self._groups.items()):
            if group.since >= now - group.patience_seconds:
                continue
            if group.held:
                group.earlier.append(group.leader)
                group.leader, group.since = group.held.pop(0), now
                group.patience_seconds *= 2
                self._free_places += 1
                yield group.leader
            else:
                del self._groups[key]
