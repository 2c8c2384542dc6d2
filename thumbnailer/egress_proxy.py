"""The browser's only road out: a small forward proxy that asks the guard about every connection.

What a browser loads cannot be checked from outside it: redirects, frames, workers, sockets and
prefetches all connect by themselves. So all of it has to come through here. For each connection the
host is looked up once, every answer has to be allowed by the guard, and one of those very addresses is
dialled. https and WebSockets are tunnelled, and stay encrypted end to end; plain http is passed on
one request per connection. The proxy lives on the event loop of the browser that it serves, listens on
loopback, and answers only who knows its password.

=====================================  ======  =======================
what happens                           answer  the refusal on record
=====================================  ======  =======================
the guard forbids the host             403     TargetForbidden
the host is not found or not reached   502     TargetUnreachable
the request is malformed               400     none
the password is missing or wrong       407     none
too many connections                   503     none
the browser greets                     204     none
=====================================  ======  =======================
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import secrets
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from thumbnailer.egress_dial import GuardedDialler, Open, Stream, open_tcp
from thumbnailer.errors import TargetForbidden, TargetUnreachable, ThumbnailerError
from thumbnailer.guard import Guard
from thumbnailer.proxy_messages import MAX_HEAD_BYTES, BadMessage, ProxyRequest, read_answer, read_request
from thumbnailer.refusals import Refusals
from thumbnailer.target import DEFAULT_PORTS

#: The field that this proxy's own answers carry, and no other answer; its value is ``EgressProxy.token``.
OWN_ANSWER = "X-Thumbnailer-Egress"

#: What a browser asks for to try its password; no name ends like this (RFC 6761), so it is nobody's.
GREETING_HOST = "greeting.invalid"

USERNAME = "browser"
CHUNK_BYTES = 65536
LOOKUP_THREADS = 16

#: What is read, and for how long, after an answer that came before the end of its request; closing
#: at once would reset the connection, and the answer be lost.
LINGER_BYTES = 1_048_576
LINGER_SECONDS = 2.0

_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
_REASONS = {
    204: "No Content",
    400: "Bad Request",
    403: "Forbidden",
    407: "Proxy Authentication Required",
    502: "Bad Gateway",
    503: "Service Unavailable",
}

#: On, and for no time (socket(7)).
_LINGER_NOT = struct.pack("ii", 1, 0)

#: What ends a connection without further ado.
_BROKEN = (OSError, EOFError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyBounds:
    """The most that the browser gets: connections at a time, and seconds of each without a byte either
    way, or at all.
    """

    connections: int = 512
    idle_seconds: float = 60.0
    total_seconds: float = 600.0


DEFAULT_BOUNDS = ProxyBounds()


@dataclass(slots=True, eq=False)
class EgressProxy:
    """A running proxy: made by ``running_proxy``, used on its event loop only.

    ``url``, ``username`` and ``password`` are what the browser is given. ``refusals`` says why hosts
    were not reached.
    """

    port: int
    dialler: GuardedDialler
    bounds: ProxyBounds
    token: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)
    username: str = USERNAME
    refusals: Refusals = field(default_factory=Refusals)
    _serving: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def is_own(self, headers: Mapping[str, str]) -> bool:
        """Whether an answer with these headers, their names in lower case, is the proxy's and no server's."""
        return hmac.compare_digest(headers.get(OWN_ANSWER.lower(), "").encode(), self.token.encode())

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve one connection of the browser, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            async with asyncio.timeout(self.bounds.total_seconds):
                await self._serve((reader, writer))
        except _BROKEN:
            _reset(writer)
        except asyncio.CancelledError:
            _reset(writer)
            raise
        finally:
            self._serving.discard(task)
            writer.close()

    async def hang_up(self) -> None:
        """End all connections."""
        tasks = list(self._serving)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, browser: Stream) -> None:
        # Before anything is read: who does not know the password may not hold more of them either.
        if len(self._serving) > self.bounds.connections:
            return await self._answer(browser, 503)
        try:
            async with asyncio.timeout(self.bounds.idle_seconds):
                request = await read_request(browser[0])
        except BadMessage:
            return await self._answer(browser, 400)
        if request is None:
            return None
        if not self._is_authentic(request):
            return await self._answer(browser, 407, b'Proxy-Authenticate: Basic realm="egress"\r\n')
        if request.authority == GREETING_HOST:
            return await self._answer(browser, 204)
        scheme = "https" if request.is_tunnel else "http"
        try:
            origin = await self.dialler.dial(scheme, request.authority)
            self.refusals.forget(request.authority, DEFAULT_PORTS[scheme])
            async with _closing(origin):
                await (self._tunnel if request.is_tunnel else self._pass_on)(request, browser, origin)
        except ThumbnailerError as error:
            self.refusals.note(request.authority, DEFAULT_PORTS[scheme], error)
            await self._answer(browser, 403 if isinstance(error, TargetForbidden) else 502)

    def _is_authentic(self, request: ProxyRequest) -> bool:
        expected = b"Basic " + base64.b64encode(f"{self.username}:{self.password}".encode())
        return hmac.compare_digest(request.field(b"proxy-authorization") or b"", expected)

    async def _tunnel(self, _request: ProxyRequest, browser: Stream, origin: Stream) -> None:
        """Carry bytes both ways until one side is done."""
        browser[1].write(_ESTABLISHED)
        async with (
            asyncio.timeout(self.bounds.idle_seconds) as patience,
            _running(
                self._carry(browser[0], origin[1], patience), self._carry(origin[0], browser[1], patience)
            ) as (upwards, downwards),
        ):
            await asyncio.wait({upwards, downwards}, return_when=asyncio.FIRST_COMPLETED)
            if downwards.done():
                downwards.result()
                browser[1].write_eof()
                await upwards

    async def _pass_on(self, request: ProxyRequest, browser: Stream, origin: Stream) -> None:
        """Send a plain request on and bring its answer; ends early when the browser hangs up."""
        async with asyncio.timeout(self.bounds.idle_seconds) as patience:
            origin[1].write(request.for_origin())
            await self._carry(browser[0], origin[1], patience, exactly=request.body_length)
            async with _running(self._bring_answer(browser[1], origin[0], patience), browser[0].read(1)) as (
                bringing,
                hanging_up,
            ):
                await asyncio.wait({bringing, hanging_up}, return_when=asyncio.FIRST_COMPLETED)
                if bringing.done():
                    bringing.result()

    async def _bring_answer(
        self, browser: StreamWriter, origin: StreamReader, patience: asyncio.Timeout
    ) -> None:
        try:
            answer = await read_answer(origin)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise TargetUnreachable("The target's host broke the connection.") from error
        except BadMessage as error:
            raise TargetUnreachable("The target's host sent no valid answer.") from error
        if answer.status == 407:  # the browser would take it for this proxy's
            raise TargetUnreachable("The target's host sent no valid answer.")
        browser.write(answer.for_browser(without=OWN_ANSWER.encode()))
        await self._carry(origin, browser, patience)

    async def _carry(
        self,
        reader: StreamReader,
        writer: StreamWriter,
        patience: asyncio.Timeout,
        exactly: int | None = None,
    ) -> None:
        """Copy all bytes, or ``exactly`` so many; each chunk renews the patience."""
        clock = asyncio.get_running_loop().time
        left = exactly
        while left is None or left > 0:
            chunk = await reader.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
            if not chunk and left is not None:
                raise EOFError
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            patience.reschedule(clock() + self.bounds.idle_seconds)
            writer.write(chunk)
            await writer.drain()

    async def _answer(self, browser: Stream, status: int, fields: bytes = b"") -> None:
        reader, writer = browser
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\n{OWN_ANSWER}: {self.token}\r\n".encode()
        writer.write(
            head + fields + b"Content-Length: 0\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        with suppress(*_BROKEN):
            writer.write_eof()
            async with asyncio.timeout(LINGER_SECONDS):
                left = LINGER_BYTES
                while left > 0 and (chunk := await reader.read(CHUNK_BYTES)):
                    left -= len(chunk)


@asynccontextmanager
async def running_proxy(
    guard: Guard, *, open_connection: Open = open_tcp, bounds: ProxyBounds = DEFAULT_BOUNDS
) -> AsyncIterator[EgressProxy]:
    """A proxy on a free port of 127.0.0.1, with a password of its own, for the length of the block.

    ``open_connection`` opens the connections to the addresses that ``guard`` allows. Raises OSError
    where no port is free.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    lookups = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="egress")
    dialler = GuardedDialler(guard=guard, lookups=lookups, open_connection=open_connection)
    proxy = EgressProxy(listener.getsockname()[1], dialler, bounds)
    server = await asyncio.start_server(proxy.serve, sock=listener, limit=MAX_HEAD_BYTES)
    try:
        yield proxy
    finally:
        server.close()
        await proxy.hang_up()
        # A look-up under way ends by the guard's own limit; nobody waits for it.
        lookups.shutdown(wait=False, cancel_futures=True)


def _reset(writer: StreamWriter) -> None:
    """Break the connection off: after a clean end, half an answer might be taken for a whole one."""
    with suppress(OSError):  # it is gone already
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    writer.transport.abort()


@asynccontextmanager
async def _closing(stream: Stream) -> AsyncIterator[None]:
    try:
        yield
    finally:
        stream[1].close()


@asynccontextmanager
async def _running(*works: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """The works as tasks, all of them ended after the block."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
