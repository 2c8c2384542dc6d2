"""Files to pixels: judged by ``imaging`` before libvips sees a byte, then decoded no further than needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from thumbnailer import libvips
from thumbnailer.errors import NotAnImage
from thumbnailer.imaging import WEBP, Dimensions, PictureLimits, inspect

if TYPE_CHECKING:
    import pyvips

#: ``thumbnail_buffer`` has an argument of its own for this, which has no effect.
LOADER_OPTIONS = "[fail_on=truncated]"

#: Values 5 to 8 stand for pictures that lie on their side: CIPA DC-008 (Exif), orientation tag.
FIRST_SIDEWAYS_ORIENTATION = 5


@dataclass(frozen=True, slots=True)
class Source:
    """A whole file whose pixels are still to be read.

    ``size`` is that of the picture as it is seen; ``has_profile`` says whether it brings its own colours.
    """

    body: bytes
    size: Dimensions
    has_profile: bool

    def scaled(self, size: Dimensions) -> pyvips.Image:
        """The picture upright, in 8-bit sRGB, of exactly ``size``; its pixels are read when they are used.

        libvips reads a JPEG at an eighth, a quarter or half of its size where that is enough. It would
        shrink a WebP while reading too, but by a method that costs 10 dB of likeness.
        """
        if size.width > self.size.width or size.height > self.size.height:
            return _enlarged(self.scaled(self.size), size)
        options = {"height": size.height, "size": "force"}
        if self.has_profile:  # takes 10 ms, with or without a profile in the file
            options["output_profile"] = "srgb"
        if WEBP.begins(self.body):
            whole = libvips.vips().Image.new_from_buffer(self.body, LOADER_OPTIONS, access="sequential")
            picture = whole.thumbnail_image(size.width, **options)
        else:
            picture = libvips.vips().Image.thumbnail_buffer(
                self.body, size.width, option_string=LOADER_OPTIONS, **options
            )
        return picture if picture.interpretation == "srgb" else picture.colourspace("srgb")


def _enlarged(picture: pyvips.Image, size: Dimensions) -> pyvips.Image:
    """An 8-bit picture of ``size``, the middles of its pixels where they belong.

    libvips' own ``thumbnail`` and ``resize`` align the corners, which moves the whole by up to half a pixel.
    """
    source = picture.premultiply() if picture.hasalpha() else picture
    across, down = size.width / picture.width, size.height / picture.height
    enlarged = source.affine(
        [across, 0, 0, down],
        interpolate=libvips.vips().Interpolate.new("bicubic"),
        oarea=[0, 0, size.width, size.height],
        idx=0.5,
        idy=0.5,
        odx=-0.5,
        ody=-0.5,
        extend="copy",
    )
    return (enlarged.unpremultiply() if picture.hasalpha() else enlarged).cast("uchar")


def open_picture(body: bytes, limits: PictureLimits) -> Source:
    """Judge a file and read its header.

    Raises:
        NotAnImage: it is no whole PNG, JPEG or WebP, or libvips finds another size than its header says.
        ImageTooLarge: it has too many bytes or pixels.
        UsedBeforeFork: the parent of this process used libvips.
    """
    libvips.claim()
    stored = inspect(body, limits, unpacks=False).dimensions
    assert stored is not None, "only a PDF has no dimensions"
    with unreadable_is_no_image():
        opened = libvips.vips().Image.new_from_buffer(body, LOADER_OPTIONS)
    if (opened.width, opened.height) != (stored.width, stored.height):
        raise NotAnImage("The picture contradicts itself.")
    is_sideways = opened.get_typeof("orientation") and opened.get("orientation") >= FIRST_SIDEWAYS_ORIENTATION
    size = Dimensions(stored.height, stored.width) if is_sideways else stored
    return Source(body, size, has_profile=opened.get_typeof("icc-profile-data") != 0)


@contextmanager
def unreadable_is_no_image() -> Iterator[None]:
    """Translate libvips' errors; for blocks that only read."""
    try:
        yield
    except libvips.vips().Error as error:
        raise NotAnImage("The picture cannot be read.") from error
