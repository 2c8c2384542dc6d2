"""Captures to thumbnails.

1. ``decoding`` judges the file and reads its header.
2. The layout says which pixel goes where.
3. The picture is decoded upright in sRGB and scaled, then cut or padded.
4. ``encoding`` writes it without metadata.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from thumbnailer.decoding import Source, open_picture, unreadable_is_no_image
from thumbnailer.encoding import WHITE, Rendered, encode
from thumbnailer.errors import Overloaded
from thumbnailer.imaging import Dimensions, PictureLimits
from thumbnailer.renditions import Layout, Rendition, RenditionFormat, contain, lay_out

if TYPE_CHECKING:
    import pyvips

#: Pictures of more pixels than this, before or after, are rendered one at a time: each may take
#: hundreds of megabytes.
LARGE_PIXELS = 4_000_000

OPAQUE = 255
NOTHING = (0, 0, 0, 0)


class Renderer:
    """Makes thumbnails; safe to use from many threads.

    ``concurrency`` pictures are rendered at once, large ones one at a time, and nobody waits longer
    than ``wait_seconds`` for a turn. The processor's cores are a good number.
    """

    def __init__(self, limits: PictureLimits, *, concurrency: int, wait_seconds: float = 10) -> None:
        self._limits = limits
        self._places = threading.BoundedSemaphore(concurrency)
        self._large_place = threading.BoundedSemaphore(1)
        self._wait_seconds = wait_seconds

    def render(self, body: bytes, rendition: Rendition) -> Rendered:
        """Make one thumbnail of a whole PNG, JPEG or WebP.

        Raises:
            NotAnImage: the bytes are no whole picture.
            ImageTooLarge: the picture, or what was to be made of it, has too many bytes or pixels.
            Overloaded: too many pictures are being rendered.
            UsedBeforeFork: the parent of this process rendered pictures.
        """
        source = open_picture(body, self._limits)
        layout = lay_out(source.size, rendition)
        return self._finish(
            source, layout, rendition.format, rendition.quality, wait_seconds=self._wait_seconds
        )

    def render_onto(
        self, canvas: Dimensions, body: bytes, wanted: RenditionFormat, *, wait_seconds: float
    ) -> Rendered:
        """Show a whole picture on a canvas of any size, as ``contain`` does; raises as ``render`` does.

        For a turn it waits no longer than ``wait_seconds``.
        """
        source = open_picture(body, self._limits)
        return self._finish(source, contain(source.size, canvas), wanted, None, wait_seconds=wait_seconds)

    def _finish(
        self,
        source: Source,
        layout: Layout,
        wanted: RenditionFormat,
        quality: int | None,
        *,
        wait_seconds: float,
    ) -> Rendered:
        self._limits.refuse_pixels(layout.canvas)
        with self._place(max(_pixels(source.size), _pixels(layout.canvas)), wait_seconds):
            return encode(_draw(source, layout, wanted), wanted, quality)

    @contextmanager
    def _place(self, pixels: int, wait_seconds: float) -> Iterator[None]:
        with ExitStack() as held:
            for place in [self._large_place, self._places] if pixels > LARGE_PIXELS else [self._places]:
                if not place.acquire(timeout=wait_seconds):
                    raise Overloaded("Too many pictures are being rendered.", retry_after_seconds=1)
                held.callback(place.release)
            yield


def _draw(source: Source, layout: Layout, wanted: RenditionFormat) -> pyvips.Image:
    """The thumbnail's pixels, in memory."""
    canvas = layout.canvas
    with unreadable_is_no_image():
        picture = source.scaled(layout.scaled)
        if layout.is_cut:
            picture = picture.crop(layout.left, layout.top, canvas.width, canvas.height)
        picture = picture.copy_memory()  # decodes here, so that no fault of an encoder is blamed on the file
    return _pad(picture, layout, wanted) if layout.is_padded else picture


def _pad(picture: pyvips.Image, layout: Layout, wanted: RenditionFormat) -> pyvips.Image:
    """Margins that are transparent where the format can show that, else white."""
    canvas = layout.canvas
    if wanted.can_be_transparent:
        picture = picture if picture.hasalpha() else picture.bandjoin(OPAQUE)
    elif picture.hasalpha():
        picture = picture.flatten(background=WHITE)
    background = NOTHING if wanted.can_be_transparent else WHITE
    return picture.embed(
        layout.left, layout.top, canvas.width, canvas.height, extend="background", background=background
    )


def _pixels(size: Dimensions) -> int:
    return size.width * size.height
