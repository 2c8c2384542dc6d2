"""What a thumbnail looks like: its options, its exact size in pixels, and its cache key.

Sizes follow four rules:

- ``dpr`` multiplies both sides asked for; halves are rounded up.
- A side that follows from the aspect ratio is rounded to the nearest pixel, halves up, and is never 0.
- Margins and cuts of an odd number of pixels leave the odd one at the right and at the bottom.
- A picture that its format cannot hold is made smaller as a whole until it can.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from enum import StrEnum

from thumbnailer.imaging import Dimensions
from thumbnailer.model import DEFAULT_QUALITY

KEY_VERSION = "r1"

MIN_SIDE = 16
MAX_SIDE = 2000
MAX_DPR = 3

#: Encoding AVIF takes about 24 bytes of memory for each pixel: this many take 400 MB.
MAX_AVIF_PIXELS = 16_000_000


class Fit(StrEnum):
    """How a picture meets the box asked for, where both sides of that are given."""

    INSIDE = "inside"
    COVER = "cover"
    CONTAIN = "contain"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The largest picture that a format takes: pixels along a side, and altogether."""

    max_side: int
    max_pixels: int | None = None

    def shrink(self, size: Dimensions) -> Dimensions:
        """``size`` itself, or one of the same proportions that fits."""
        scale = min(1.0, self.max_side / max(size.width, size.height))
        if self.max_pixels is not None:
            scale = min(scale, math.sqrt(self.max_pixels / (size.width * size.height)))
        if scale == 1.0:
            return size
        return Dimensions(max(1, int(size.width * scale)), max(1, int(size.height * scale)))


class RenditionFormat(StrEnum):
    """How a thumbnail is encoded."""

    PNG = "png"
    JPEG = "jpeg"
    WEBP = "webp"
    AVIF = "avif"

    @property
    def content_type(self) -> str:
        return f"image/{self.value}"

    @property
    def takes_quality(self) -> bool:
        return self is not RenditionFormat.PNG

    @property
    def can_be_transparent(self) -> bool:
        return self is not RenditionFormat.JPEG

    @property
    def bounds(self) -> Bounds:
        """RFC 9649, section 2.6, for WebP; the encoders' own limits for the others."""
        return _BOUNDS[self]


_BOUNDS = {
    RenditionFormat.PNG: Bounds(1_000_000),
    RenditionFormat.JPEG: Bounds(65_500),
    RenditionFormat.WEBP: Bounds(16_383),
    RenditionFormat.AVIF: Bounds(16_384, MAX_AVIF_PIXELS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """The options of a thumbnail.

    ``thumb_width`` and ``thumb_height`` are 16-2000 pixels before ``dpr`` (1-3) multiplies them. One
    alone keeps the aspect ratio and never enlarges; ``fit`` needs both. With neither, the capture keeps
    its size and only its format changes. ``quality`` is 1-100, None for the usual 80; PNG has none.

    Raises:
        ValueError: a number is outside its range.
    """

    format: RenditionFormat
    quality: int | None = None
    thumb_width: int | None = None
    thumb_height: int | None = None
    fit: Fit = Fit.INSIDE
    dpr: float = 1.0

    def __post_init__(self) -> None:
        for side in (self.thumb_width, self.thumb_height):
            if side is not None and not MIN_SIDE <= side <= MAX_SIDE:
                raise ValueError(f"{side} is no side of a thumbnail: {MIN_SIDE} to {MAX_SIDE} pixels")
        if not 1 <= self.dpr <= MAX_DPR:
            raise ValueError(f"{self.dpr} is no dpr: 1 to {MAX_DPR}")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ValueError(f"{self.quality} is no quality: 1 to 100")

    @property
    def width(self) -> int | None:
        """The width asked for, in image pixels."""
        return _round(self.thumb_width * self.dpr) if self.thumb_width else None

    @property
    def height(self) -> int | None:
        """The height asked for, in image pixels."""
        return _round(self.thumb_height * self.dpr) if self.thumb_height else None

    @property
    def effective_fit(self) -> Fit:
        """``inside`` where the other fits have nothing to cut or to pad."""
        return self.fit if self.width and self.height else Fit.INSIDE

    @property
    def effective_quality(self) -> int | None:
        """The quality that is encoded with; None for PNG."""
        return (self.quality or DEFAULT_QUALITY) if self.format.takes_quality else None


def rendition_key(capture_key: str, rendition: Rendition) -> str:
    """The cache key of a thumbnail: hexadecimal SHA-256 over the capture's key and what is rendered.

    Options that come to the same picture have the same key: 400 pixels at ``dpr`` 2 are 800 pixels.
    """
    content = [
        capture_key,
        rendition.format,
        rendition.effective_quality,
        rendition.width,
        rendition.height,
        rendition.effective_fit,
    ]
    canonical = json.dumps(content, separators=(",", ":"))
    return hashlib.sha256(f"{KEY_VERSION}\n{canonical}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Layout:
    """The picture scaled to ``scaled``, then cut or padded to ``canvas``.

    ``left`` and ``top`` are what is cut or padded on these sides.
    """

    scaled: Dimensions
    canvas: Dimensions
    left: int = 0
    top: int = 0

    @property
    def is_cut(self) -> bool:
        return self.scaled.width > self.canvas.width or self.scaled.height > self.canvas.height

    @property
    def is_padded(self) -> bool:
        return self.scaled.width < self.canvas.width or self.scaled.height < self.canvas.height


def lay_out(source: Dimensions, rendition: Rendition) -> Layout:
    """Where each pixel of an upright picture goes."""
    canvas = rendition.format.bounds.shrink(_canvas(source, rendition))
    match rendition.effective_fit:
        case Fit.INSIDE:
            return Layout(canvas, canvas)
        case Fit.COVER:
            return cover(source, canvas)
        case Fit.CONTAIN:
            return contain(source, canvas)


def cover(source: Dimensions, canvas: Dimensions) -> Layout:
    """Fill the canvas; keep the top of the picture and the middle of its width."""
    whole = _scale(source, max(canvas.width / source.width, canvas.height / source.height))
    scaled = Dimensions(max(whole.width, canvas.width), max(whole.height, canvas.height))
    return Layout(scaled, canvas, left=(scaled.width - canvas.width) // 2)


def contain(source: Dimensions, canvas: Dimensions) -> Layout:
    """Show all of the picture in the middle of the canvas."""
    whole = _scale(source, min(canvas.width / source.width, canvas.height / source.height))
    scaled = Dimensions(min(whole.width, canvas.width), min(whole.height, canvas.height))
    left, top = (canvas.width - scaled.width) // 2, (canvas.height - scaled.height) // 2
    return Layout(scaled, canvas, left, top)


def _canvas(source: Dimensions, rendition: Rendition) -> Dimensions:
    width, height = rendition.width, rendition.height
    if rendition.effective_fit is not Fit.INSIDE and width and height:
        return Dimensions(width, height)
    scale = min(1.0, (width or source.width) / source.width, (height or source.height) / source.height)
    return _scale(source, scale)


def _scale(size: Dimensions, scale: float) -> Dimensions:
    return Dimensions(max(1, _round(size.width * scale)), max(1, _round(size.height * scale)))


def _round(pixels: float) -> int:
    return math.floor(pixels + 0.5)
