"""An independent judge of HTTP: httplint, of the author of REDbot, over what really came over the wire."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

import http_sf
from httplint import HttpRequestLinter, HttpResponseLinter
from httplint.note import levels

from tests.support.raw_http import connected

Fields = list[tuple[bytes, bytes]]

#: What counts as a fault; ``good`` and ``info`` do not.
FAULTY = frozenset({levels.WARN, levels.BAD})


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer, as bytes."""

    method: str
    request_fields: Fields
    status: int
    fields: Fields
    body: bytes
    is_complete: bool
    faults: frozenset[str]

    def values(self, name: str) -> list[bytes]:
        """Every value of a field, in order."""
        return [value for key, value in self.fields if key.decode().lower() == name.lower()]

    def field(self, name: str) -> str:
        """The value of a field that came once."""
        (value,) = self.values(name)
        return value.decode()


def members(value: bytes) -> list[tuple[Any, dict[str, Any]]]:
    """The members of a list with their parameters, by RFC 9651; raises ValueError for what is none."""
    return cast("list[tuple[Any, dict[str, Any]]]", http_sf.parse(value, tltype="list"))


def ask(url: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes = b"") -> Exchange:
    """Make one request over a connection of its own and have both messages judged."""
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    given = {"Host": parts.netloc, "Connection": "close", **(headers or {})}
    if body:
        given |= {"Content-Length": str(len(body))}
    fields = [(name.encode(), value.encode()) for name, value in given.items()]
    lines = [f"{method} {target} HTTP/1.1".encode(), *(b": ".join(field) for field in fields), b"", b""]
    with connected(url) as wire:
        wire.sendall(b"\r\n".join(lines) + body)
        received = bytearray()
        while chunk := wire.recv(65536):
            received += chunk
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    status_line, *field_lines = head.split(b"\r\n")
    answered = [_field(line) for line in field_lines]
    content, is_complete = _content(method, answered, rest)
    version, status, phrase = status_line.split(b" ", 2)

    request = HttpRequestLinter()
    request.process_request_topline(method.encode(), url.encode(), b"1.1")
    request.process_headers(fields)
    request.feed_content(body)
    request.finish_content(complete=True)
    response = HttpResponseLinter(_related=request, no_content=method == "HEAD")
    response.process_response_topline(version.removeprefix(b"HTTP/"), status, phrase)
    response.process_headers(answered)
    response.feed_content(content)
    response.finish_content(complete=is_complete)
    faults = frozenset(
        f"{type(note).__name__}: {note.subject}" for note in response.notes if note.level in FAULTY
    )
    return Exchange(method, fields, int(status), answered, content, is_complete, faults)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name, value.strip(b" \t")


def _content(method: str, fields: Fields, rest: bytes) -> tuple[bytes, bool]:
    """The content, and whether all of it has come by its own framing: RFC 9112, section 6.3."""
    named = {name.decode().lower(): value for name, value in fields}
    if method == "HEAD":
        return b"", not rest
    if named.get("transfer-encoding") == b"chunked":
        return _unchunked(rest)
    length = int(named.get("content-length", b"0"))
    return rest, len(rest) == length


def _unchunked(rest: bytes) -> tuple[bytes, bool]:
    content = b""
    while rest:
        size_line, _, rest = rest.partition(b"\r\n")
        size = int(size_line, 16)
        if size == 0:
            return content, rest == b"\r\n"
        content += rest[:size]
        rest = rest[size + 2 :]
    return content, False
