"""One HTTP exchange with an upstream, held to a deadline from the first packet to the last byte.

The timeouts of requests bound a single read: a server that sends a byte now and then, be it of its
headers or of its body, is never cut off by them. Here a timer shuts the connection down at the
deadline, whatever it is waiting for. Only the system's name resolution is bound by its own limits.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from http.client import HTTPException
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ReadTimeoutError

from thumbnailer.errors import UpstreamError, UpstreamFailed, UpstreamTimeout
from thumbnailer.model import Deadline

CHUNK_BYTES = 65536

#: One address of a host gets this long to accept a connection, so that a dead one leaves time for the next.
CONNECT_SECONDS = 5.0

#: What a broken exchange raises.
_FAULTS = (requests.RequestException, HTTPError, HTTPException, OSError)

#: What http.client raises besides, in the thread that reads while another one closes.
_CLOSING_FAULTS = (ValueError, AttributeError)


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
        self._timer = threading.Timer(deadline.remaining_seconds(), self._strike)
        self._timer.daemon = True

    def arm(self) -> None:
        self._timer.start()

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


#: The exchange that this thread is in; urllib3 offers no other way to tell a connection.
_current: ContextVar[Cutoff] = ContextVar("cutoff")


class _Connection(HTTPConnection):
    _follower: Cutoff | None = None

    def _new_conn(self) -> socket.socket:
        connection = _connect(self._dns_host, self.port or self.default_port, _current.get().deadline)
        try:
            _current.get().follow(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def request(self, *args: Any, **kwargs: Any) -> None:
        if self._follower is not None:
            self._follower.release()  # the answer before this one ended; its deadline is not ours
            if self._follower.has_struck:
                self.close()
        self._follower = _current.get()
        if self.sock is not None:
            self._follower.follow(self.sock)
        super().request(*args, **kwargs)


class _TLSConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


def _connect(host: str, port: int, deadline: Deadline) -> socket.socket:
    failure: OSError = OSError("no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.settimeout(min(CONNECT_SECONDS, deadline.remaining_seconds()))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}


class UpstreamSession(requests.Session):
    """The process's pooled connections to upstreams.

    It takes nothing from the environment (proxies, ``.netrc``), keeps no cookie, follows no redirect
    and asks for unencoded bodies, so that a Content-Length is that of the picture.
    ``pool_size`` connections to each upstream are kept open.
    """

    def __init__(self, pool_size: int = 32) -> None:
        super().__init__()
        self.trust_env = False
        self.headers = CaseInsensitiveDict(
            {"User-Agent": "thumbnailer", "Accept": "*/*", "Accept-Encoding": "identity"}
        )
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter(pool_maxsize=pool_size))

    def get_redirect_target(self, resp: requests.Response) -> None:
        """None: requests would otherwise read a redirect's whole body, followed or not."""


class Exchange:
    """An upstream's answer: status, headers, and an ``UpstreamBody``.

    Iterating raises ``UpstreamTimeout`` once the deadline has passed and ``UpstreamFailed`` when the
    body ends before the Content-Length or the last chunk that was promised (RFC 9112, section 8).
    """

    def __init__(self, response: requests.Response, cutoff: Cutoff, provider: str) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.length: int | None = response.raw.length_remaining
        self._response = response
        self._cutoff = cutoff
        self._provider = provider
        self._is_complete = False
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            while chunk := self._response.raw.read1(CHUNK_BYTES, decode_content=False):
                self._refuse_if_cut()
                yield chunk
            self._refuse_if_cut()
        except (*_FAULTS, *_CLOSING_FAULTS) as fault:
            if not self._is_closed and not isinstance(fault, _FAULTS):
                raise
            self.close()
            raise _upstream_fault(fault, self._cutoff, self._provider) from fault
        self._is_complete = True
        self._cutoff.release()

    def close(self) -> None:
        """Give the connection back; one whose answer was not read to its end is dropped."""
        self._is_closed = True
        if not self._is_complete:
            self._cutoff.cut()
            self._response.close()
        self._cutoff.release()

    def _refuse_if_cut(self) -> None:
        if self._cutoff.has_struck or self._is_closed:
            raise ConnectionAbortedError


def begin_exchange(
    session: UpstreamSession, request: requests.Request, deadline: Deadline, provider: str
) -> Exchange:
    """Send a request and return as soon as the answer's headers are there.

    Raises:
        UpstreamTimeout: the deadline passed.
        UpstreamFailed: the connection was refused or reset, or what came is not HTTP.
    """
    seconds = deadline.remaining_seconds()
    if seconds == 0:
        raise UpstreamTimeout(f"No time was left to call the provider {provider}.", provider=provider)
    cutoff = Cutoff(deadline)
    entered = _current.set(cutoff)
    cutoff.arm()
    try:
        prepared = session.prepare_request(request)
        response = session.send(prepared, stream=True, allow_redirects=False, timeout=seconds)
    except _FAULTS as fault:
        cutoff.release()
        raise _upstream_fault(fault, cutoff, provider) from fault
    finally:
        _current.reset(entered)
    return Exchange(response, cutoff, provider)


def _upstream_fault(fault: Exception, cutoff: Cutoff, provider: str) -> UpstreamError:
    if cutoff.has_struck or isinstance(fault, requests.ReadTimeout | ReadTimeoutError):
        return UpstreamTimeout(f"The provider {provider} did not answer in time.", provider=provider)
    return UpstreamFailed(f"The connection to the provider {provider} failed.", provider=provider)
