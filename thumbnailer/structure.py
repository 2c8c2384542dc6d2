"""Follows a picture's file from part to part as its bytes pass by: where it ends, and that it ends there.

An end marker alone proves little: a page of HTML that ends in the two bytes of a JPEG's end has one too. So
each kind of file is followed by its own rules. No more than a few bytes are kept.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import Protocol

from thumbnailer.errors import NotAnImage
from thumbnailer.png_pixels import PngPixels, damaged_png

#: Bytes of an ``IHDR``, and one more, by which a longer one shows.
HEADER_BYTES = 14

#: ``%%EOF`` may be followed by a little padding: ISO 32000-1, Annex H.3, note 18.
PDF_TAIL_BYTES = 1024

#: In a JPEG's pixels FF is followed by 00, a restart marker or a fill byte; whatever else follows ends
#: them: ITU-T T.81, B.1.1.2 and B.1.1.5.
_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)
_EOI, _SOS, _FILL = 0xD9, 0xDA, 0xFF
#: TEM, RST0 to RST7, SOI and an escaped FF: none of them begins a segment.
_NO_SEGMENT = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})

#: A still picture's chunks: RFC 9649, section 2.7. Readers may pass over others, and nobody needs them here.
_WEBP_PIXELS = frozenset({b"VP8 ", b"VP8L"})
_WEBP_CHUNKS = _WEBP_PIXELS | {b"VP8X", b"ALPH", b"ICCP", b"EXIF", b"XMP "}


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

    def __init__(self, unpacks: bool = True) -> None:
        self._unpacks = unpacks
        self._signature_left = 8  # the magic number has shown it
        self._head = b""
        self._kind = b""
        self._left = 0
        self._checksum = 0
        self._header = b""
        self._pixels: PngPixels | None = None
        self._has_pixels = False
        self._has_ended = False

    @property
    def shows_stillness(self) -> bool:
        """``acTL`` stands before the first ``IDAT``: section 11.3.6.1."""
        return self._has_pixels

    @property
    def is_complete(self) -> bool:
        return self._has_ended

    def feed(self, chunk: bytes) -> None:
        at = min(self._signature_left, len(chunk))
        self._signature_left -= at
        while at < len(chunk):
            if self._has_ended:
                raise _trailing_bytes()
            at += self._take(chunk, at)

    def _take(self, chunk: bytes, at: int) -> int:
        """Take the next bytes, of whatever part they are; how many."""
        if self._left:
            content = chunk[at : at + self._left]
            self._left -= len(content)
            self._checksum = zlib.crc32(content, self._checksum)
            self._enter_content(content)
            return len(content)
        wanted = 4 if self._kind else 8
        taken = chunk[at : at + wanted - len(self._head)]
        self._head += taken
        if len(self._head) == wanted:
            head, self._head = self._head, b""
            if self._kind:
                self._leave(head)
            else:
                self._enter(*struct.unpack(">I4s", head))
        return len(taken)

    def _enter(self, length: int, kind: bytes) -> None:
        if kind == b"acTL":
            raise animated()
        is_misplaced = (kind == b"IHDR") != (self._pixels is None)
        is_early_end = kind == b"IEND" and (length or not self._has_pixels)
        if length > 2**31 - 1 or not kind.isalpha() or is_misplaced or is_early_end:
            raise damaged_png()
        self._kind, self._left, self._checksum = kind, length, zlib.crc32(kind)
        self._has_pixels = self._has_pixels or kind == b"IDAT"

    def _enter_content(self, content: bytes) -> None:
        if self._kind == b"IHDR":
            self._header = (self._header + content)[:HEADER_BYTES]
        elif self._kind == b"IDAT" and self._pixels is not None and self._unpacks:
            self._pixels.feed(content)

    def _leave(self, checksum: bytes) -> None:
        if checksum != self._checksum.to_bytes(4, "big"):
            raise damaged_png()
        if self._kind == b"IHDR":
            self._pixels = PngPixels(self._header)
        elif self._kind == b"IEND":
            if self._pixels is None or (self._unpacks and not self._pixels.is_complete):
                raise damaged_png()
            self._has_ended = True
        self._kind = b""


class JpegStructure:
    """Segments with a marker and their length, and scans of pixels without one: ITU-T T.81, B.1."""

    shows_stillness = True

    def __init__(self) -> None:
        self._skip = 2  # SOI, which the magic number has shown
        self._carry = b""
        self._is_scan_next = False
        self._is_in_scan = False
        self._has_pixels = False
        self._has_ended = False

    @property
    def is_complete(self) -> bool:
        return self._has_ended and self._has_pixels

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
            step = (len(data) - (data[-1] == _FILL) if end is None else end.start()) - at
            self._has_pixels = self._has_pixels or step > 0
            return step if end is None or step else self._marker(data, at)
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
    """A RIFF chunk that says how long it is, and holds chunks that do: RFC 9649, sections 2.3 and 2.7."""

    shows_stillness = True

    def __init__(self) -> None:
        self._head = b""
        self._wanted = 12
        self._left = 0
        self._announced = -1
        self._has_pixels = False

    @property
    def is_complete(self) -> bool:
        return self._announced == 0 and self._has_pixels

    def feed(self, chunk: bytes) -> None:
        at = 0
        while at < len(chunk):
            if self._announced == 0:
                raise _trailing_bytes()
            if self._left:
                step = min(self._left, len(chunk) - at)
                self._left -= step
                self._announced -= step
            else:
                step = min(self._wanted - len(self._head), len(chunk) - at)
                self._head += chunk[at : at + step]
                if len(self._head) == self._wanted:
                    self._enter(self._head)
                    self._head, self._wanted = b"", 8
            at += step

    def _enter(self, head: bytes) -> None:
        if self._announced < 0:
            self._announced = int.from_bytes(head[4:8], "little") - 4
            return
        kind, length = head[:4], int.from_bytes(head[4:8], "little")
        if kind in (b"ANIM", b"ANMF"):
            raise animated()
        self._left = length + length % 2
        self._announced -= 8
        is_empty = kind in _WEBP_PIXELS and length == 0
        if kind not in _WEBP_CHUNKS or is_empty or self._left > self._announced:
            raise NotAnImage("The answer is a damaged WebP.")
        self._has_pixels = self._has_pixels or kind in _WEBP_PIXELS


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
