"""Pixels to small files. The figures behind every choice stand in ``docs/rendering.md``.

Thumbnails are encoded once and sent many times, so they get the effort that still pays; large pictures
are rare, and with the same effort one would hold a processor for seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from thumbnailer.model import DEFAULT_QUALITY
from thumbnailer.renditions import RenditionFormat

if TYPE_CHECKING:
    import pyvips

#: Up to so many pixels a picture counts as a thumbnail; 800x600 does.
THUMBNAIL_PIXELS = 500_000

#: Our quality and AVIF's own number for it: pairs that came out alike in structural similarity on
#: pictures of pages. WebP's numbers are ours, JPEG's are the usual ones.
AVIF_QUALITIES = ((1, 1), (30, 30), (70, 46), (80, 52), (90, 71), (100, 90))

WHITE = (255, 255, 255)


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished picture; ``width`` and ``height`` are image pixels."""

    body: bytes
    content_type: str
    width: int
    height: int


def encode(picture: pyvips.Image, wanted: RenditionFormat, quality: int | None = None) -> Rendered:
    """Write an 8-bit sRGB picture without any metadata; JPEG gets white where it is transparent."""
    if picture.hasalpha() and not wanted.can_be_transparent:
        picture = picture.flatten(background=WHITE)
    is_large = picture.width * picture.height > THUMBNAIL_PIXELS
    body = _ENCODERS[wanted](picture, quality or DEFAULT_QUALITY, is_large)
    return Rendered(body, wanted.content_type, picture.width, picture.height)


def avif_quality(quality: int) -> int:
    """AVIF's number for a picture about as good as WebP's at ``quality``."""
    for (low, low_avif), (high, high_avif) in pairwise(AVIF_QUALITIES):
        if quality <= high:
            return low_avif + round((quality - low) * (high_avif - low_avif) / (high - low))
    return AVIF_QUALITIES[-1][1]


def _png(picture: pyvips.Image, _quality: int, is_large: bool) -> bytes:
    return bytes(picture.pngsave_buffer(compression=6 if is_large else 7, filter="all", keep="none"))


def _jpeg(picture: pyvips.Image, quality: int, _is_large: bool) -> bytes:
    return bytes(picture.jpegsave_buffer(Q=quality, optimize_coding=True, interlace=True, keep="none"))


def _webp(picture: pyvips.Image, quality: int, _is_large: bool) -> bytes:
    return bytes(picture.webpsave_buffer(Q=quality, effort=2, keep="none"))


def _avif(picture: pyvips.Image, quality: int, is_large: bool) -> bytes:
    return bytes(
        picture.heifsave_buffer(
            compression="av1",
            Q=avif_quality(quality),
            effort=1 if is_large else 3,
            tune="ssim",
            subsample_mode="off",  # coloured text stays sharp for 10 % more bytes
            keep="none",
        )
    )


_ENCODERS: Mapping[RenditionFormat, Callable[[pyvips.Image, int, bool], bytes]] = {
    RenditionFormat.PNG: _png,
    RenditionFormat.JPEG: _jpeg,
    RenditionFormat.WEBP: _webp,
    RenditionFormat.AVIF: _avif,
}
