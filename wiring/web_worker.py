"""gunicorn's worker, as this service runs it."""

from __future__ import annotations

import contextlib
import errno
import json
import selectors
import signal
import socket
import time
import uuid
from http import HTTPStatus
from types import FrameType
from typing import Any

import structlog
from gunicorn.http import errors
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import TConn, ThreadWorker

from blueprints.entrance import CLOSED_HEADERS
from blueprints.error_problems import STATUS_DETAILS
from blueprints.problems import PROBLEMS
from thumbnailer.cooldown import CoolDown
from wiring.client_watch import ClientBounds, ClientWatch, PromptBodies

#: A client that was told that the connection ends gets so long to end it, too (RFC 9112, 9.6).
LINGER_SECONDS = 2.0
DRAINED_BYTES = 65_536

#: What the system says where it has no file or memory for another connection: it may have some soon. To end
#: by that, as gunicorn would, helps nobody, and loses all that is under way.
NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
CROWDED_SECONDS = 0.5

#: What looks like a fault of the request to gunicorn, and is one of this service.
OURS = (errors.InvalidResponseHeader, errors.InvalidResponseHeaderName, errors.ConfigurationProblem)

#: What gunicorn refuses before the application hears of it; everything else is a bad request.
STATUS_OF_REFUSAL: tuple[tuple[type[Exception], int], ...] = (
    (errors.LimitRequestLine, 414),
    (errors.LimitRequestHeaders, 431),
    (errors.ExpectationFailed, 417),
)

#: What the master tells its workers to stop by, once.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGQUIT)

log = structlog.get_logger(__name__)


def hold_stop_signals() -> None:
    """Let signals to stop wait; called before a fork, for a new worker inherits handlers that lose them."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def release_stop_signals() -> None:
    """Hear signals to stop again, and those that have waited."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def refusal(status: int, request_id: str) -> bytes:
    """A whole HTTP answer with a problem document, for a request that never came to the application.

    It says nothing of the request, which is none that anybody could read.
    """
    kind = PROBLEMS["invalid-parameters" if status < 500 else "internal"]
    document = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": status,
        "detail": STATUS_DETAILS.get(status, kind.explanation),
        "request_id": request_id,
        "retryable": status >= 500 or status == HTTPStatus.REQUEST_TIMEOUT,
    }
    body = json.dumps(document).encode()
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Cache-Control": "no-store",
        "Connection": "close",
        "X-Request-ID": request_id,
        **CLOSED_HEADERS,
    }
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        *(f"{name}: {text}" for name, text in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class Connection(TConn):  # type: ignore[misc]  # gunicorn carries no types
    """A client's connection that is never waited for in the thread that accepts all others."""

    def __init__(self, worker: ServiceWorker, client_socket: Any, client: Any, server: Any) -> None:
        super().__init__(worker.cfg, client_socket, client, server)
        self.peer = str(client[0]) if isinstance(client, tuple) else ""
        self._worker = worker
        self._received = b""

    def init(self) -> None:
        super().init()
        if self._received:
            self.parser.unreader.unread(self._received)
            self._received = b""

    def give_back(self, received: bytes) -> None:
        """Let the parser find what has been read already."""
        self.data_ready = True
        if self.parser is None:
            self._received = received
        else:
            self.parser.unreader.unread(received)

    def close(self, graceful: bool = False) -> None:
        """End it; ``graceful`` leaves the client the time to take what was sent.

        gunicorn's own way waits for the client right here, up to two seconds for each, while nobody
        else is let in.
        """
        if graceful:
            self._worker.linger(self.sock)
        else:
            super().close()


class ServiceWorker(ThreadWorker):  # type: ignore[misc]  # gunicorn carries no types
    """Bounds what a client can take of it, refuses in problem documents, and stops without a hitch."""

    #: Set by the configuration, for gunicorn makes its workers by itself.
    client_bounds: ClientBounds

    wsgi: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.application: Any = None
        self._watch = ClientWatch(self.client_bounds, farewell=lambda: refusal(408, uuid.uuid4().hex))
        self._lingering: dict[Any, float] = {}
        self._crowded_until = 0.0
        self._complaints = CoolDown("Letting clients in", seconds=60)

    def load_wsgi(self) -> None:
        super().load_wsgi()
        self.application = self.wsgi
        self.wsgi = PromptBodies(self.application, self._watch)

    def accept(self, listener: Any) -> None:
        """Let a client in."""
        try:
            client_socket, client = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # another worker was faster, or the client thought better of it
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            self._complaints.complain(error)
            self._crowded_until = time.monotonic() + CROWDED_SECONDS
            self.set_accept_enabled(False)
            return
        self.nr_conns += 1
        self.admit(Connection(self, client_socket, client, listener.getsockname()))

    def set_accept_enabled(self, enabled: bool) -> None:
        """Let clients in or not; none just after there was no room for one. gunicorn asks again soon."""
        if not enabled or time.monotonic() >= self._crowded_until:
            super().set_accept_enabled(enabled)

    def admit(self, conn: Connection) -> None:
        """Serve a new client."""
        self.enqueue_req(conn)

    def handle(self, conn: Any) -> Any:
        """Serve one request, in a thread."""
        structlog.contextvars.clear_contextvars()  # what is left of the request before
        with self._watch.attending(conn.sock):
            return super().handle(conn)

    def handle_request(self, req: Any, conn: Any) -> Any:
        """Answer one request, and say that the connection ends where its body is not read.

        gunicorn says that it goes on, reads a part of the body, and closes it where there is more. A proxy
        that has kept it meanwhile loses the next request on it, which may be anybody's.
        """
        fields = dict(req.headers)
        if not self._watch.bounds.takes_body(fields.get("CONTENT-LENGTH"), fields.get("TRANSFER-ENCODING")):
            req.force_close()
        return super().handle_request(req, conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:  # noqa: ARG002  # gunicorn's signature
        """Answer a request that gunicorn cannot read, or that broke outside of the application.

        The log does not say what was in it: that may be anything.
        """
        request_id = uuid.uuid4().hex
        found = next((status for kind, status in STATUS_OF_REFUSAL if isinstance(exc, kind)), None)
        is_clients = isinstance(exc, errors.ParseException) and not isinstance(exc, OURS)
        status = found or (400 if is_clients else 500)
        facts = {"status": status, "error": type(exc).__name__, "request_id": request_id}
        if is_clients:
            log.info("request_unreadable", **facts)
        else:
            log.error("request_broke", exc_info=exc, **facts)
        with contextlib.suppress(OSError):
            client.sendall(refusal(status, request_id))

    def murder_pending(self) -> None:
        """Close every connection whose time is up; gunicorn calls this at least once a second."""
        super().murder_pending()
        self._watch.cut_overdue()
        now = time.monotonic()
        for client_socket in [one for one, until in self._lingering.items() if until < now]:
            self._end(client_socket)

    def linger(self, client_socket: Any) -> None:
        """Send no more, and close once the client has, or a little later.

        Closed at once, with something of the client's still unread, the kernel would reset the
        connection and the client might lose the end of the answer.
        """
        try:
            client_socket.settimeout(0)
            client_socket.shutdown(socket.SHUT_WR)
            self.poller.register(client_socket, selectors.EVENT_READ, self._drain)
        except (OSError, ValueError, KeyError):
            client_socket.close()
            return
        self.nr_conns += 1
        self._lingering[client_socket] = time.monotonic() + LINGER_SECONDS

    def _drain(self, client_socket: Any) -> None:
        """Throw away what still comes."""
        received = b""
        with contextlib.suppress(OSError):
            received = client_socket.recv(DRAINED_BYTES)
        if not received:
            self._end(client_socket)

    def _end(self, client_socket: Any) -> None:
        del self._lingering[client_socket]
        self.nr_conns -= 1
        self.poller.unregister(client_socket)
        client_socket.close()

    def init_signals(self) -> None:
        """Leave Ctrl-C to the master, who tells the workers to stop.

        A terminal sends it to everyone at once, and a worker that is told twice is interrupted
        while it closes what it holds. A function, because Chromium would inherit SIG_IGN.
        """
        super().init_signals()
        signal.signal(signal.SIGINT, lambda *_: None)
        release_stop_signals()

    def handle_quit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at once, leaving the thread pool to the interpreter's end.

        ThreadWorker shuts the pool down right here. Where the signal interrupts the main thread in
        ``submit``, that waits for ever for a lock which the main thread holds itself.
        """
        Worker.handle_quit(self, sig, frame)
