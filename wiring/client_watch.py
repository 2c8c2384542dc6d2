"""Holds clients to their time: to send a request, and to take the answer.

A thread that reads from a client, or writes to one, waits for as long as the client likes. Here each
exchange has a moment after which its connection is shut down, which wakes the thread up.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, Protocol

from blueprints.waiting import MORE_TIME


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientBounds:
    """How long a client may take, in seconds, and how much it may send, in bytes.

    ``request_seconds`` for a whole request, from its first byte to its last. ``answer_seconds`` from then
    until the whole answer is taken, so it includes the making of it. A longer body than
    ``max_body_bytes`` is nobody's to read.
    """

    request_seconds: float
    answer_seconds: float
    max_body_bytes: int

    def takes_body(self, length: str | None, transfer_encoding: str | None) -> bool:
        """Whether a body is read that says this of itself; the server has seen that a length is a number."""
        return transfer_encoding is None and int(length or 0) <= self.max_body_bytes


class Wire(Protocol):
    """What is needed of a client's socket."""

    def send(self, data: bytes, flags: int = 0, /) -> int: ...

    def shutdown(self, how: int, /) -> None: ...


@dataclass(frozen=True, slots=True)
class _Exchange:
    wire: Wire
    until: float
    is_received: bool


class ClientWatch:
    """The exchanges under way, one for each thread.

    ``farewell`` is what a client is sent that does not finish its request; ``clock`` gives seconds.
    Threads attend to clients; one other thread calls ``cut_overdue`` now and then.
    """

    def __init__(
        self,
        bounds: ClientBounds,
        *,
        farewell: Callable[[], bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.bounds = bounds
        self._farewell = farewell
        self._clock = clock
        self._exchanges: dict[int, _Exchange] = {}

    @contextmanager
    def attending(self, wire: Wire) -> Iterator[None]:
        """Watch over what this thread does with a client for the length of the block."""
        thread = threading.get_ident()
        self._exchanges[thread] = _Exchange(
            wire, self._clock() + self.bounds.request_seconds, is_received=False
        )
        try:
            yield
        finally:
            self._exchanges.pop(thread, None)

    def received(self) -> None:
        """The request that this thread attends to is whole: from now on the answer's time runs."""
        thread = threading.get_ident()
        exchange = self._exchanges.get(thread)
        if exchange is not None:
            until = self._clock() + self.bounds.answer_seconds
            self._exchanges[thread] = _Exchange(exchange.wire, until, is_received=True)

    def extend(self, seconds: float) -> None:
        """Give the client that this thread attends to more time to take its answer."""
        thread = threading.get_ident()
        exchange = self._exchanges.get(thread)
        if exchange is not None:
            self._exchanges[thread] = replace(exchange, until=exchange.until + seconds)

    def cut_overdue(self) -> None:
        """Shut down the connections whose time is up; their threads wake up with an error."""
        now = self._clock()
        for exchange in list(self._exchanges.values()):
            if exchange.until < now:
                with contextlib.suppress(OSError):  # it is gone already
                    if not exchange.is_received:
                        exchange.wire.send(self._farewell(), socket.MSG_DONTWAIT)
                    exchange.wire.shutdown(socket.SHUT_RDWR)


class PromptBodies:
    """A WSGI application whose requests' bodies are all there before it is called.

    So a client that sends slowly holds no resources of the application, and is held to its time.
    """

    def __init__(self, application: Any, watch: ClientWatch) -> None:
        self._application = application
        self._watch = watch

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        length = environ.get("CONTENT_LENGTH")
        if length and self._watch.bounds.takes_body(length, environ.get("HTTP_TRANSFER_ENCODING")):
            environ["wsgi.input"] = BytesIO(environ["wsgi.input"].read(int(length)))
        self._watch.received()
        environ[MORE_TIME] = self._watch.extend
        return self._application(environ, start_response)
