"""A real HTTP server that plays an upstream: it records every request and misbehaves on request.

::

    with Upstream() as upstream:
        upstream.behave(json_error(429, {"message": "slow down"}, ("Retry-After", "7")), image("png"))
        ...                                     # the first call gets the error, every later one the picture
        assert upstream.requests[0].header("X-API-Key") == "key"

Without ``behave`` it answers as the three vendors do (``tests/support/vendors.py``); the ways to
misbehave are in ``tests/support/answers.py``.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import struct
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.support.answers import Answer, Behaviour, Received
from tests.support.vendors import play_vendors


class Upstream:
    """The server, on a free port of 127.0.0.1, from construction until ``close``.

    ``behave`` takes what the next calls get, in order; the last goes on for ever. A callable is asked
    with each request. ``requests`` are all that came so far.
    """

    def __init__(self, behaviour: Behaviour = play_vendors, *, tls: ssl.SSLContext | None = None) -> None:
        self._lock = threading.Lock()
        self._plan: list[Behaviour] = [behaviour]
        self._requests: list[Received] = []
        self._connections: set[socket.socket] = set()
        self._connection_count = 0
        self._stopping = threading.Event()
        self._tls = tls
        self._server = _Server(self._serve)
        port = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def requests(self) -> tuple[Received, ...]:
        with self._lock:
            return tuple(self._requests)

    @property
    def connection_count(self) -> int:
        """How many connections were opened so far."""
        with self._lock:
            return self._connection_count

    def behave(self, *behaviours: Behaviour) -> None:
        """Treat the calls from now on like this, and forget those that came before."""
        assert behaviours
        with self._lock:
            self._plan = list(behaviours)
            self._requests = []

    def close(self) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):  # it is closed already
            self._server.socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for the next connection
        self._thread.join()
        self._server.server_close()
        with self._lock:
            connections = list(self._connections)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _accept(self) -> None:
        """Without the polling of ``serve_forever``, whose next turn each close would wait for."""
        while not self._stopping.is_set():
            self._server.handle_request()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a body waits for no one's receipt
        with self._lock:
            self._connection_count += 1
            self._connections.add(connection)
        try:
            with contextlib.suppress(OSError):
                wire = self._tls.wrap_socket(connection, server_side=True) if self._tls else connection
                with wire, wire.makefile("rb") as stream:
                    while (received := _read_request(stream)) and self._answer(wire, received):
                        pass
        finally:
            with self._lock:
                self._connections.discard(connection)

    def _answer(self, wire: socket.socket, received: Received) -> bool:
        """Answer one request; whether the connection may be used again."""
        with self._lock:
            self._requests.append(received)
            behaviour = self._plan.pop(0) if len(self._plan) > 1 else self._plan[0]
        answer = behaviour if isinstance(behaviour, Answer) else behaviour(received)
        if answer.is_silent:
            self._stopping.wait()
            return False
        if answer.resets:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        head = answer.head()
        for piece in (head[at : at + 1] for at in range(len(head))) if answer.head_pause else (head,):
            wire.sendall(piece)
            if answer.head_pause and self._stopping.wait(answer.head_pause):
                return False
        return self._send_body(wire, answer) and not answer.ends_connection

    def _send_body(self, wire: socket.socket, answer: Answer) -> bool:
        is_chunked = answer.length is None and not answer.is_unframed
        sent = 0
        for chunk in answer.chunks():
            if answer.cut_after is not None and sent >= answer.cut_after:
                return False
            wire.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk) if is_chunked else chunk)
            sent += len(chunk)
            if self._stopping.is_set() or (answer.body_pause and self._stopping.wait(answer.body_pause)):
                return False
        if is_chunked:
            wire.sendall(b"0\r\n\r\n")
        return True


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve_connection = serve
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        self._serve_connection(request)

    def shutdown_request(self, request: Any) -> None:
        with contextlib.suppress(OSError):
            request.close()


def _read_request(stream: Any) -> Received | None:
    lines = []
    while (line := stream.readline(65536)) not in (b"\r\n", b""):
        lines.append(line)
    if not line or not lines:
        return None
    method, target, version = lines[0].decode("ascii").rstrip("\r\n").split(" ")
    assert version == "HTTP/1.1"
    headers = []
    for raw in lines[1:]:
        name, _, value = raw.decode("latin-1").rstrip("\r\n").partition(":")
        headers.append((name, value.strip(" ")))
    length = sum(int(value) for name, value in headers if name.lower() == "content-length")
    head = b"".join(lines) + b"\r\n"
    return Received(method, target, tuple(headers), stream.read(length), head)
