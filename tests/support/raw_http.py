"""HTTP as nobody should speak it: bytes to a port, and whatever comes back."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from email.parser import BytesParser
from typing import Any
from urllib.parse import urlsplit

PATIENCE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class RawAnswer:
    """An answer as it came over the wire; header names ignore case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.contextmanager
def connected(url: str, *, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    """A connection to the server at ``url``; ``receive_buffer`` bytes make the kernel read ahead little."""
    address = urlsplit(url)
    with socket.socket() as wire:
        if receive_buffer is not None:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        wire.settimeout(PATIENCE_SECONDS)
        wire.connect((address.hostname, address.port))
        yield wire


def read_answer(wire: socket.socket) -> RawAnswer:
    """Read to the end of the connection; raises TimeoutError where that does not come."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := wire.recv(65536):
            received += chunk
    head, _, body = received.partition(b"\r\n\r\n")
    status_line, _, fields = head.partition(b"\r\n")
    headers = BytesParser().parsebytes(fields + b"\r\n\r\n", headersonly=True)
    return RawAnswer(
        int(status_line.split()[1]), {name.lower(): text for name, text in headers.items()}, body
    )


def exchange(url: str, request: bytes) -> RawAnswer:
    """Send ``request`` and read what comes until the server hangs up."""
    with connected(url) as wire:
        wire.sendall(request)
        return read_answer(wire)


def head(first_line: str, *fields: str, host: str | None = "localhost") -> bytes:
    """A request's head, which asks for the connection to end."""
    hosts = [] if host is None else [f"Host: {host}"]
    return "\r\n".join([first_line, *hosts, "Connection: close", *fields, "", ""]).encode("latin-1")
