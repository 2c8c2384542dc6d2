"""Pictures that look alike have fingerprints that are near to each other."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageDraw

from thumbnailer.errors import NotAnImage
from thumbnailer.fingerprints import BITS, distance, fingerprint


def page(*, headline: str = "News of the day", hero: tuple[int, int, int] = (30, 90, 160)) -> Image.Image:
    """Something like a page: a bar, a large picture, lines of text."""
    picture = Image.new("RGB", (1280, 720), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 0, 1280, 60), fill=(20, 20, 30))
    draw.rectangle((60, 100, 700, 460), fill=hero)
    draw.text((80, 20), headline, fill="white")
    for line in range(14):
        draw.rectangle((760, 110 + 40 * line, 1150 - 13 * (line % 5), 122 + 40 * line), fill=(90, 90, 90))
    return picture


def encoded(picture: Image.Image, image_format: str = "PNG", **options: int) -> bytes:
    content = io.BytesIO()
    picture.save(content, image_format, **options)
    return content.getvalue()


BEFORE = fingerprint(encoded(page()))


def test_a_fingerprint_is_64_hexadecimal_digits() -> None:
    assert len(BEFORE) == BITS // 4
    assert distance(BEFORE, BEFORE) == 0
    assert distance("0" * 64, "f" * 64) == BITS


@pytest.mark.parametrize(
    "body",
    [
        encoded(page(), "JPEG", quality=70),
        encoded(page(), "WEBP", quality=60),
        encoded(page(headline="News of tomorrow")),
        encoded(page().resize((640, 360))),
    ],
    ids=["as JPEG", "as WebP", "a few other letters", "half the size"],
)
def test_what_looks_alike_is_near(body: bytes) -> None:
    assert distance(BEFORE, fingerprint(body)) < 12


@pytest.mark.parametrize(
    "picture",
    [
        page().transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        Image.new("RGB", (1280, 720), "white"),
        page(hero=(250, 250, 250)),
    ],
    ids=["mirrored", "empty", "without its large picture"],
)
def test_what_looks_different_is_far(picture: Image.Image) -> None:
    assert distance(BEFORE, fingerprint(encoded(picture))) >= 12


def test_transparency_counts_as_white() -> None:
    opaque = page()
    clear = opaque.convert("RGBA")
    clear.putalpha(opaque.convert("L").point(lambda value: 0 if value == 255 else 255))
    assert distance(BEFORE, fingerprint(encoded(clear))) < 12


def test_what_is_no_picture_has_none() -> None:
    with pytest.raises(NotAnImage):
        fingerprint(b"\x89PNG\r\n\x1a\n nothing")
