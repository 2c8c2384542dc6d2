"""Canaries: sockets in places where nobody may ever knock. They count who does, TCP and UDP alike."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.support.processes import free_port, wait_until
from thumbnailer.egress_proxy import EgressProxy

#: The most of a knock that is kept: enough to say which of a page's ways it took.
KEPT_BYTES = 200


@dataclass(frozen=True, slots=True)
class Knock:
    """One connection or datagram: its kind, the address and port that were meant, its first bytes."""

    kind: str
    address: str
    port: int
    start: bytes

    def __str__(self) -> str:
        return f"{self.kind} to {self.address}:{self.port}: {self.start[:80]!r}"


@dataclass(slots=True, eq=False)
class Canaries:
    """One port number on several addresses, TCP and UDP; ``knocks`` holds whatever came."""

    port: int
    knocks: list[Knock] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)

    def watch_tcp(self, listener: socket.socket) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                connection, _ = listener.accept()
                threading.Thread(target=self._greet, args=(connection,), daemon=True).start()

    def watch_udp(self, receiver: socket.socket) -> None:
        while not self._ending.is_set():
            with contextlib.suppress(TimeoutError, OSError):
                datagram = receiver.recv(2048)
                self.knocks.append(Knock("UDP", receiver.getsockname()[0], self.port, datagram[:KEPT_BYTES]))

    def end(self) -> None:
        self._ending.set()

    def _greet(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            address = connection.getsockname()[0]
            connection.settimeout(0.5)
            start = b""
            with contextlib.suppress(TimeoutError, OSError):
                start = connection.recv(KEPT_BYTES)
            self.knocks.append(Knock("TCP", address, self.port, start))
            connection.sendall(b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: *\r\n\r\n")


@contextmanager
def running_canaries(*addresses: str, port: int | None = None) -> Iterator[Canaries]:
    """Canaries on the same port of all ``addresses``, a free one unless it is given; IPv4 and IPv6
    loopback where none are named.
    """
    with ExitStack() as stack:
        port, sockets = _bind_all(addresses or ("127.0.0.1", "::1"), port, stack)
        canaries = Canaries(port)
        threads = []
        for one in sockets:
            one.settimeout(0.1)
            watch = canaries.watch_tcp if one.type == socket.SOCK_STREAM else canaries.watch_udp
            threads.append(threading.Thread(target=watch, args=(one,), daemon=True))
            threads[-1].start()
        try:
            yield canaries
        finally:
            canaries.end()
            for thread in threads:
                thread.join(5)


def _bind_all(
    addresses: tuple[str, ...], wish: int | None, stack: ExitStack
) -> tuple[int, list[socket.socket]]:
    wanted = [(address, kind) for address in addresses for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    for _ in range(20):
        port = wish or free_port()
        # Somebody else may have this port on one of the addresses.
        with contextlib.suppress(OSError), ExitStack() as attempt:
            sockets = [attempt.enter_context(_bound(address, port, kind)) for address, kind in wanted]
            stack.push(attempt.pop_all())
            return port, sockets
    raise OSError("no port is free on all addresses")


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    one = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    try:
        if ":" in address:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind((address, port))
        if kind == socket.SOCK_STREAM:
            one.listen(64)
    except OSError:
        one.close()
        raise
    return one


@contextmanager
def on_a_loop_of_its_own(
    opening: Callable[[], AbstractAsyncContextManager[EgressProxy]],
) -> Iterator[EgressProxy]:
    """What an asynchronous context manager yields, kept open by a thread with an event loop."""
    opened: list[EgressProxy] = []
    ending: list[Callable[[], object]] = []

    async def keep() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        async with opening() as value:
            ending.append(lambda: loop.call_soon_threadsafe(end.set))
            opened.append(value)
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.run(keep()))
    thread.start()
    try:
        wait_until(lambda: bool(opened) or not thread.is_alive())
        yield opened[0]
    finally:
        for end in ending:
            end()
        thread.join(10)
        assert not thread.is_alive()
