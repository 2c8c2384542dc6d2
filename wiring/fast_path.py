"""The fast path: an answer from the cache, given again to the same request without the application.

1. The application answers. What may be given again it leaves in the WSGI environment (a ``Replay``),
   and the ``Recorder`` around it keeps that with the answer's head, for a few seconds.
2. The next request is read as far as it can be read at a glance: a whole head of well-known fields
   in plain form, and nothing behind it. Whatever else there is goes to the application, as ever.
3. The same URL, with the same conditions, gets the same answer: as long as the picture is fresh,
   nothing was purged, the signature has not ended and the caller's allowance has something left. What
   has to be refused is refused by the application. The caller's name, the request's name and the
   moment are put in anew, and the request is logged and counted like all others.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Any

from gunicorn import SERVER
from gunicorn.util import http_date

from blueprints.callers import address_of
from blueprints.replays import ENVIRON_NAME, Replay
from blueprints.request_log import request_id_of
from thumbnailer.addresses import Network
from thumbnailer.telemetry import LogLines, log_facts

#: A request's head, whole, with nothing behind it: RFC 9112, in the form in which everybody writes it.
PLAIN_HEAD = re.compile(rb"(GET|HEAD) (/[\x21-\x7e]*) HTTP/1\.1\r\n((?:[A-Za-z0-9-]+:[\x20-\x7e]*\r\n)+)\r\n")
PLAIN_HOST = re.compile(rb"[A-Za-z0-9.-]+(?::\d{1,5})?")
MAX_FIELDS = 64

#: What an answer takes up beside its body, about: its head, twice, and what Python needs around it.
OVERHEAD_BYTES = 4096
#: Addresses of callers that are remembered as they were read.
MAX_ADDRESSES = 4096

#: Fields that answers depend on, and those that say who asks, as ``PlainRequest`` has them.
COUNTING_FIELDS = (b"if-none-match", b"if-modified-since", b"accept")
PLACED_FIELDS = (*COUNTING_FIELDS, b"x-forwarded-for", b"x-request-id")
#: The others that a request may have: none of them says anything about a picture from the cache.
KNOWN_FIELDS = frozenset(PLACED_FIELDS) | frozenset(
    b"""
    host connection user-agent accept-encoding accept-language accept-charset referer cookie
    cache-control pragma dnt origin priority purpose save-data upgrade-insecure-requests
    sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform
    sec-fetch-dest sec-fetch-mode sec-fetch-site sec-fetch-user sec-gpc sec-purpose
    x-forwarded-host x-forwarded-proto x-real-ip forwarded via traceparent tracestate
    """.split()
)

#: Stand in a recorded head for what each request has of its own.
REQUEST_ID, SERVER_TIMING = b"\0request-id", b"\0server-timing"

Headers = Sequence[tuple[str, str]]

#: What an answer goes by: method, target, If-None-Match, If-Modified-Since, and Accept where it counts.
Key = tuple[bytes, bytes, bytes, bytes, bytes | None]


@dataclass(slots=True)
class PlainRequest:
    """What counts of a request; a field that is not there is empty."""

    method: bytes
    target: bytes
    if_none_match: bytes = b""
    if_modified_since: bytes = b""
    accept: bytes = b""
    forwarded_for: bytes = b""
    request_id: bytes = b""

    def key(self, accept: bytes | None) -> Key:
        return (self.method, self.target, self.if_none_match, self.if_modified_since, accept)


def read_plainly(received: bytes) -> PlainRequest | None:
    """A request that came whole and in plain form; None for every other, be it right or wrong."""
    match = PLAIN_HEAD.fullmatch(received)
    if match is None:
        return None
    method, target, block = match.groups()
    lines = block.split(b"\r\n")[:-1]
    fields = {}
    for line in lines:
        name, _, value = line.partition(b":")
        fields[name.lower()] = value.strip(b" ")
    is_plain = (
        len(lines) == len(fields) <= MAX_FIELDS
        and fields.keys() <= KNOWN_FIELDS
        and PLAIN_HOST.fullmatch(fields.get(b"host", b""))
        and fields.get(b"connection", b"keep-alive").lower() == b"keep-alive"
        and all(fields[name] for name in COUNTING_FIELDS if name in fields)
    )
    if not is_plain:
        return None
    return PlainRequest(method, target, *(fields.get(name, b"") for name in PLACED_FIELDS))


def read_environ(environ: Mapping[str, Any]) -> PlainRequest | None:
    """The same of a request that the application has been given."""
    names = {name[5:].replace("_", "-").lower().encode() for name in environ if name.startswith("HTTP_")}
    if not names <= KNOWN_FIELDS or environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
        return None
    method, target = environ["REQUEST_METHOD"].encode(), environ["RAW_URI"].encode("latin-1")
    values = (environ.get("HTTP_" + name.decode().replace("-", "_").upper(), "") for name in PLACED_FIELDS)
    return PlainRequest(method, target, *(value.encode("latin-1") for value in values))


@dataclass(slots=True, eq=False)
class Recording:
    """An answer as it was given; ``headers`` are those of the application, in their order."""

    method: str
    status: str
    headers: Headers
    replay: Replay
    body: bytes
    log_facts: str
    recorded_at: float
    is_being_renewed: bool = False
    _second: int = -1
    _head: bytes = b""

    @property
    def size_bytes(self) -> int:
        """What it takes up, about."""
        return len(self.body) + OVERHEAD_BYTES

    def head(self, now: float) -> bytes:
        """The answer's head at ``now``, Unix time in seconds; made anew once a second."""
        if int(now) != self._second:
            self._head, self._second = self._write_head(now), int(now)
        return self._head

    def _write_head(self, now: float) -> bytes:
        own = {"X-Request-ID": REQUEST_ID.decode(), "Server-Timing": SERVER_TIMING.decode()}
        dated = {**self.replay.dated_headers(now), **own}
        lines = [
            f"HTTP/1.1 {self.status}",
            f"Server: {SERVER}",
            f"Date: {http_date(now)}",
            "Connection: keep-alive",
            *(f"{name}: {dated.get(name, value)}" for name, value in self.headers),
        ]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class AnswerMemory:
    """Answers of the last ``life_seconds``, of at most ``max_bytes``; safe to use from many threads.

    The first who asks for an answer in the last third of its life is sent to the application, so that a
    new one is there before it ends.
    """

    def __init__(
        self, *, life_seconds: float, max_bytes: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._life_seconds = life_seconds
        self._renewal_seconds = life_seconds * 2 / 3
        self._max_bytes = max_bytes
        self._clock = clock
        self._guard = threading.Lock()
        self._recordings: dict[Key, Recording] = {}
        self._size_bytes = 0

    def find(self, request: PlainRequest, now: float) -> Recording | None:
        """The answer to a request, where it is still a good one."""
        recordings = self._recordings
        found = recordings.get(request.key(None)) or recordings.get(request.key(request.accept))
        if found is None or now >= found.replay.good_until or not found.replay.is_current():
            return None
        age_seconds = now - found.recorded_at
        if not 0 <= age_seconds < self._life_seconds:
            return None
        if age_seconds > self._renewal_seconds and not found.is_being_renewed:
            found.is_being_renewed = True
            return None
        return found

    def keep(self, environ: Mapping[str, Any], status: str, headers: Headers, replay: Replay) -> None:
        """Keep the answer that the application is giving, if it could be given to a request in plain form."""
        request = read_environ(environ)
        if request is None or not status.startswith(("200", "304")):
            return
        facts = {
            "method": environ["REQUEST_METHOD"],
            "path": environ["PATH_INFO"].encode("latin-1").decode(errors="replace"),
            "status": int(status[:3]),
            **replay.facts,
        }
        body = replay.body if request.method == b"GET" and status.startswith("200") else b""
        recording = Recording(
            environ["REQUEST_METHOD"], status, headers, replay, body, log_facts(facts), self._clock()
        )
        varies = any(name == "Vary" for name, _ in headers)
        with self._guard:
            self._drop(key := request.key(request.accept if varies else None))
            self._recordings[key] = recording
            self._size_bytes += recording.size_bytes
            self._forget(recording.recorded_at - self._life_seconds)

    def _forget(self, before: float) -> None:
        """Drop what is over, and the oldest of what is too much."""
        for key, recording in list(islice(self._recordings.items(), 100)):
            if recording.recorded_at >= before and self._size_bytes <= self._max_bytes:
                return
            self._drop(key)

    def _drop(self, key: Key) -> None:
        recording = self._recordings.pop(key, None)
        if recording is not None:
            self._size_bytes -= recording.size_bytes


class Recorder:
    """A WSGI application around the service's own that keeps those of its answers that may be given again."""

    def __init__(self, application: Any, memory: AnswerMemory) -> None:
        self._application = application
        self._memory = memory

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            replay = environ.get(ENVIRON_NAME)
            if isinstance(replay, Replay):
                self._memory.keep(environ, status, headers, replay)
            return start_response(status, headers, exc_info)

        return self._application(environ, start)


class FastPath:
    """Answers from memory; for one thread, which never waits here.

    ``spend`` charges a caller by their address for an answer and says whether they had one left; ``count``
    counts what is given again, and after how many seconds where it was held; ``lines`` takes the lines of
    the log.
    """

    def __init__(
        self,
        memory: AnswerMemory,
        *,
        spend: Callable[[str], bool],
        count: Callable[[Recording, float | None], None],
        trusted_proxies: Sequence[Network],
        lines: LogLines,
    ) -> None:
        self._memory = memory
        self._spend = spend
        self._count = count
        self._lines = lines
        self._address = lru_cache(MAX_ADDRESSES)(
            lambda peer, forwarded_for: address_of(peer, forwarded_for.decode(), trusted_proxies)
        )

    def answer(
        self, request: PlainRequest, peer: str, *, held_since: float | None = None
    ) -> tuple[bytes, bytes] | None:
        """Head and body of the answer to a request; None where it is the application's to answer.

        ``held_since`` is when a request came that waited for the answer to another, on the monotonic clock.
        """
        started_at = time.monotonic()
        now = time.time()
        found = self._memory.find(request, now)
        if found is None or not self._spend(self._address(peer, request.forwarded_for)):
            return None
        request_id = request_id_of(request.request_id.decode())
        held_ms = 0.0 if held_since is None else (started_at - held_since) * 1000
        own_ms = (time.monotonic() - started_at) * 1000
        self._count(found, None if held_since is None else held_ms / 1000)
        self._lines.add_request(found.log_facts, request_id, held_ms + own_ms)
        timing = b"cache;dur=%.1f" % own_ms
        if held_since is not None:
            timing = b"wait;dur=%.1f, " % held_ms + timing
        head = found.head(now).replace(REQUEST_ID, request_id.encode(), 1)
        return head.replace(SERVER_TIMING, timing, 1), found.body


@dataclass(slots=True)
class Rest:
    """What a client has not taken yet, and the moment when it must have, on the monotonic clock."""

    content: memoryview
    until: float


def rest_of(head: bytes, body: bytes, sent: int) -> memoryview:
    """What of an answer has not been sent yet; once the head has, without a copy for each slow client."""
    return memoryview(body)[sent - len(head) :] if sent >= len(head) else memoryview(head + body)[sent:]
