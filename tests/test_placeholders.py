"""Placeholders have the size and format asked for, and are seen on light and on dark pages."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageStat

from tests.support.pictures import picture
from tests.support.screenshots import decoded, encoded, likeness, page_picture
from thumbnailer.errors import ImageTooLarge, NotAnImage
from thumbnailer.imaging import Dimensions, PictureLimits
from thumbnailer.placeholders import PlaceholderKind, Placeholders, draw, read_own_picture
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import RenditionFormat

PNG, JPEG, WEBP, AVIF = RenditionFormat
LIMITS = PictureLimits()
SIZES = [(16, 16), (120, 90), (400, 300), (1280, 720), (300, 1200)]
PAGES = [pytest.param((255, 255, 255), id="light page"), pytest.param((20, 23, 28), id="dark page")]


def _placeholders(
    own_picture: bytes | None = None, clock: Callable[[], float] = time.monotonic
) -> Placeholders:
    return Placeholders(
        Renderer(LIMITS, concurrency=2),
        own_pictures=dict.fromkeys(PlaceholderKind, own_picture) if own_picture else {},
        clock=clock,
    )


@pytest.mark.parametrize("size", [*SIZES, (1, 1), (11, 500), (2000, 16), (2560, 1440)])
@pytest.mark.parametrize("kind", PlaceholderKind)
@pytest.mark.parametrize("wanted", RenditionFormat)
def test_a_placeholder_has_the_size_and_format_asked_for(
    size: tuple[int, int], kind: PlaceholderKind, wanted: RenditionFormat
) -> None:
    made = _placeholders().placeholder(Dimensions(*size), kind, wanted)
    seen = decoded(made.body)
    assert made.content_type == Image.MIME[str(seen.format)] == f"image/{wanted}"
    assert seen.size == (made.width, made.height) == size
    assert len(made.body) < 60_000


@pytest.mark.parametrize(
    ("asked", "made"),
    [
        pytest.param((6000, 6000), (2000, 2000), id="square"),
        pytest.param((11_520, 6480), (2666, 1500), id="the largest viewport"),
        pytest.param((16, 16_384), (5, 6000), id="a long page"),
    ],
)
def test_a_very_large_placeholder_is_smaller_and_of_the_same_shape(
    asked: tuple[int, int], made: tuple[int, int]
) -> None:
    rendered = _placeholders().placeholder(Dimensions(*asked), PlaceholderKind.FAILED, PNG)
    assert (rendered.width, rendered.height) == made


def _on(page: tuple[int, int, int], body: bytes) -> Image.Image:
    """The luminance of a placeholder in a page."""
    seen = decoded(body).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", seen.size, page), seen).convert("L")


def _corner(band: Image.Image) -> int:
    return int(ImageStat.Stat(band.crop((0, 0, 1, 1))).extrema[0][0])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", PlaceholderKind)
@pytest.mark.parametrize("wanted", RenditionFormat)
@pytest.mark.parametrize("page", PAGES)
def test_drawing_and_paper_stand_out_from_the_page(
    size: tuple[int, int], kind: PlaceholderKind, wanted: RenditionFormat, page: tuple[int, int, int]
) -> None:
    seen = _on(page, draw(Dimensions(*size), kind, wanted).body)
    paper = _corner(seen)
    darkest, brightest = ImageStat.Stat(seen).extrema[0]
    assert abs(paper - page[1]) >= 12, "the paper is seen"
    assert max(paper - darkest, brightest - paper) >= 45, "the drawing is seen"


@pytest.mark.parametrize("kind", PlaceholderKind)
@pytest.mark.parametrize("size", SIZES)
def test_the_drawing_stands_in_the_middle(kind: PlaceholderKind, size: tuple[int, int]) -> None:
    drawn = decoded(draw(Dimensions(*size), kind, PNG).body).getchannel("A")
    paper = _corner(drawn)
    box = drawn.point(lambda alpha: 255 if alpha != paper else 0).getbbox()
    assert box is not None
    left, top, right, bottom = box[0], box[1], size[0] - box[2], size[1] - box[3]
    assert min(left, top, right, bottom) >= 1
    assert abs(left - right) <= 2
    assert abs(top - bottom) <= 8  # the broken half hangs a little


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("wanted", RenditionFormat)
def test_the_two_kinds_are_told_apart(size: tuple[int, int], wanted: RenditionFormat) -> None:
    pending, failed = (
        _on((255, 255, 255), draw(Dimensions(*size), kind, wanted).body) for kind in PlaceholderKind
    )
    assert likeness(pending, failed) < 42
    assert likeness(pending, pending) == float("inf")


def test_a_placeholder_is_made_once() -> None:
    placeholders = _placeholders()
    first = placeholders.placeholder(Dimensions(400, 300), PlaceholderKind.FAILED, WEBP)
    assert placeholders.placeholder(Dimensions(400, 300), PlaceholderKind.FAILED, WEBP) is first
    assert placeholders.placeholder(Dimensions(400, 300), PlaceholderKind.PENDING, WEBP) is not first


@pytest.mark.parametrize("own", [None, encoded(page_picture(64, 36), "png")], ids=["drawn", "own"])
def test_who_asks_for_one_size_after_the_other_gets_the_usual_one(own: bytes | None) -> None:
    now = 0.0
    placeholders = _placeholders(own, clock=lambda: now)

    def size_of(width: int, height: int = 16) -> tuple[int, int]:
        made = placeholders.placeholder(Dimensions(width, height), PlaceholderKind.FAILED, PNG)
        return made.width, made.height

    sizes = [size_of(width) for width in range(100, 200)]
    assert sizes[:60] == [(width, 16) for width in range(100, 160)]
    assert set(sizes[80:]) == {(400, 225)}
    assert size_of(100) == (100, 16), "what is made already costs nothing"
    now = 1.0
    assert [size_of(width) for width in (300, 301)] == [(300, 16), (301, 16)]
    assert size_of(2000, 1000) == (400, 225), "a large one takes more"


@pytest.mark.parametrize("wanted", RenditionFormat)
@pytest.mark.parametrize("kind", PlaceholderKind)
def test_the_operators_own_picture_is_shown_whole(wanted: RenditionFormat, kind: PlaceholderKind) -> None:
    own = encoded(page_picture(640, 360), "png")
    made = _placeholders(own).placeholder(Dimensions(320, 320), kind, wanted)
    seen = decoded(made.body)
    assert seen.size == (made.width, made.height) == (320, 320)
    expected = page_picture(640, 360).resize((320, 180), Image.Resampling.LANCZOS)
    assert likeness(seen.crop((0, 70, 320, 250)), expected) > 28
    margin = seen.convert("RGBA").getpixel((160, 20))
    assert isinstance(margin, tuple)
    assert margin == (255, 255, 255, 255) if wanted is JPEG else margin[3] == 0


def test_an_own_picture_that_turns_out_damaged_gives_way_to_the_drawing() -> None:
    own = encoded(page_picture(320, 200), "png")
    middle = len(own) // 2
    damaged = own[:middle] + bytes(100) + own[middle + 100 :]
    made = _placeholders(damaged).placeholder(Dimensions(120, 90), PlaceholderKind.FAILED, PNG)
    assert made == draw(Dimensions(120, 90), PlaceholderKind.FAILED, PNG)


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_an_own_picture_is_read_from_its_file(tmp_path: Path, image_format: str) -> None:
    path = tmp_path / "own"
    path.write_bytes(picture(image_format))
    assert read_own_picture(path, LIMITS) == picture(image_format)


@pytest.mark.parametrize(
    ("content", "limits", "error"),
    [
        pytest.param(None, LIMITS, FileNotFoundError, id="no file"),
        pytest.param(b"", LIMITS, NotAnImage, id="an empty file"),
        pytest.param(b"<svg></svg>", LIMITS, NotAnImage, id="svg"),
        pytest.param(picture("png")[:-9], LIMITS, NotAnImage, id="cut off"),
        pytest.param(picture("png"), PictureLimits(max_pixels=99), ImageTooLarge, id="too many pixels"),
        pytest.param(picture("png"), PictureLimits(max_bytes=99), ImageTooLarge, id="too many bytes"),
    ],
)
def test_an_own_picture_is_judged_when_it_is_read(
    tmp_path: Path, content: bytes | None, limits: PictureLimits, error: type[Exception]
) -> None:
    path = tmp_path / "own.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error):
        read_own_picture(path, limits)
