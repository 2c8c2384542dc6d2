"""Tells pictures of nothing: one colour all over, but for a few stray pixels.

A page that failed to draw itself, or a provider that photographed too early, delivers a file that is in
order and shows nothing. Most captures are known not to be blank by their size alone; the others take 5 to
10 ms for 1280 by 720 pixels, WebP three times that.

Measured with Chromium on pages of 1280 by 720 pixels: an empty page takes at most 0.007 bytes a pixel as
PNG, JPEG or WebP, whatever its colour; a heading and a paragraph 0.012 to 0.023; a full page of text 0.25 and
more. In an empty page no pixel differs by more than 4 of 255 from the rest. A full stop makes 4 pixels in a
million differ by more than 8, the word "hi" 75.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from thumbnailer import libvips
from thumbnailer.decoding import LOADER_OPTIONS, unreadable_is_no_image
from thumbnailer.errors import BlankPicture
from thumbnailer.model import CaptureRecord, CaptureRequest

if TYPE_CHECKING:
    import pyvips

#: Files with more bytes for each pixel show something: three times what an empty page takes.
MAX_BYTES_PER_PIXEL = 0.02
#: How far a value of 0 to 255 may be from the common colour: compression leaves such traces.
TOLERANCE = 8
#: With a larger standard deviation too many pixels differ, whichever they are.
MAX_DEVIATION = 10.0

DEFAULT_STRAY_PER_MILLION = 20
WHITE = 255


class Blanks:
    """Refuses blank captures; safe to use from many threads.

    ``stray_per_million`` pixels may differ in a blank one, counted on the uppermost square of the picture,
    so that a word on top of a very long page counts as much as on a short one. ``is_on`` false lets
    everything pass.
    """

    def __init__(self, *, is_on: bool = True, stray_per_million: int = DEFAULT_STRAY_PER_MILLION) -> None:
        self._is_on = is_on
        self._stray_per_million = stray_per_million

    def refuse(self, request: CaptureRequest, record: CaptureRecord, read: Callable[[], bytes]) -> None:
        """Judge a whole capture; ``read`` brings its bytes, and is called only where that is needed.

        A part of a page that was asked for, by ``selector`` or ``clip``, may be of one colour, and a PDF is
        not looked at.

        Raises:
            BlankPicture: it shows nothing.
            NotAnImage: it cannot be decoded.
            UsedBeforeFork: the parent of this process used libvips.
        """
        if not self._is_on or request.selector or request.clip or not record.width or not record.height:
            return
        if record.size_bytes > record.width * record.height * MAX_BYTES_PER_PIXEL:
            return
        allowed_pixels = self._stray_per_million * record.width * min(record.width, record.height) / 1e6
        if _count_stray_pixels(read()) <= allowed_pixels:
            raise BlankPicture("The picture of the page is blank.")


def _count_stray_pixels(body: bytes) -> float:
    """How many pixels differ from the common colour; infinite where that is clear without counting."""
    libvips.claim()
    with unreadable_is_no_image():
        picture = _open(body)
        means, deviations = _mean_and_deviation(picture)
        if max(deviations) > MAX_DEVIATION:
            return float("inf")
        differs = ((_open(body) - means).abs() > TOLERANCE).bandor()
        share: float = differs.avg() / 255
        return share * int(picture.width) * int(picture.height)


def _open(body: bytes) -> pyvips.Image:
    """Decoded from top to bottom while it is used, so that a large picture takes no more memory."""
    picture = libvips.vips().Image.new_from_buffer(body, LOADER_OPTIONS, access="sequential")
    picture = picture if picture.interpretation in ("srgb", "b-w") else picture.colourspace("srgb")
    return picture.flatten(background=WHITE) if picture.hasalpha() else picture


def _mean_and_deviation(picture: pyvips.Image) -> tuple[list[float], list[float]]:
    """Of each band; ``stats`` has a row for each after the one for all."""
    stats = picture.stats()
    bands = range(1, picture.bands + 1)
    return [round(stats(4, band)[0]) for band in bands], [stats(5, band)[0] for band in bands]
