"""Tells whether two pictures look alike, whatever their bytes.

The difference hash: the picture is shrunk to 17 by 16 grey pixels, and each bit says whether a pixel is
clearly brighter than its right neighbour. Small changes of compression or a few letters turn no bits or few;
another headline picture or layout turns many.
http://www.hackerfactor.com/blog/index.php?/archives/529-Kind-of-Like-That.html
"""

from __future__ import annotations

from itertools import pairwise

from thumbnailer import libvips
from thumbnailer.decoding import LOADER_OPTIONS, unreadable_is_no_image

SIDE = 16
BITS = SIDE * SIDE

#: Smaller differences, of 255, are the traces of compression in plain areas.
CLEARLY = 4


def fingerprint(body: bytes) -> str:
    """The 256 bits of a whole, checked picture, as 64 hexadecimal digits.

    Raises:
        NotAnImage: it cannot be decoded.
        UsedBeforeFork: the parent of this process used libvips.
    """
    libvips.claim()
    with unreadable_is_no_image():
        small = libvips.vips().Image.thumbnail_buffer(
            body, SIDE + 1, height=SIDE, size="force", option_string=LOADER_OPTIONS
        )
        opaque = small.flatten(background=255) if small.hasalpha() else small
        grey = opaque.colourspace("b-w").cast("uchar").write_to_memory()
    rows = [grey[start : start + SIDE + 1] for start in range(0, len(grey), SIDE + 1)]
    bits = [left - right > CLEARLY for row in rows for left, right in pairwise(row)]
    return f"{sum(bit << place for place, bit in enumerate(bits)):0{BITS // 4}x}"


def distance(one: str, other: str) -> int:
    """How many of the 256 bits of two fingerprints differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()
