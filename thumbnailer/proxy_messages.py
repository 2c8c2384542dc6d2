"""What the browser's proxy reads and writes: the heads of HTTP/1.1 messages (RFC 9112), strictly.

Requests come from our own browser, so anything unusual in one is refused. Answers come from anybody;
they are read leniently as browsers read them, and written anew. Nobody ever reads two messages from
one connection, so there is none to be smuggled in behind another.
"""

from __future__ import annotations

import re
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader
from dataclasses import dataclass

MAX_HEAD_BYTES = 65536

#: Answers of the kind "not yet" (RFC 9110, 15.2) that are skipped before the real one.
MAX_INTERIM_ANSWERS = 16

Fields = tuple[tuple[bytes, bytes], ...]

#: About one connection and not about the message (RFC 9110, 7.6.1), or about this proxy.
HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"upgrade",
    }
)

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([\x21-\x7e]+) HTTP/1\.[01]")
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\x00\r\n]*)?")
# The blanks around a value are not for the pattern: many of them within one would keep it, and with it the
# whole process, busy for half a minute.
_FIELD = re.compile(rb"(" + _TOKEN + rb"):([^\x00\r\n]*)")
_ABSOLUTE_FORM = re.compile(rb"http://([^/?#]+)([^#]*)", re.IGNORECASE)
_AUTHORITY_FORM = re.compile(rb"(?:[^:\[\]/?#@]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")
_LENGTH = re.compile(rb"[0-9]{1,15}")


class BadMessage(Exception):
    """The head is too long, broken, or leaves open where its message ends."""


@dataclass(frozen=True, slots=True)
class ProxyRequest:
    """What the browser asks for.

    ``authority`` is the host and port to go to, as the browser wrote them; ``path`` is what to ask for
    there, None for a tunnel; ``body_length`` counts the bytes that follow the head.
    """

    method: bytes
    authority: str
    path: bytes | None
    fields: Fields
    body_length: int

    @property
    def is_tunnel(self) -> bool:
        return self.path is None

    def field(self, name: bytes) -> bytes | None:
        """The value of the only field of this name, None where there is none or more than one."""
        values = _values(self.fields, name)
        return values[0] if len(values) == 1 else None

    def for_origin(self) -> bytes:
        """The head as the server gets it: origin form, nothing of this hop, one request per connection."""
        line = b"%s %s HTTP/1.1" % (self.method, self.path or b"/")
        kept = [field for field in _end_to_end(self.fields) if field[0].lower() not in (b"host", b"expect")]
        # The URL says whom the request is for, whatever the Host field said (RFC 9112, 3.2.2).
        return _head(line, ((b"Host", self.authority.encode("ascii")), *kept, (b"Connection", b"close")))


@dataclass(frozen=True, slots=True)
class OriginAnswer:
    """The beginning of a server's answer."""

    line: bytes
    status: int
    fields: Fields

    def for_browser(self, *, without: bytes) -> bytes:
        """The head as the browser gets it: nothing of the other hop, no field named ``without``."""
        kept = [field for field in _end_to_end(self.fields) if field[0].lower() != without.lower()]
        return _head(self.line, (*kept, (b"Connection", b"close")))


async def read_request(reader: StreamReader) -> ProxyRequest | None:
    """The head of the one request of a connection; None where the browser hangs up instead.

    Raises:
        BadMessage: it is nothing that our browser would send.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except IncompleteReadError as error:
        if error.partial:
            raise BadMessage from error
        return None
    except LimitOverrunError as error:
        raise BadMessage from error
    return parse_request(head)


def parse_request(head: bytes) -> ProxyRequest:
    """Read a request's head, its final empty line included. Raises BadMessage."""
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    fields = tuple(_strict_field(line) for line in lines)
    request_line = _REQUEST_LINE.fullmatch(first)
    if request_line is None:
        raise BadMessage
    method, target = request_line.groups()
    length = _body_length(fields)
    if method == b"CONNECT":
        if _AUTHORITY_FORM.fullmatch(target) is None or length:
            raise BadMessage
        return ProxyRequest(method, target.decode("ascii"), None, fields, 0)
    parts = _ABSOLUTE_FORM.fullmatch(target)
    if parts is None:
        raise BadMessage
    path = parts[2] if parts[2].startswith(b"/") else b"/" + parts[2]
    return ProxyRequest(method, parts[1].decode("ascii"), path, fields, length)


async def read_answer(reader: StreamReader) -> OriginAnswer:
    """The head of a server's final answer.

    Raises:
        BadMessage: what came is no answer that could be passed on.
        IncompleteReadError: the connection ended before or within it.
    """
    for _ in range(MAX_INTERIM_ANSWERS):
        answer = await _read_any_answer(reader)
        if answer.status >= 200:
            return answer
        if answer.status == 101:  # nobody asked for another protocol
            raise BadMessage
    raise BadMessage


async def _read_any_answer(reader: StreamReader) -> OriginAnswer:
    first, *lines = await _read_lines(reader)
    status_line = _STATUS_LINE.fullmatch(first)
    if status_line is None:
        raise BadMessage
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in b" \t" and fields:  # folded, as RFC 9112, 5.2, lets a proxy unfold it
            fields[-1] = fields[-1][0], b"%s %s" % (fields[-1][1], line.strip(b" \t"))
        elif field := _field(line):
            fields.append(field)
    return OriginAnswer(first, int(status_line[1]), tuple(fields))


async def _read_lines(reader: StreamReader) -> list[bytes]:
    """The lines of a head, which may end in a mere line feed (RFC 9112, 2.2)."""
    lines: list[bytes] = []
    room = MAX_HEAD_BYTES
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except LimitOverrunError as error:
            raise BadMessage from error
        room -= len(line)
        if room < 0:
            raise BadMessage
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        if line:
            lines.append(line)
        elif lines:
            return lines


def _field(line: bytes) -> tuple[bytes, bytes] | None:
    match = _FIELD.fullmatch(line)
    return (match[1], match[2].strip(b" \t")) if match else None


def _strict_field(line: bytes) -> tuple[bytes, bytes]:
    field = _field(line)
    if field is None:
        raise BadMessage
    return field


def _body_length(fields: Fields) -> int:
    """How many bytes follow a request's head; chunks are not taken, because no browser sends any here."""
    lengths = _values(fields, b"content-length")
    if _values(fields, b"transfer-encoding") or len(lengths) > 1:
        raise BadMessage
    if lengths and _LENGTH.fullmatch(lengths[0]) is None:
        raise BadMessage
    return int(lengths[0]) if lengths else 0


def _values(fields: Fields, name: bytes) -> list[bytes]:
    return [value for key, value in fields if key.lower() == name]


def _end_to_end(fields: Fields) -> Fields:
    named = b",".join(_values(fields, b"connection")).lower()
    dropped = HOP_BY_HOP | {token.strip() for token in named.split(b",")} - {
        b"content-length",
        b"transfer-encoding",
    }
    return tuple(field for field in fields if field[0].lower() not in dropped)


def _head(line: bytes, fields: Fields) -> bytes:
    return b"\r\n".join([line, *(b"%s: %s" % field for field in fields), b"", b""])
