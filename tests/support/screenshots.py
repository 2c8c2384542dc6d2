"""Pictures that look like pages, and how alike two pictures are."""

from __future__ import annotations

import functools
import io
import math
import random

from PIL import Image, ImageChops, ImageDraw, ImageFont, ImageStat

WORDS = ("a", "page", "as", "readers", "see", "it", "before", "they", "open", "small", "sharp", "at", "once")
INK, LINK, PAPER, CODE, BAR = (30, 34, 40), (0, 92, 197), (255, 255, 255), (240, 242, 245), (36, 41, 66)
LINE = 24


@functools.cache
def page_picture(width: int = 1280, height: int = 720) -> Image.Image:
    """A page with a bar, a column of text, links, code and photographs, the same at every call."""
    page = Image.new("RGB", (width, height), PAPER)
    pen, chance = ImageDraw.Draw(page), random.Random(11)
    pen.rectangle((0, 0, width, 56), fill=BAR)
    pen.text((24, 14), "Northwind documentation", fill=PAPER, font=ImageFont.load_default(24))
    font = ImageFont.load_default(16)
    for number, top in enumerate(range(80, height - LINE, LINE)):
        if number % 11 in (7, 8, 9):
            pen.rectangle((24, top, int(width * 0.6), top + LINE), fill=CODE)
        line = " ".join(chance.choices(WORDS, k=max(2, width // 110)))
        pen.text((32, top + 2), line, fill=LINK if number % 5 == 0 else INK, font=font)
    for top in range(80, height - 160, 200):
        page.paste(_photograph(int(width * 0.3), 176, chance), (int(width * 0.66), top))
    return page


def encoded(picture: Image.Image, image_format: str, **options: object) -> bytes:
    """A picture as a file, by Pillow."""
    buffer = io.BytesIO()
    picture.save(buffer, image_format.upper(), **options)
    return buffer.getvalue()


def decoded(body: bytes) -> Image.Image:
    """The pixels of a file, by Pillow."""
    picture = Image.open(io.BytesIO(body))
    picture.load()
    return picture


def likeness(one: Image.Image, other: Image.Image) -> float:
    """How alike two pictures of one size are on white: peak signal-to-noise ratio in decibels.

    20 is clearly another picture, 30 a visibly worse one, 40 the same to the eye.
    """
    difference = ImageStat.Stat(ImageChops.difference(_on_white(one), _on_white(other)))
    mean_square = sum(difference.sum2) / sum(difference.count)
    return math.inf if mean_square == 0 else 10 * math.log10(255**2 / mean_square)


def _on_white(picture: Image.Image) -> Image.Image:
    white = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")


def _photograph(width: int, height: int, chance: random.Random) -> Image.Image:
    """Soft shapes and fine grain in natural proportions."""
    bands = []
    for _ in range(3):
        band, share = Image.new("L", (width, height), chance.randrange(70, 150)), 0.5
        for cells in (3, 6, 12, 24, 48, 96):
            grain = Image.frombytes("L", (cells, cells), chance.randbytes(cells * cells))
            band = Image.blend(band, grain.resize((width, height), Image.Resampling.BICUBIC), share)
            share *= 0.62
        bands.append(band)
    return Image.merge("RGB", bands)
