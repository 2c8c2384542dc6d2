"""Fetching what a caller has named: webhooks, sitemaps, and whatever else is not the operator's choice.

Checking a URL and then handing it to an HTTP client checks nothing: the client looks the name up
again, and follows redirects to anywhere. Here the check is part of connecting. Each connection looks
its host up once, requires every answer to be allowed by the guard, dials those very addresses, and
asks the socket whom it has reached. Names stay what TLS verifies.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urljoin

import requests

from thumbnailer.addresses import parse_address
from thumbnailer.errors import InvalidTarget, TargetForbidden, TargetUnreachable
from thumbnailer.guard import Guard
from thumbnailer.model import Deadline
from thumbnailer.target import Target
from thumbnailer.wire import CHUNK_BYTES, CONNECT_SECONDS, WIRE_FAULTS, BareSession, Cutoff, crossing

MAX_REDIRECTS = 5

#: A timeout of 0 would mean something else to a socket.
SHORTEST_SECONDS = 0.001

REDIRECTS = frozenset({301, 302, 303, 307, 308})

#: What a request keeps when a redirect leads to another origin. A list of what to drop would miss
#: the next service's name for its key.
HARMLESS_HEADERS = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})

# As RFC 3986, 3.1, has it: with a scheme, a Location is whole and is not joined to anything.
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_UNSEEN = re.compile(r"[\x00-\x20\x7f]")

#: Connects to an address and port within so many seconds; raises OSError.
Connect = Callable[[str, int, float], socket.socket]


def connect_tcp(address: str, port: int, timeout_seconds: float) -> socket.socket:
    """A TCP connection to an IP address. Raises OSError."""
    return socket.create_connection((address, port), timeout=timeout_seconds)


@dataclass(frozen=True, slots=True)
class FetchedAnswer:
    """An answer, whole: ``headers`` ignore case; ``body`` is as it was sent, still encoded if at all;
    ``url`` is the one that answered after all redirects.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str


@dataclass(frozen=True, slots=True)
class _Hop:
    method: str
    target: Target
    headers: Mapping[str, str]
    body: bytes | None

    def redirected(self, status: int, target: Target) -> _Hop:
        """The next request, by the rules that browsers follow (RFC 9110, 15.4).

        From https to http is followed as any other redirect, but is another origin.
        """
        headers, method, body = dict(self.headers), self.method, self.body
        if (status == 303 and method != "HEAD") or (status in (301, 302) and method == "POST"):
            method, body = "GET", None
            headers = {name: text for name, text in headers.items() if not _describes_body(name)}
        if _origin(target) != _origin(self.target):
            headers = {name: text for name, text in headers.items() if name.lower() in HARMLESS_HEADERS}
        return _Hop(method, target, headers, body)


def _describes_body(header: str) -> bool:
    return header.lower().startswith("content-")


def _origin(target: Target) -> tuple[str, str, int]:
    return target.scheme, target.host, target.port


class GuardedSession:
    """Sends requests to public addresses only; safe to use from many threads.

    ``connect`` opens the connections; ``ca_bundle`` is a PEM file of the authorities to trust instead
    of the usual ones. Nothing is taken from the environment: no proxy, no ``.netrc``.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        connect: Connect = connect_tcp,
        ca_bundle: str | None = None,
        pool_size: int = 4,
    ) -> None:
        self._guard = guard
        self._connect = connect
        # Encodings are declined: a few bytes of gzip can unfold to any size.
        self._session = BareSession(
            {"User-Agent": "thumbnailer", "Accept": "*/*", "Accept-Encoding": "identity"}, pool_size=pool_size
        )
        self._session.verify = ca_bundle or True

    def fetch(
        self,
        method: str,
        url: str,
        *,
        deadline: Deadline,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        max_redirects: int = MAX_REDIRECTS,
    ) -> FetchedAnswer:
        """Send a request and read the whole answer, of at most ``max_bytes``, before ``deadline``.

        Up to ``max_redirects`` redirects are followed, each checked as the first URL was; with 0 a
        redirect is an answer like any other. ``body`` is the request's. Where a redirect leads to
        another origin, ``headers`` are cut down to ``HARMLESS_HEADERS``, and stay so.

        Raises:
            InvalidTarget, TargetForbidden: the URL or one that it leads to is not visited.
            TargetUnreachable: no whole answer came in time, it was too long, or it redirected too often.
            Overloaded: there is no thread for it.
        """
        hop = _Hop(method.upper(), self._guard.parse(url), dict(headers or {}), body)
        cutoff = Cutoff(deadline)
        cutoff.arm()
        try:
            with crossing(cutoff, self._dial):
                return self._follow(hop, cutoff, max_bytes, max_redirects)
        except WIRE_FAULTS as fault:
            raise _unreachable(fault, cutoff) from fault
        finally:
            cutoff.release()

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    def _follow(self, hop: _Hop, cutoff: Cutoff, max_bytes: int, max_redirects: int) -> FetchedAnswer:
        for _ in range(max_redirects + 1):
            with self._send(hop, cutoff.deadline) as response:
                location = _location(response) if max_redirects else None
                if location is None:
                    body = _read(response, cutoff, max_bytes)
                    return FetchedAnswer(response.status_code, response.headers, body, hop.target.url)
            hop = hop.redirected(response.status_code, self._guard.parse(_join(hop.target, location)))
        raise TargetUnreachable("The target redirects too often.")

    def _send(self, hop: _Hop, deadline: Deadline) -> requests.Response:
        if deadline.has_passed():
            raise TimeoutError
        request = requests.Request(hop.method, hop.target.url, headers=dict(hop.headers), data=hop.body)
        prepared = self._session.prepare_request(request)
        seconds = max(SHORTEST_SECONDS, deadline.remaining_seconds())
        return self._session.send(prepared, stream=True, allow_redirects=False, timeout=seconds)

    def _dial(self, host: str, port: int, deadline: Deadline) -> socket.socket:
        """Check and connect in one; the host is the one that the connection is really for."""
        shown_host = f"[{host}]" if ":" in host else host
        target = self._guard.parse(f"https://{shown_host}:{port}/")
        failure = OSError("no address")
        for address in self._guard.check(target, deadline):
            try:
                seconds = max(SHORTEST_SECONDS, min(CONNECT_SECONDS, deadline.remaining_seconds()))
                connection = self._connect(address, port, seconds)
            except OSError as error:
                failure = error
            else:
                return _with_expected_peer(connection, address)
        raise failure


def _with_expected_peer(connection: socket.socket, address: str) -> socket.socket:
    """The connection, if it has reached ``address``; something between may have led it elsewhere."""
    try:
        reached = parse_address(connection.getpeername()[0])
    except OSError:  # it is gone again
        connection.close()
        raise
    if reached != parse_address(address):
        connection.close()
        raise TargetForbidden("The target is not a public web address.")
    return connection


def _location(response: requests.Response) -> str | None:
    """Where an answer redirects to, None where it does not.

    Raises:
        InvalidTarget: it says so more than once, or not in characters that mean the same to everybody.
    """
    locations = response.raw.headers.getlist("Location")
    if response.status_code not in REDIRECTS or not locations:
        return None
    try:
        # http.client reads headers as Latin-1; where they are not ASCII, they are UTF-8 in practice.
        location = str(locations[0]).encode("latin-1").decode()
    except UnicodeError as error:
        raise InvalidTarget("The target redirects to a malformed URL.") from error
    if len(set(locations)) > 1 or _UNSEEN.search(location):
        raise InvalidTarget("The target redirects to a malformed URL.")
    return location


def _join(base: Target, location: str) -> str:
    return location if _SCHEME.match(location) else urljoin(base.url, location)


def _read(response: requests.Response, cutoff: Cutoff, max_bytes: int) -> bytes:
    body = bytearray()
    while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
        body += chunk
        if len(body) > max_bytes:
            raise TargetUnreachable(f"The target's answer is longer than {max_bytes} bytes.")
    if cutoff.has_struck:  # a body without a length ends where the connection does
        raise TimeoutError
    return bytes(body)


def _unreachable(fault: Exception, cutoff: Cutoff) -> TargetUnreachable:
    if cutoff.has_struck or isinstance(fault, TimeoutError | requests.Timeout):
        return TargetUnreachable("The target did not answer in time.")
    if isinstance(fault, requests.exceptions.SSLError):
        return TargetUnreachable("The target's certificate or encryption is not valid.")
    return TargetUnreachable("The target could not be reached.")
