"""Follows a picture's file from part to part as its bytes pass by: where it ends, and that it ends there.

An end marker alone proves little: a page of HTML that ends in the two bytes of a JPEG's end has one too. So
each kind of file is followed by its own rules. No more than a few bytes are kept.
"""

from __future__ import annotations

import re
import struct
from typing import Protocol

from thumbnailer.errors import NotAnImage

#: ``%%EOF`` may be followed by a little padding: ISO 32000-1, Annex H.3, note 18.
PDF_TAIL_BYTES = 1024

#: In a JPEG's pixels FF is followed by 00, a restart marker or a fill byte; whatever else follows ends
#: them: ITU-T T.81, B.1.1.2 and B.1.1.5.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_EOI, _SOS, _FILL = 0xD9, 0xDA, 0xFF
#: TEM, RST0 to RST7, SOI and an escaped FF: none of them begins a segment.
_NO_SEGMENT = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})


class Structure(Protocol):
    """One file, followed from its first byte.

    ``feed`` raises ``NotAnImage`` for what cannot be a still picture. ``shows_stillness`` says whether
    enough is known to rule out an animation, ``is_complete`` whether the file has ended where it should.
    """

    @property
    def shows_stillness(self) -> bool: ...

    @property
    def is_complete(self) -> bool: ...

    def feed(self, chunk: bytes) -> None: ...


class PngStructure:
    """Chunks of a length, a type, that many bytes and a checksum: PNG (third edition), section 5."""

    def __init__(self) -> None:
        self._skip = 8  # the signature, which the magic number has shown
        self._head = b""
        self._has_pixels = False
        self._has_ended = False

    @property
    def shows_stillness(self) -> bool:
        """``acTL`` stands before the first ``IDAT``: section 11.3.6.1."""
        return self._has_pixels

    @property
    def is_complete(self) -> bool:
        return self._has_ended and self._skip == 0

    def feed(self, chunk: bytes) -> None:
        at = 0
        while at < len(chunk):
            if self.is_complete:
                raise _trailing_bytes()
            if self._skip:
                step = min(self._skip, len(chunk) - at)
                self._skip -= step
            else:
                step = min(8 - len(self._head), len(chunk) - at)
                self._head += chunk[at : at + step]
                if len(self._head) == 8:
                    self._enter(*struct.unpack(">I4s", self._head))
                    self._head = b""
            at += step

    def _enter(self, length: int, kind: bytes) -> None:
        if kind == b"acTL":
            raise animated()
        is_early_end = kind == b"IEND" and (length or not self._has_pixels)
        if length > 2**31 - 1 or not kind.isalpha() or is_early_end:
            raise NotAnImage("The answer is a damaged PNG.")
        self._has_pixels = self._has_pixels or kind == b"IDAT"
        self._has_ended = kind == b"IEND"
        self._skip = length + 4


class JpegStructure:
    """Segments with a marker and their length, and scans of pixels without one: ITU-T T.81, B.1."""

    shows_stillness = True

    def __init__(self) -> None:
        self._skip = 2  # SOI, which the magic number has shown
        self._carry = b""
        self._is_scan_next = False
        self._is_in_scan = False
        self._has_ended = False

    @property
    def is_complete(self) -> bool:
        return self._has_ended

    def feed(self, chunk: bytes) -> None:
        data, at = self._carry + chunk, 0
        self._carry = b""
        while at < len(data):
            if self._has_ended:
                raise _trailing_bytes()
            step = self._step(data, at)
            if step == 0:
                self._carry = data[at:]
                return
            at += step

    def _step(self, data: bytes, at: int) -> int:
        """How many bytes are understood from here on; 0 where that takes more of them."""
        if self._skip:
            step = min(self._skip, len(data) - at)
            self._skip -= step
            if self._skip == 0:
                self._is_in_scan, self._is_scan_next = self._is_scan_next, False
            return step
        if self._is_in_scan:
            end = _END_OF_SCAN.search(data, at)
            self._is_in_scan = end is None
            if end is not None:
                return end.start() - at or self._marker(data, at)
            return len(data) - at - (data[-1] == _FILL)
        return self._marker(data, at)

    def _marker(self, data: bytes, at: int) -> int:
        if data[at] != _FILL:
            raise NotAnImage("The answer is a damaged JPEG.")
        if len(data) < at + 2:
            return 0
        marker = data[at + 1]
        if marker == _FILL:
            return 1
        if marker == _EOI:
            self._has_ended = True
            return 2
        if len(data) < at + 4:
            return 0
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _NO_SEGMENT or length < 2:
            raise NotAnImage("The answer is a damaged JPEG.")
        self._is_scan_next = marker == _SOS
        self._skip = 2 + length
        return self._step(data, at)


class WebpStructure:
    """One RIFF chunk that says how long it is: RFC 9649, section 2.3."""

    shows_stillness = True

    def __init__(self) -> None:
        self._head = b""
        self._size_bytes = 0

    @property
    def is_complete(self) -> bool:
        return len(self._head) == 8 and self._size_bytes == self._announced_bytes()

    def feed(self, chunk: bytes) -> None:
        self._size_bytes += len(chunk)
        self._head += chunk[: 8 - len(self._head)]
        if len(self._head) == 8 and self._size_bytes > self._announced_bytes():
            raise _trailing_bytes()

    def _announced_bytes(self) -> int:
        return int.from_bytes(self._head[4:8], "little") + 8


class PdfStructure:
    """Anything whose last bytes hold the end marker."""

    shows_stillness = True

    def __init__(self) -> None:
        self._tail = b""

    @property
    def is_complete(self) -> bool:
        return b"%%EOF" in self._tail

    def feed(self, chunk: bytes) -> None:
        self._tail = (self._tail + chunk[-PDF_TAIL_BYTES:])[-PDF_TAIL_BYTES:]


def _trailing_bytes() -> NotAnImage:
    return NotAnImage("The picture does not end where it should.")


def animated() -> NotAnImage:
    """The error for a file that moves."""
    return NotAnImage("The answer is an animation, not a picture of a page.")
