"""HTTP connections that end at a deadline, whatever they are waiting for.

The timeouts of requests bound a single read: a server that sends a byte now and then, be it of its
headers or of its body, is never cut off by them. Here a timer shuts the connection down at the
deadline. Who is dialled is the caller's choice.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from thumbnailer.bounded_calls import BoundedCalls, start
from thumbnailer.model import Deadline

CHUNK_BYTES = 65536

#: One address of a host gets this long to accept a connection, so that a dead one leaves time for the next.
CONNECT_SECONDS = 5.0

#: A look-up gets this long, and so many run at once; what hangs in the system keeps its place.
LOOKUP_SECONDS = 5.0
LOOKUPS_AT_ONCE = 16

#: On a connection on which nobody has asked anything for so long, nobody asks again: firewalls forget it,
#: some without a word, and the request would wait for an answer to the end of its time.
IDLE_SECONDS = 60.0

#: What a broken exchange raises.
WIRE_FAULTS = (requests.RequestException, HTTPError, HTTPException, OSError)

#: Opens a connection to a host (a name or an address without brackets) and port; raises OSError.
Dial = Callable[[str, int, Deadline], socket.socket]


class Cutoff:
    """Shuts a connection down when a deadline passes.

    It works on a duplicate of the socket, so that it never meets a file descriptor that has been
    closed and given to somebody else.
    """

    def __init__(self, deadline: Deadline) -> None:
        self.deadline = deadline
        self.has_struck = False
        self._lock = threading.Lock()
        self._wire: socket.socket | None = None
        self._timer = self._new_timer()

    def arm(self) -> None:
        """Begin to watch over the time. Raises Overloaded where no further thread can be started."""
        start(self._timer)

    def _new_timer(self) -> threading.Timer:
        timer = threading.Timer(self.deadline.remaining_seconds(), self._strike)
        timer.daemon = True
        return timer

    def extend(self, deadline: Deadline) -> None:
        """Strike at this deadline instead; too late where it has struck already. Raises as ``arm`` does."""
        self._timer.cancel()
        self.deadline = deadline
        self._timer = self._new_timer()
        if not self.has_struck:
            self.arm()

    def follow(self, connection: socket.socket) -> None:
        """Watch this connection from now on; raises TimeoutError when the deadline has passed."""
        with self._lock:
            if self.has_struck:
                raise TimeoutError
            self._drop_wire()
            self._wire = socket.socket(fileno=os.dup(connection.fileno()))

    def cut(self) -> None:
        """Shut the connection down now; a thread that is reading from it wakes up."""
        with self._lock:
            if self._wire is not None:
                with suppress(OSError):  # the other side was faster
                    self._wire.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Leave the connection alone for good."""
        self._timer.cancel()
        with self._lock:
            self._drop_wire()

    def _strike(self) -> None:
        with self._lock:
            self.has_struck = True
        self.cut()

    def _drop_wire(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


@dataclass(frozen=True, slots=True)
class _Crossing:
    cutoff: Cutoff
    dial: Dial


#: The exchange that this thread is in; urllib3 offers no other way to tell a connection.
_current: ContextVar[_Crossing] = ContextVar("crossing")


@contextmanager
def crossing(cutoff: Cutoff, dial: Dial) -> Iterator[None]:
    """Within the block this thread's connections are opened by ``dial`` and followed by ``cutoff``.

    Outside of any such block a ``BareSession`` connects to nobody.
    """
    entered = _current.set(_Crossing(cutoff, dial))
    try:
        yield
    finally:
        _current.reset(entered)


class _Connection(HTTPConnection):
    _follower: Cutoff | None = None
    _asked_at = 0.0

    def _new_conn(self) -> socket.socket:
        current = _current.get()
        port = self.port or self.default_port
        connection = current.dial(self._dns_host.strip("[]"), port, current.cutoff.deadline)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            current.cutoff.follow(connection)
        except BaseException:
            connection.close()
            raise
        self._asked_at = time.monotonic()
        return connection

    def request(self, *args: Any, **kwargs: Any) -> None:
        cutoff = _current.get().cutoff
        if self._follower is not None and self._follower is not cutoff:
            self._follower.release()  # the answer before this one ended; its deadline is not ours
            if self._follower.has_struck:
                self.close()
        if time.monotonic() > self._asked_at + IDLE_SECONDS:
            self.close()
        self._asked_at = time.monotonic()
        self._follower = cutoff
        if self.sock is not None:
            self._follower.follow(self.sock)
        super().request(*args, **kwargs)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}


class BareSession(requests.Session):
    """A requests session that does nothing unasked; its connections live in ``crossing`` blocks.

    It takes nothing from the environment (proxies, ``.netrc``), keeps no cookie, follows no redirect,
    sends ``headers`` and nothing else. ``pool_size`` connections to each host are kept open.
    """

    def __init__(self, headers: Mapping[str, str], *, pool_size: int) -> None:
        super().__init__()
        self.trust_env = False
        self.headers = CaseInsensitiveDict(headers)
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(pool_maxsize=pool_size))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would otherwise read a redirect's whole body, followed or not."""


class NamedDial:
    """Connects to whatever the system finds for a host, for hosts that an operator configured."""

    def __init__(self) -> None:
        self._lookups = BoundedCalls(LOOKUPS_AT_ONCE)

    def __call__(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        """A connection to the first address that accepts one.

        Raises:
            Overloaded: too many names are being looked up.
            OSError: nobody is there, or not in time.
        """
        failure: OSError = OSError("no address")
        for family, kind, protocol, _, address in self._find(host, port, deadline):
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(min(CONNECT_SECONDS, deadline.remaining_seconds()))
                connection.connect(address)
            except OSError as error:
                connection.close()
                failure = error
            else:
                return connection
        raise failure

    def _find(self, host: str, port: int, deadline: Deadline) -> list[Any]:
        seconds = min(LOOKUP_SECONDS, deadline.remaining_seconds())
        return self._lookups.run(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM), seconds)
