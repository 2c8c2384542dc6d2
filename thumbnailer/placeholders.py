"""Pictures to show where there is none: neutral, of the size asked for, at home on any page."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from thumbnailer import libvips
from thumbnailer.encoding import Rendered, encode
from thumbnailer.errors import ImageTooLarge, NotAnImage, Overloaded
from thumbnailer.imaging import Dimensions, PictureLimits, inspect
from thumbnailer.placeholder_glyphs import Window, failed_glyph, pending_glyph
from thumbnailer.placeholder_shapes import coverage
from thumbnailer.rations import Rations
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import Bounds, RenditionFormat

if TYPE_CHECKING:
    import pyvips

log = structlog.get_logger(__name__)

#: One grey in two strengths, so that it takes on the brightness of the page around it.
GREY = (128, 137, 150)
PAPER_ALPHA = 40
INK_ALPHA = 220

#: What lies below where the format knows no transparency: neither bright on dark pages nor the reverse.
OPAQUE_PAPER = (214, 219, 225)

#: Flat colours take few bytes at any quality, and lines keep their edges at this one.
QUALITY = 95

#: Larger ones are asked for as well, but nobody needs more of this picture.
BOUNDS = Bounds(max_side=6000, max_pixels=4_000_000)

#: Below this side there is no room for a drawing.
MIN_DRAWN_SIDE = 12
MAX_WINDOW_HEIGHT = 144

#: How long a placeholder may wait for its turn: the request has failed already, perhaps for lack of time.
PATIENCE_SECONDS = 0.25

#: Finished placeholders in memory; they take some kilobytes each.
KEPT = 128

#: Who is refused is charged for nothing, and may ask for another size each time: each new one costs up to
#: a quarter of a second of a processor. So many pixels are drawn at once, then so many a second; a small
#: placeholder counts as a larger one, for it costs as much. Whoever comes then gets the usual size.
PIXELS_AT_ONCE = 40_000_000
PIXELS_PER_SECOND = 2_000_000
LEAST_PIXELS = 500_000
USUAL_SIZE = Dimensions(400, 225)


class PlaceholderKind(StrEnum):
    """Why there is no picture."""

    PENDING = "pending"
    FAILED = "failed"


class Placeholders:
    """Makes placeholders, and remembers them; safe to use from many threads.

    ``own_pictures`` are whole PNGs, JPEGs or WebPs to show instead of the drawings; ``clock`` is in seconds.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        own_pictures: Mapping[PlaceholderKind, bytes],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._renderer = renderer
        self._own_pictures = own_pictures
        self._turn = threading.Lock()
        self._remembered = lru_cache(KEPT)(self._make)
        self._usual = lru_cache(maxsize=None)(partial(draw, USUAL_SIZE))
        self._pixels = Rations(PIXELS_AT_ONCE, PIXELS_PER_SECOND, clock)

    def placeholder(self, size: Dimensions, kind: PlaceholderKind, wanted: RenditionFormat) -> Rendered:
        """A picture of ``size`` pixels; of more than four million, a smaller one of the same shape.

        Of the usual size where too many others were asked for.

        Raises:
            UsedBeforeFork: the parent of this process rendered pictures.
        """
        libvips.claim()
        drawn_size = BOUNDS.shrink(size)
        if not self._turn.acquire(timeout=PATIENCE_SECONDS):  # one at a time: whoever waits finds it made
            return self._drawn(drawn_size, kind, wanted)
        try:
            return self._remembered(drawn_size, kind, wanted)
        except Overloaded:
            return self._drawn(drawn_size, kind, wanted)
        finally:
            self._turn.release()

    def _drawn(self, size: Dimensions, kind: PlaceholderKind, wanted: RenditionFormat) -> Rendered:
        return draw(size, kind, wanted) if self._may_make(size) else self._usual(kind, wanted)

    def _may_make(self, size: Dimensions) -> bool:
        return self._pixels.take(max(LEAST_PIXELS, size.width * size.height))

    def _make(self, size: Dimensions, kind: PlaceholderKind, wanted: RenditionFormat) -> Rendered:
        """Raises ``Overloaded``: too many were made of late, or are being rendered."""
        if not self._may_make(size):
            raise Overloaded("Too many placeholders are asked for.")
        own_picture = self._own_pictures.get(kind)
        if own_picture is not None:
            try:
                return self._renderer.render_onto(size, own_picture, wanted, wait_seconds=PATIENCE_SECONDS)
            except (NotAnImage, ImageTooLarge) as error:
                log.warning("own_placeholder_unusable", reason=str(error))
        return draw(size, kind, wanted)


def read_own_picture(path: Path, limits: PictureLimits) -> bytes:
    """Read an operator's own placeholder and judge it, without decoding it.

    Raises:
        OSError: the file cannot be read.
        NotAnImage: it is no whole PNG, JPEG or WebP.
        ImageTooLarge: it has too many bytes or pixels.
    """
    body = path.read_bytes()
    inspect(body, limits)
    return body


def draw(size: Dimensions, kind: PlaceholderKind, wanted: RenditionFormat) -> Rendered:
    """A browser window in the middle of a soft grey."""
    alpha = _ink(size, kind) * ((INK_ALPHA - PAPER_ALPHA) / 255) + PAPER_ALPHA
    alpha = alpha.rint().cast("uchar")
    picture = alpha.new_from_image(GREY).copy(interpretation="srgb").bandjoin(alpha)
    if not wanted.can_be_transparent:
        picture = picture.flatten(background=OPAQUE_PAPER)
    return encode(picture.copy_memory(), wanted, QUALITY)


def _ink(size: Dimensions, kind: PlaceholderKind) -> pyvips.Image:
    least = min(size.width * 0.75, size.height)
    if least < MIN_DRAWN_SIDE:
        return libvips.vips().Image.black(size.width, size.height)
    window = Window(min(round(least * 0.75), round(11 + least * 0.3), MAX_WINDOW_HEIGHT))
    glyph = pending_glyph(window) if kind is PlaceholderKind.PENDING else failed_glyph(window)
    return coverage(glyph).gravity("centre", size.width, size.height)
