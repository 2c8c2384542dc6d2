"""A crowd of clients in one thread, which take little of the machine themselves."""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, cast
from urllib.parse import urlsplit

TIMEOUT_SECONDS = 120.0
PIECE_BYTES = 262_144

HEAD = re.compile(rb"HTTP/1\.1 (\d{3}) .*?\r\n\r\n", re.DOTALL)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Told:
    """What one of the crowd was told, and when they had all of it, on the monotonic clock in seconds.

    Status 0 is no answer.
    """

    status: int
    head: bytes
    body: bytes
    is_whole: bool
    ended_at: float

    def field(self, name: str) -> str:
        """A field of the head; empty where it is not there."""
        found = re.search(rb"\r\n%s: ([^\r]*)" % name.encode(), self.head, re.IGNORECASE)
        return found[1].decode() if found else ""


class _Client:
    """One of the crowd, with a connection of their own."""

    def __init__(self, service_url: str) -> None:
        address = urlsplit(service_url)
        self._host = address.netloc
        self.wire = socket.create_connection((str(address.hostname), address.port), timeout=TIMEOUT_SECONDS)
        self._received, self._size = bytearray(), cast(int | None, None)
        self._ended_at = 0.0

    def ask(self, path: str) -> None:
        self._received, self._size = bytearray(), None
        self.wire.sendall(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())

    def take(self) -> bool:
        """Take what has come; says whether that was the end."""
        piece = self.wire.recv(PIECE_BYTES)
        self._received += piece
        if self._size is None and (head := HEAD.match(self._received)):
            length = LENGTH.search(head[0])
            self._size = head.end() + int(length[1]) if length else None
        self._ended_at = time.monotonic()
        return not piece or len(self._received) == self._size

    def told(self) -> Told:
        head = HEAD.match(self._received)
        if head is None:
            return Told(0, b"", b"", is_whole=False, ended_at=self._ended_at)
        body = bytes(self._received[head.end() :])
        is_whole = len(self._received) == self._size
        return Told(int(head[1]), head[0], body, is_whole, self._ended_at)


class Crowd:
    """Clients who are all connected, and ask for one path at the same moment; answers need a length."""

    def __init__(self, service_urls: Sequence[str], count: int) -> None:
        self._clients = [_Client(service_urls[number % len(service_urls)]) for number in range(count)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        for client in self._clients:
            client.wire.close()

    def ask(self, path: str) -> None:
        """Send everybody's request, the first or, once they have been told, the next."""
        for client in self._clients:
            client.ask(path)

    def is_waiting(self) -> bool:
        """Whether nobody has been told anything yet."""
        with selectors.DefaultSelector() as looking:
            for client in self._clients:
                looking.register(client.wire, selectors.EVENT_READ)
            return not looking.select(0)

    def told(self) -> list[Told]:
        """Wait for all answers.

        Raises:
            TimeoutError: nobody was told anything for two minutes.
        """
        with selectors.DefaultSelector() as looking:
            for client in self._clients:
                looking.register(client.wire, selectors.EVENT_READ, client)
            while looking.get_map():
                ready = looking.select(TIMEOUT_SECONDS)
                if not ready:
                    raise TimeoutError(f"no answer for {TIMEOUT_SECONDS:g} seconds")
                for key, _ in ready:
                    if key.data.take():
                        looking.unregister(key.fileobj)
        return [client.told() for client in self._clients]
