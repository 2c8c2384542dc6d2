"""The pixels of a PNG, unpacked as they pass by and thrown away: whether they are all there and no more.

PNG (third edition), sections 10 (compression), 7 (how many bytes there are) and 8 (interlacing).
"""

from __future__ import annotations

import struct
import zlib

from thumbnailer.errors import NotAnImage

#: How much is unpacked at a time, in bytes.
PIECE_BYTES = 65_536

#: Samples of a pixel by colour type, and the bits that each may have: section 11.2.1.
_SAMPLES = {
    0: (1, (1, 2, 4, 8, 16)),
    2: (3, (8, 16)),
    3: (1, (1, 2, 4, 8)),
    4: (2, (8, 16)),
    6: (4, (8, 16)),
}

#: Adam7: the first column and row of each pass, and the steps from there.
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


class PngPixels:
    """What the ``IDAT`` chunks of one PNG unpack to; ``header`` is the content of its ``IHDR``.

    Holds one piece at a time. Raises NotAnImage for a header that means nothing.
    """

    def __init__(self, header: bytes) -> None:
        self._left_bytes = _unpacked_bytes(header)
        self._unpacking = zlib.decompressobj()

    @property
    def is_complete(self) -> bool:
        return self._unpacking.eof and self._left_bytes == 0

    def feed(self, packed: bytes) -> None:
        """Raises NotAnImage where they do not unpack, or to more than there are pixels."""
        while packed and not self._unpacking.eof:
            try:
                piece = self._unpacking.decompress(packed, PIECE_BYTES)
            except zlib.error:
                raise damaged_png() from None
            self._left_bytes -= len(piece)
            if self._left_bytes < 0:
                raise damaged_png()
            packed = self._unpacking.unconsumed_tail


def _unpacked_bytes(header: bytes) -> int:
    """How many bytes the rows of all passes have, each with its filter's byte."""
    if len(header) != 13:
        raise damaged_png()
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", header)
    samples, depths = _SAMPLES.get(colour, (0, ()))
    if depth not in depths or compression or filtering or interlace > 1:
        raise damaged_png()
    bits = samples * depth
    if not interlace:
        return _rows(width, height, bits)
    return sum(
        _rows(-(-(width - left) // across), -(-(height - top) // down), bits)
        for left, top, across, down in _PASSES
        if width > left and height > top
    )


def _rows(width: int, height: int, bits: int) -> int:
    return height * (1 + (width * bits + 7) // 8)


def damaged_png() -> NotAnImage:
    """The error for a PNG that is none."""
    return NotAnImage("The answer is a damaged PNG.")
