"""gunicorn's worker with the fast path: answers from memory are given by the thread that waits for clients.

So such an answer needs no thread of the pool, whatever those wait for, and is written without waiting:
what a client does not take at once is sent as it reads on. Nor does it take a thread to wait for an answer
that another request will have brought into memory (``waiting_list``).
"""

from __future__ import annotations

import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from gunicorn.workers.gthread import STOP_KEEPALIVE_LINGER

from blueprints.request_log import BEGUN_AT, HELD_SECONDS
from blueprints.services import EXTENSION, Services
from blueprints.waiting import HAS_COMPANY
from thumbnailer.addresses import Network
from thumbnailer.telemetry import LogLines
from thumbnailer.usage import Counted
from wiring.fast_path import AnswerMemory, FastPath, Recorder, Recording, Rest, read_plainly, rest_of
from wiring.waiting_list import Asked, Outcome, WaitingList, outcome_of
from wiring.web_worker import Connection, ServiceWorker

#: How often a busy worker looks for clients whose time is up, and tells the master that it lives.
UPKEEP_SECONDS = 0.25

#: Lines of the log that are written together at most, and how long one waits for others, in seconds.
LINES_AT_ONCE = 64
LINE_SECONDS = 0.1

#: The longest request that is looked at: as long as gunicorn's longest line, and some fields.
RECEIVED_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayBounds:
    """How long answers are given again, in seconds, and how much memory they take up at most, in bytes."""

    life_seconds: float
    max_bytes: int
    trusted_proxies: Sequence[Network]
    is_log_json: bool


class FastWorker(ServiceWorker):
    """Looks at each request before the pool does."""

    #: Set by the configuration, for gunicorn makes its workers by itself.
    replay_bounds: ReplayBounds

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._fast_path: FastPath | None = None
        self._settle: Callable[[], None] = lambda: None
        self._lines = LogLines(is_json=self.replay_bounds.is_log_json)
        self._resting: dict[Connection, Rest] = {}
        self._asked: dict[Connection, Asked] = {}
        self._waiting = WaitingList(places=self.max_keepalived // 2)
        self._attended = threading.local()
        self._sorted_at = self._looked_at = self._notified_at = self._flushed_at = 0.0

    def load_wsgi(self) -> None:
        super().load_wsgi()
        services: Services = self.application.extensions[EXTENSION]
        self._settle = services.metrics.settle
        bounds = self.replay_bounds
        if not bounds.life_seconds:
            return
        memory = AnswerMemory(life_seconds=bounds.life_seconds, max_bytes=bounds.max_bytes)
        self.wsgi = self._announcing(Recorder(self.wsgi, memory))
        self._fast_path = FastPath(
            memory,
            spend=services.allowance.spend_answer,
            count=partial(_count, services),
            trusted_proxies=bounds.trusted_proxies,
            lines=self._lines,
        )

    def admit(self, conn: Connection) -> None:
        """Wait for a new client's request here, not in a thread, and for no longer than it may take."""
        conn.timeout = time.monotonic() + self.client_bounds.request_seconds
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def on_pending_socket_readable(self, conn: Connection, client: Any) -> None:
        """Take a client's first request."""
        if self._answer(conn):
            self.pending_conns.remove(conn)
            if conn not in self._resting:
                self._keep(conn)
        else:
            super().on_pending_socket_readable(conn, client)

    def on_client_socket_readable(self, conn: Connection, client: Any) -> None:
        """Take a client's next request."""
        if not self._answer(conn):
            super().on_client_socket_readable(conn, client)
        elif conn in self._resting:
            self.keepalived_conns.remove(conn)
        else:
            conn.set_timeout()

    def _answer(self, conn: Connection) -> bool:
        """Answer a request from memory; False leaves it to the pool, with all that came of it."""
        if self._fast_path is None:
            return False
        try:
            received = conn.sock.recv(RECEIVED_BYTES)
        except OSError:
            return False
        request = read_plainly(received)
        if request is None:
            conn.give_back(received)
            return False
        asked = Asked(request, received, time.monotonic())
        if self._answer_from_memory(conn, asked):
            return True
        self._asked[conn] = asked
        return False

    def _answer_from_memory(self, conn: Connection, asked: Asked) -> bool:
        """False where it is the pool's to answer, for it may have to close the connection."""
        if self._fast_path is None or not self.alive or len(self.keepalived_conns) >= self.max_keepalived:
            return False
        held_since = asked.begun_at if asked.was_held else None
        answer = self._fast_path.answer(asked.request, conn.peer, held_since=held_since)
        if answer is None:
            return False
        self._send(conn, *answer)
        return True

    def enqueue_req(self, conn: Connection) -> None:
        """Send a request to the pool, or hold it where the same is there already."""
        asked = self._asked.get(conn)
        if asked is not None and asked.holds_left and self._waiting.join(asked.key, conn):
            asked.holds_left -= 1
            asked.was_held = True
        else:
            self._hand_over(conn)

    def _hand_over(self, conn: Connection) -> None:
        """Send a request to the pool, with what has been read of it."""
        asked = self._asked.get(conn)
        if asked is not None:
            conn.give_back(asked.received)
        super().enqueue_req(conn)

    def handle(self, conn: Connection) -> Any:
        """Serve one request, in a thread."""
        self._attended.conn = conn
        return super().handle(conn)

    def _announcing(self, application: Any) -> Any:
        """A WSGI application around another that says when the answer to a plain request begins."""

        def call(environ: dict[str, Any], start_response: Any) -> Any:
            conn = self._attended.conn
            asked = self._asked.get(conn)
            if asked is None:
                return application(environ, start_response)
            environ[BEGUN_AT] = asked.begun_at
            if asked.was_held:
                environ[HELD_SECONDS] = time.monotonic() - asked.begun_at
            environ[HAS_COMPANY] = partial(self._waiting.has_company, asked.key, conn)

            def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
                write = start_response(status, headers, exc_info)
                self.method_queue.defer(self._release, conn, outcome_of(environ, headers))
                return write

            return application(environ, start)

        return call

    def finish_request(self, conn: Connection, fs: Any) -> None:
        """Go on with a connection whose request has been answered, or never will be."""
        self._release(conn, Outcome.KNOWN)
        super().finish_request(conn, fs)

    def _release(self, leader: Connection, outcome: Outcome) -> None:
        """Go on with those who were held behind an answer."""
        asked = self._asked.pop(leader, None)
        if asked is None:
            return
        leave = self._waiting.step_back if outcome is Outcome.TURNED_AWAY else self._waiting.leave
        self._go_on(leave(asked.key, leader), outcome)

    def _go_on(self, held: list[Connection], outcome: Outcome) -> None:
        """Answer from memory, or send one to the pool and the others after it, else all of them."""
        for conn in held:
            asked = self._asked[conn]
            if outcome is Outcome.KNOWN:
                asked.holds_left = 0
            elif outcome is Outcome.TURNED_AWAY:
                asked.holds_left += 1  # that one was for nothing
            if not self._answer_from_memory(conn, asked):
                self.enqueue_req(conn)
                continue
            del self._asked[conn]
            if conn not in self._resting:
                self._keep(conn)

    def _send(self, conn: Connection, head: bytes, body: bytes) -> None:
        try:
            sent = conn.sock.sendmsg((head, body))
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # it has gone; reading from it will show that
        if sent < len(head) + len(body):
            until = time.monotonic() + self.client_bounds.answer_seconds
            self._resting[conn] = Rest(rest_of(head, body, sent), until)
            self._look_for(conn, selectors.EVENT_WRITE, self._send_rest)

    def _send_rest(self, conn: Connection, client: Any) -> None:
        rest = self._resting[conn]
        try:
            rest.content = rest.content[client.send(rest.content) :]
        except BlockingIOError:
            return
        except OSError:
            self._give_up(conn)
            return
        if not rest.content:
            del self._resting[conn]
            self._keep(conn)

    def _keep(self, conn: Connection) -> None:
        """Wait for the client's next request; not for long where the worker stops."""
        conn.set_timeout()
        if not self.alive:
            conn.timeout = min(conn.timeout, time.monotonic() + STOP_KEEPALIVE_LINGER)
        self.keepalived_conns.append(conn)
        self._look_for(conn, selectors.EVENT_READ, self.on_client_socket_readable)

    def _look_for(self, conn: Connection, event: int, act: Callable[[Connection, Any], None]) -> None:
        """Act when something can be read from a client, or written; who was held is not looked at yet."""
        if conn.sock in self.poller.get_map():
            self.poller.modify(conn.sock, event, partial(act, conn))
        else:
            self.poller.register(conn.sock, event, partial(act, conn))

    def _give_up(self, conn: Connection) -> None:
        self._resting.pop(conn, None)
        self.poller.unregister(conn.sock)
        self.nr_conns -= 1
        conn.close()

    def murder_keepalived(self, force: bool = False) -> None:
        """Close idle connections; the fast path renews their time without moving them in the line."""
        now = time.monotonic()
        if self.alive and not force and now < self._sorted_at + 1:
            return
        self._sorted_at = now
        self._settle()
        self.keepalived_conns: deque[Connection]
        self.keepalived_conns = deque(sorted(self.keepalived_conns, key=lambda conn: conn.timeout))
        super().murder_keepalived(force)

    def murder_pending(self) -> None:
        now = time.monotonic()
        if self.alive and now < self._looked_at + UPKEEP_SECONDS:
            return
        self._looked_at = now
        super().murder_pending()
        for conn in [conn for conn, rest in self._resting.items() if rest.until < now]:
            self._give_up(conn)
        for conn in self._waiting.relieve():
            self._hand_over(conn)

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        super().wait_for_and_dispatch_events(min(timeout, LINE_SECONDS) if len(self._lines) else timeout)
        now = time.monotonic()
        if len(self._lines) >= LINES_AT_ONCE or now >= self._flushed_at + LINE_SECONDS or not self.alive:
            self._lines.flush()
            self._flushed_at = now

    def notify(self) -> None:
        now = time.monotonic()
        if now >= self._notified_at + UPKEEP_SECONDS:
            self._notified_at = now
            super().notify()


def _count(services: Services, given: Recording, held_seconds: float | None) -> None:
    services.accounts.meter.count(given.replay.account, Counted.HITS, len(given.body))
    services.metrics.count_replay(given.replay.route, given.method, given.status[:3], held_seconds)
