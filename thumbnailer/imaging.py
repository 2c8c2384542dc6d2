"""Tells true pictures from everything else, while the bytes pass by.

A picture is believed by its bytes alone: magic number, dimensions, and a structure that ends where the
file does. Neither a request's wish nor an upstream's Content-Type counts. What moves is no picture of a
page: animated PNG and WebP are refused, as are GIF and AVIF, which no provider is asked for.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass

from thumbnailer.errors import ImageTooLarge, NotAnImage
from thumbnailer.structure import (
    JpegStructure,
    PdfStructure,
    PngStructure,
    Structure,
    WebpStructure,
    animated,
)

#: Dimensions stand near the start; a JPEG may carry some 64 KiB segments of metadata before them.
MAX_HEADER_BYTES = 512 * 1024
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
JPEG_START = b"\xff\xd8\xff"
#: The flag of VP8X that says that there are frames: RFC 9649, section 2.7.1.
WEBP_ANIMATION_FLAG = 0x02
#: TEM, RST0 to RST7, SOI, EOI and SOS have no length, or end the search: none may stand before the
#: frame header. ITU-T T.81, B.1.1.3; decoders read on behind them, so they could hide another size.
JPEG_MISPLACED_MARKERS = frozenset({0x00, 0x01, *range(0xD0, 0xDB)})
#: Segments and fill bytes before the frame header: a colour profile takes 255 at most, and all are gone
#: through anew with each chunk that arrives.
MAX_JPEG_STEPS = 1000
#: SOF0 to SOF15 without DHT, JPG and DAC: ITU-T T.81, table B.1.
JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, slots=True)
class PictureLimits:
    """The largest picture that is accepted, in bytes and in pixels."""

    max_bytes: int = 20 * 1024 * 1024
    max_pixels: int = 50_000_000

    def refuse_bytes(self, size_bytes: int) -> None:
        """Raise ``ImageTooLarge`` where ``size_bytes`` is more than allowed."""
        if size_bytes > self.max_bytes:
            raise ImageTooLarge("The picture has more bytes than this service accepts.")

    def refuse_pixels(self, dimensions: Dimensions) -> None:
        """Raise ``ImageTooLarge`` where there are more pixels than allowed, ``NotAnImage`` for none."""
        pixels = dimensions.width * dimensions.height
        if pixels == 0:
            raise NotAnImage("The picture is empty.")
        if pixels > self.max_pixels:
            raise ImageTooLarge("The picture has more pixels than this service accepts.")


@dataclass(frozen=True, slots=True)
class Dimensions:
    """Width and height in image pixels."""

    width: int
    height: int


@dataclass(frozen=True, slots=True)
class PictureFacts:
    """What the bytes of a whole picture say of themselves; a PDF has no dimensions."""

    content_type: str
    dimensions: Dimensions | None
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Codec:
    """How to recognise one kind of file.

    ``measure`` returns the dimensions, or None while more bytes are needed; ``structure`` makes what
    follows one file, and is told whether to unpack its pixels, as far as it can.
    """

    content_type: str
    begins: Callable[[bytes], bool]
    measure: Callable[[bytes], Dimensions | None]
    structure: Callable[[bool], Structure]


def _measure_png(head: bytes) -> Dimensions | None:
    if len(head) < 24:
        return None
    if head[12:16] != b"IHDR":
        raise NotAnImage("The answer is a damaged PNG.")
    return Dimensions(*struct.unpack(">II", head[16:24]))


def _measure_jpeg(head: bytes) -> Dimensions | None:
    at = 2
    for _ in range(MAX_JPEG_STEPS):
        if at + 9 > len(head):
            return None
        if head[at] != 0xFF or head[at + 1] in JPEG_MISPLACED_MARKERS:
            raise NotAnImage("The answer is a damaged JPEG.")
        marker = head[at + 1]
        if marker == 0xFF:  # fill bytes may precede any marker: ITU-T T.81, B.1.1.2
            at += 1
        elif marker in JPEG_FRAME_MARKERS:
            height, width = struct.unpack(">HH", head[at + 5 : at + 9])
            return Dimensions(width, height)
        else:
            at += 2 + int(struct.unpack(">H", head[at + 2 : at + 4])[0])
    raise NotAnImage("The answer is a damaged JPEG.")


def _measure_webp(head: bytes) -> Dimensions | None:
    """Read one of the three bitstream headers: RFC 9649, section 2."""
    if len(head) < 30:
        return None
    kind = head[12:16]
    if kind == b"VP8 ":
        width, height = struct.unpack("<HH", head[26:30])
        return Dimensions(width & 0x3FFF, height & 0x3FFF)
    if kind == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return Dimensions((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8X":
        if head[20] & WEBP_ANIMATION_FLAG:
            raise animated()
        width = int.from_bytes(head[24:27], "little") + 1
        return Dimensions(width, int.from_bytes(head[27:30], "little") + 1)
    raise NotAnImage("The answer is a damaged WebP.")


PNG = Codec(
    "image/png",
    lambda head: head.startswith(PNG_SIGNATURE),
    _measure_png,
    PngStructure,
)
JPEG = Codec(
    "image/jpeg",
    lambda head: head.startswith(JPEG_START),
    _measure_jpeg,
    lambda _unpacks: JpegStructure(),
)
WEBP = Codec(
    "image/webp",
    lambda head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
    _measure_webp,
    lambda _unpacks: WebpStructure(),
)
PDF = Codec(
    "application/pdf",
    lambda head: head.startswith(b"%PDF-"),
    lambda _head: None,
    lambda _unpacks: PdfStructure(),
)
IMAGE_CODECS = (PNG, JPEG, WEBP)
MAGIC_BYTES = 12


class Inspector:
    """Watches the bytes of one answer go by and says what they are.

    Feed every chunk in order, then call ``finish``. Holds at most ``MAX_HEADER_BYTES``.
    ``unpacks=False`` is for who is about to decode the picture, and will see whether its pixels are sound.
    """

    def __init__(self, limits: PictureLimits, *, is_pdf: bool = False, unpacks: bool = True) -> None:
        self._unpacks = unpacks
        self._limits = limits
        self._codecs = (PDF,) if is_pdf else IMAGE_CODECS
        self._codec: Codec | None = None
        self._dimensions: Dimensions | None = None
        self._structure: Structure | None = None
        self._head = b""
        self._size_bytes = 0
        self._digest = hashlib.sha256()

    @property
    def is_identified(self) -> bool:
        """Whether kind and dimensions are known and within the limits, and nothing moves."""
        if self._structure is None or not self._is_measured:
            return False
        return self._structure.shows_stillness or self._size_bytes >= MAX_HEADER_BYTES

    @property
    def content_type(self) -> str:
        """The media type by magic number; only once identified."""
        assert self._codec is not None, "ask is_identified first"
        return self._codec.content_type

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes.

        Raises:
            NotAnImage: they cannot be the picture asked for.
            ImageTooLarge: there are more bytes or pixels than allowed.
        """
        self._size_bytes += len(chunk)
        self._limits.refuse_bytes(self._size_bytes)
        self._digest.update(chunk)
        if self._structure is None:
            chunk, self._head = self._head + chunk, b""
            if len(chunk) < MAGIC_BYTES:
                self._head = chunk
                return
            self._structure = self._recognise(chunk).structure(self._unpacks)
        if not self._is_measured:
            self._measure(chunk)
        self._structure.feed(chunk)

    def finish(self) -> PictureFacts:
        """Say what the whole was.

        Raises:
            NotAnImage: nothing came, or it was cut off, or something was appended.
        """
        if self._codec is None or self._structure is None or not self._is_measured:
            raise NotAnImage("The answer holds no picture.")
        if not self._structure.is_complete:
            raise NotAnImage("The picture does not end where it should.")
        return PictureFacts(
            self._codec.content_type, self._dimensions, self._size_bytes, self._digest.hexdigest()
        )

    @property
    def _is_measured(self) -> bool:
        return self._codec is PDF or self._dimensions is not None

    def _recognise(self, start: bytes) -> Codec:
        self._codec = next((codec for codec in self._codecs if codec.begins(start)), None)
        if self._codec is None:
            raise NotAnImage("The answer is not a picture of the kind asked for.")
        return self._codec

    def _measure(self, chunk: bytes) -> None:
        assert self._codec is not None, "recognise first"
        self._head += chunk[: MAX_HEADER_BYTES - len(self._head)]
        self._dimensions = self._codec.measure(self._head)
        if self._dimensions is not None:
            self._head = b""
            self._limits.refuse_pixels(self._dimensions)
        elif len(self._head) >= MAX_HEADER_BYTES:
            raise NotAnImage("The answer hides its dimensions.")


def inspect(
    body: bytes, limits: PictureLimits, *, is_pdf: bool = False, unpacks: bool = True
) -> PictureFacts:
    """Judge a whole picture at once; raises as ``Inspector`` does."""
    inspector = Inspector(limits, is_pdf=is_pdf, unpacks=unpacks)
    inspector.feed(body)
    return inspector.finish()
