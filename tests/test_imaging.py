"""True pictures are told from everything else by their bytes."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.support.pictures import animation, big_png, picture
from thumbnailer.errors import ImageTooLarge, NotAnImage
from thumbnailer.imaging import MAX_HEADER_BYTES, Dimensions, Inspector, PictureLimits, inspect

LIMITS = PictureLimits(max_bytes=1_000_000, max_pixels=1_000_000)


def _encoded(image_format: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((123, 45), 64).convert(mode).save(buffer, image_format, **options)
    return buffer.getvalue()


KINDS = [
    pytest.param(_encoded("PNG"), "image/png", id="png"),
    pytest.param(_encoded("PNG", "RGBA"), "image/png", id="png with alpha"),
    pytest.param(_encoded("JPEG"), "image/jpeg", id="jpeg"),
    pytest.param(_encoded("JPEG", progressive=True), "image/jpeg", id="progressive jpeg"),
    pytest.param(_encoded("JPEG", exif=b"Exif\0\0" + b"x" * 60_000), "image/jpeg", id="jpeg with metadata"),
    pytest.param(_encoded("WEBP"), "image/webp", id="lossy webp"),
    pytest.param(_encoded("WEBP", lossless=True), "image/webp", id="lossless webp"),
    pytest.param(_encoded("WEBP", "RGBA"), "image/webp", id="webp with alpha"),
]


@pytest.mark.parametrize(("body", "content_type"), KINDS)
def test_a_picture_is_known_by_its_bytes(body: bytes, content_type: str) -> None:
    facts = inspect(body, LIMITS)
    assert facts.content_type == content_type
    assert facts.dimensions == Dimensions(123, 45)
    assert facts.size_bytes == len(body)


@pytest.mark.parametrize(("body", "content_type"), KINDS)
def test_it_does_not_matter_in_what_pieces_a_picture_comes(body: bytes, content_type: str) -> None:
    inspector = Inspector(LIMITS)
    for at in range(len(body)):
        inspector.feed(body[at : at + 1])
    assert inspector.finish() == inspect(body, LIMITS)


@pytest.mark.parametrize(("body", "content_type"), KINDS)
@pytest.mark.parametrize("lost", [1, 2, 9, 500])
def test_a_picture_that_is_cut_off_is_none(body: bytes, content_type: str, lost: int) -> None:
    with pytest.raises(NotAnImage):
        inspect(body[:-lost], LIMITS)


@pytest.mark.parametrize(("body", "content_type"), KINDS)
def test_a_picture_with_a_tail_of_html_is_none(body: bytes, content_type: str) -> None:
    with pytest.raises(NotAnImage):
        inspect(body + b"<script>alert(1)</script>", LIMITS)


ENDS = {"png": b"\0\0\0\0IEND\xaeB`\x82", "jpeg": b"\xff\xd9"}


@pytest.mark.parametrize("image_format", ENDS)
def test_a_tail_that_ends_like_a_picture_is_a_tail_all_the_same(image_format: str) -> None:
    whole = picture(image_format)
    assert whole.endswith(ENDS[image_format])
    with pytest.raises(NotAnImage):
        inspect(whole + b"<script>alert(1)</script>" + ENDS[image_format], LIMITS)


def test_an_end_marker_within_metadata_is_no_end() -> None:
    preview = b"Exif\0\0" + picture("jpeg", 16, 16)
    assert preview.endswith(ENDS["jpeg"])
    body = _encoded("JPEG", exif=preview)
    assert inspect(body, LIMITS).size_bytes == len(body)


def test_a_png_without_pixels_is_none() -> None:
    with pytest.raises(NotAnImage):
        inspect(picture("png")[:33] + ENDS["png"], LIMITS)


ANIMATIONS = [
    pytest.param("png", 2, id="png of 2 frames"),
    pytest.param("png", 301, id="png of 301 frames"),
    pytest.param("webp", 2, id="webp of 2 frames"),
    pytest.param("webp", 301, id="webp of 301 frames"),
    pytest.param("avif", 2, id="avif of 2 frames"),
    pytest.param("gif", 2, id="gif of 2 frames"),
]


@pytest.mark.parametrize(("image_format", "frames"), ANIMATIONS)
def test_what_moves_is_no_picture_of_a_page(image_format: str, frames: int) -> None:
    inspector = Inspector(LIMITS)
    body = animation(image_format, frames)

    def feed_until_identified() -> None:
        for at in range(len(body)):
            inspector.feed(body[at : at + 1])
            assert not inspector.is_identified, "its first byte would be out"

    with pytest.raises(NotAnImage):
        feed_until_identified()


def test_a_png_is_held_back_until_it_cannot_move_but_no_longer_than_a_header_may_be() -> None:
    inspector = Inspector(PictureLimits(max_bytes=10_000_000))
    fed_bytes = 0
    for chunk in big_png(3_000_000):
        inspector.feed(chunk)
        fed_bytes += len(chunk)
        assert inspector.is_identified == (fed_bytes >= MAX_HEADER_BYTES)
    assert inspector.finish().size_bytes == 3_000_000


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x89PNG", id="four bytes"),
        pytest.param(b"<!doctype html><title>An error</title>" * 9, id="html"),
        pytest.param(b'{"error": "An error"}' * 9, id="json"),
        pytest.param(b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', id="svg"),
        pytest.param(picture("pdf"), id="a pdf for an image"),
        pytest.param(b"GIF89a" + bytes(100), id="gif"),
        pytest.param(b"\xff\xd8\xff\xe0" + b"\x00\x02\xff\xe0" * 200_000, id="a jpeg without dimensions"),
        pytest.param(b"\xff\xd8\xff\xe0\x00\x02junk" + bytes(100), id="a jpeg of junk"),
        pytest.param(b"\x89PNG\r\n\x1a\n" + bytes(100), id="a png without header"),
        pytest.param(b"\xff\xd8\xff\x01\x00\x04\xff\xc0" + picture("jpeg")[2:], id="a jpeg of two sizes"),
        pytest.param(b"\xff\xd8\xff\xd0" + picture("jpeg")[2:], id="a jpeg that restarts before it starts"),
        pytest.param(b"RIFF\x64\x00\x00\x00WEBPXXXX" + bytes(92), id="a webp of nothing known"),
    ],
)
def test_what_is_no_picture_is_refused(body: bytes) -> None:
    with pytest.raises(NotAnImage):
        inspect(body, LIMITS)


def test_an_image_is_no_pdf() -> None:
    with pytest.raises(NotAnImage):
        inspect(picture("png"), LIMITS, is_pdf=True)
    assert inspect(picture("pdf"), LIMITS, is_pdf=True).dimensions is None


def test_half_a_pdf_is_none() -> None:
    with pytest.raises(NotAnImage):
        inspect(picture("pdf")[:-20], LIMITS, is_pdf=True)


@pytest.mark.parametrize("filler", [b"\xff", b"\xff\xe0\0\2"], ids=["fill bytes", "empty segments"])
def test_a_jpeg_that_hides_its_size_behind_a_crowd_is_refused_at_once(filler: bytes) -> None:
    """Half a megabyte of it, in the packets of a network, kept a processor busy for ten seconds."""
    inspector = Inspector(LIMITS)
    with pytest.raises(NotAnImage):
        inspector.feed(b"\xff\xd8" + filler * 2000)


def test_a_bomb_is_refused_by_its_header_alone() -> None:
    bomb = picture("png")[:16] + (20_000).to_bytes(4, "big") + (15_000).to_bytes(4, "big")
    inspector = Inspector(LIMITS)
    with pytest.raises(ImageTooLarge):
        inspector.feed(bomb)


def test_a_picture_as_large_as_allowed_is_one() -> None:
    body = picture("png", 320, 200)
    assert inspect(body, PictureLimits(max_bytes=len(body), max_pixels=64_000)).dimensions == Dimensions(
        320, 200
    )
    for limits in (PictureLimits(max_bytes=len(body) - 1), PictureLimits(max_pixels=63_999)):
        with pytest.raises(ImageTooLarge):
            inspect(body, limits)


def test_too_many_bytes_are_noticed_as_they_pass() -> None:
    inspector = Inspector(PictureLimits(max_bytes=1000, max_pixels=1_000_000))
    inspector.feed(picture("png")[:900])
    with pytest.raises(ImageTooLarge):
        inspector.feed(bytes(101))


STARTS = st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF1234WEBP"])


@given(st.binary(max_size=300), STARTS)
def test_no_bytes_whatever_break_the_inspection(body: bytes, start: bytes) -> None:
    with contextlib.suppress(NotAnImage, ImageTooLarge):
        inspect(start + body, LIMITS)
