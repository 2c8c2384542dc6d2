"""The browser's proxy, and who speaks to it over plain sockets."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.support.canaries import on_a_loop_of_its_own
from tests.support.small_web import ChangingAnswers, Site
from thumbnailer.egress_dial import Stream, open_tcp
from thumbnailer.egress_proxy import EgressProxy, ProxyBounds, running_proxy
from thumbnailer.guard import Guard, parse_private_exceptions


class Opened:
    """Opens connections to what a test puts in the place of addresses, and remembers each attempt."""

    def __init__(self, places: dict[str, int] | None = None) -> None:
        self.places = places or {}
        self.dialled: list[str] = []

    async def __call__(self, address: str, port: int) -> Stream:
        self.dialled.append(address)
        if address not in self.places:
            return await open_tcp(address, port)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.places[address])
        # The transport says whom the proxy asked for, as the far end itself would.
        writer.transport._extra["peername"] = (address, port)  # type: ignore[attr-defined]  # no public way
        return reader, writer


@contextmanager
def proxying(
    *, exceptions: str = "", resolver: Any = None, opened: Opened | None = None, **bounds: Any
) -> Iterator[EgressProxy]:
    """A proxy on a loop of its own."""
    guard = Guard(exceptions=parse_private_exceptions(exceptions), resolver=resolver or ChangingAnswers({}))
    with on_a_loop_of_its_own(
        lambda: running_proxy(guard, open_connection=opened or open_tcp, bounds=ProxyBounds(**bounds))
    ) as proxy:
        yield proxy


def place_of(site: Site) -> str:
    return f"127.0.0.1:{site.server_port}"


def password_of(proxy: EgressProxy) -> str:
    token = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    return f"Proxy-Authorization: Basic {token}\r\n"


def connect(proxy: EgressProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := connection.recv(65536):
        received += chunk
    return bytes(received)


def say(proxy: EgressProxy, message: str | bytes) -> bytes:
    """All that the proxy answers to these bytes."""
    with connect(proxy) as connection:
        connection.sendall(message if isinstance(message, bytes) else message.encode("latin-1"))
        return read_all(connection)


def ask(proxy: EgressProxy, url: str, *, method: str = "GET", fields: str = "", body: str = "") -> bytes:
    """The answer to a plain request."""
    return say(proxy, f"{method} {url} HTTP/1.1\r\nHost: h\r\n{password_of(proxy)}{fields}\r\n{body}")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def is_own(proxy: EgressProxy, answer: bytes) -> bool:
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return proxy.is_own({name.lower(): value for name, _, value in (line.partition(": ") for line in head)})
