"""What a server of tests received, and what it answers: pictures, errors and every kind of misbehaviour."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, islice, repeat
from typing import Any
from urllib.parse import parse_qsl

from tests.support.pictures import big_png, picture, png_of_size
from tests.support.processes import free_port

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came; ``target`` is the raw path and query, ``head`` every byte before the body."""

    method: str
    target: str
    headers: tuple[Header, ...]
    body: bytes
    head: bytes

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def raw_query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def query(self) -> dict[str, str]:
        """The decoded parameters; a repeated or empty-named one is an error of the client."""
        pairs = parse_qsl(self.raw_query, keep_blank_values=True, strict_parsing=bool(self.raw_query))
        assert len({name for name, _ in pairs}) == len(pairs), f"a parameter is repeated: {self.raw_query}"
        return dict(pairs)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The value of a header that came once; None where it did not come."""
        values = [value for key, value in self.headers if key.lower() == name.lower()]
        assert len(values) <= 1, f"{name} is repeated"
        return values[0] if values else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the server does with one request.

    ``chunks`` makes the body anew for each request. ``length`` is what Content-Length announces; where
    it is None the body is chunked, or, with ``is_unframed``, ends with the connection. ``cut_after``
    closes the connection after so many bytes of the body, ``resets`` resets it instead of answering.
    ``silent`` never answers; ``head_pause`` and ``body_pause`` are seconds after every byte of the
    status line and headers, or after every chunk of the body.
    """

    status: int = 200
    headers: tuple[Header, ...] = ()
    chunks: Callable[[], Iterator[bytes]] = field(default=lambda: iter(()))
    length: int | None = None
    is_unframed: bool = False
    cut_after: int | None = None
    resets: bool = False
    is_silent: bool = False
    head_pause: float = 0.0
    body_pause: float = 0.0

    def head(self) -> bytes:
        headers = list(self.headers)
        if self.length is not None:
            headers.append(("Content-Length", str(self.length)))
        elif self.is_unframed:
            headers.append(("Connection", "close"))
        else:
            headers.append(("Transfer-Encoding", "chunked"))
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in headers), "", ""]
        return "\r\n".join(lines).encode()

    @property
    def ends_connection(self) -> bool:
        return self.is_unframed or self.cut_after is not None


Behaviour = Answer | Callable[[Received], Answer]


def content(
    body: bytes, content_type: str, *headers: Header, status: int = 200, framing: str = "length"
) -> Answer:
    """A whole body; ``framing`` is ``length``, ``chunked`` or ``close``."""
    return Answer(
        status=status,
        headers=(("Content-Type", content_type), *headers),
        chunks=lambda: (body[start : start + 16384] for start in range(0, len(body), 16384)),
        length=len(body) if framing == "length" else None,
        is_unframed=framing == "close",
    )


def image(
    image_format: str = "png", width: int = 320, height: int = 200, *, framing: str = "length"
) -> Answer:
    """A picture with the Content-Type that belongs to it."""
    content_type = "application/pdf" if image_format == "pdf" else f"image/{image_format}"
    return content(picture(image_format, width, height), content_type, framing=framing)


def oversized() -> Answer:
    """A picture of more pixels than a service takes."""
    return content(png_of_size(9000, 9000), "image/png")


def json_error(status: int, payload: object, *headers: Header) -> Answer:
    return content(json.dumps(payload).encode(), "application/json", *headers, status=status)


def snapapi_error(
    status: int, code: str, message: str, *headers: Header, details: Mapping[str, object] | None = None
) -> Answer:
    """The nested shape of SnapAPI's errors."""
    error: dict[str, object] = {"code": code, "message": message} | ({"details": details} if details else {})
    return json_error(status, {"error": error}, *headers)


def snapapi_flat_error(status: int, reason: str, message: str, *headers: Header) -> Answer:
    """The flat shape of SnapAPI's errors."""
    return json_error(status, {"statusCode": status, "error": reason, "message": message}, *headers)


def html_as_png() -> Answer:
    return content(b"<!doctype html><title>Sorry</title><h1>Out of order</h1>" * 20, "image/png")


def empty() -> Answer:
    return content(b"", "image/png")


def redirect(location: str, status: int = 302) -> Answer:
    """A redirect whose own body never ends: nobody has reason to read it."""
    return Answer(status=status, headers=(("Location", location),), chunks=partial(repeat, b"." * 16384))


def cut_off(after: int = 100, *, framing: str = "length") -> Answer:
    """A picture whose connection closes after so many bytes of the body."""
    body = picture()
    assert after < len(body)
    return Answer(
        headers=(("Content-Type", "image/png"),),
        chunks=lambda: iter([body[:after], body[after:]]),
        length=len(body) if framing == "length" else None,
        is_unframed=framing == "close",
        cut_after=after,
    )


def drip(pause: float = 1.0, *, framing: str = "length") -> Answer:
    """A picture that comes a byte at a time; with ``framing="close"`` it does not say how much is to come."""
    body = picture()
    return Answer(
        headers=(("Content-Type", "image/png"),),
        chunks=lambda: (body[at : at + 1] for at in range(len(body))),
        length=len(body) if framing == "length" else None,
        is_unframed=framing == "close",
        body_pause=pause,
    )


def slow_head(pause: float = 1.0) -> Answer:
    """Headers that come a byte at a time."""
    padding = tuple((f"X-Padding-{number}", "x" * 60) for number in range(40))
    return Answer(headers=padding, length=0, head_pause=pause)


def silence() -> Answer:
    """No answer until the server ends."""
    return Answer(is_silent=True)


def reset() -> Answer:
    """The connection is reset in place of an answer."""
    return Answer(resets=True)


def endless(content_type: str = "image/png", *, status: int = 200) -> Answer:
    """A chunked body that is a picture as far as it goes, and never ends."""

    def chunks() -> Iterator[bytes]:
        head, *fillers = islice(big_png(4 * 65536), 3)
        yield head
        yield from cycle(fillers)

    return Answer(status=status, headers=(("Content-Type", content_type),), chunks=chunks)


def streamed(size_bytes: int, *, bytes_per_second: float | None = None, framing: str = "length") -> Answer:
    """A valid PNG of exactly so many bytes, made while it is sent; slowed down on request."""
    return Answer(
        headers=(("Content-Type", "image/png"),),
        chunks=lambda: big_png(size_bytes),
        length=size_bytes if framing == "length" else None,
        is_unframed=framing == "close",
        body_pause=65536 / bytes_per_second if bytes_per_second else 0.0,
    )


def refusing_url() -> str:
    """The address of a port where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"
