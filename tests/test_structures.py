"""A picture's file is followed from part to part: what is unusual passes, what hides something does not."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from PIL import Image

from tests.support.pictures import grey_rows, picture, png_header, png_of_chunks
from thumbnailer import libvips
from thumbnailer.errors import NotAnImage
from thumbnailer.imaging import Dimensions, Inspector, PictureLimits, inspect

LIMITS = PictureLimits()
HTML = b"<!doctype html><title>An error</title>"
PDF = picture("pdf")


def _jpeg(**options: object) -> bytes:
    """One with restart markers in its pixels."""
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 64).convert("RGB").save(
        buffer, "JPEG", restart_marker_blocks=1, optimize=True, **options
    )
    return buffer.getvalue()


def _webp(*chunks: tuple[bytes, bytes]) -> bytes:
    content = b"".join(
        kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body in chunks
    )
    return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


def _before(marker: bytes, inserted: bytes, body: bytes) -> bytes:
    at = body.index(marker)
    return body[:at] + inserted + body[at:]


JPEG = _jpeg()
PROFILE = b"\xff\xe2\x00\x02" * 255
#: VP8X of 64x64 pixels (RFC 9649, section 2.7.1), and the pixels of one.
VP8X = (b"VP8X", bytes(4) + b"\x3f\0\0" * 2)
VP8 = (b"VP8 ", picture("webp", 64, 64)[20:])

UNUSUAL = {
    "a jpeg that restarts": JPEG,
    "a jpeg with a profile in as many parts as there can be": _before(b"\xff\xe0", PROFILE, JPEG),
    "a jpeg with a fill byte before a segment": _before(b"\xff\xe0", b"\xff", JPEG),
    "a jpeg with a fill byte before it restarts": _before(b"\xff\xd0", b"\xff", JPEG),
    "a jpeg with a fill byte before its end": JPEG[:-2] + b"\xff" + JPEG[-2:],
    "a webp with a chunk of odd length": _webp(VP8X, VP8, (b"EXIF", b"x" * 7)),
}


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL)
def test_an_unusual_picture_is_one(body: bytes) -> None:
    assert Image.open(io.BytesIO(body)).size == (64, 64)
    assert inspect(body, LIMITS).dimensions == Dimensions(64, 64)


PNG_KINDS = [
    *((1, depth) for depth in (1, 2, 4, 8, 16)),
    *((bands, depth) for bands in (2, 3, 4) for depth in (8, 16)),
    *((3, depth) for depth in (1, 2, 4)),  # by a palette
]


@pytest.mark.parametrize("is_interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize(("bands", "depth"), PNG_KINDS)
def test_a_png_of_any_kind_and_size_is_one(bands: int, depth: int, is_interlaced: bool) -> None:
    """With Adam7 small pictures lack some of its passes: PNG (third edition), section 8.2."""
    space = {8: ("b-w", "srgb"), 16: ("grey16", "rgb16")}[max(depth, 8)][bands > 2]
    for width, height in ((1, 1), (2, 3), (5, 5), (4, 9), (33, 9)):
        drawn = (
            libvips.vips().Image.black(width, height, bands=bands).cast("ushort" if depth == 16 else "uchar")
        )
        body = drawn.copy(interpretation=space).pngsave_buffer(interlace=is_interlaced, bitdepth=depth)
        assert inspect(bytes(body), LIMITS).dimensions == Dimensions(width, height)


def test_a_pdf_may_be_padded_and_come_in_any_pieces() -> None:
    inspector = Inspector(LIMITS, is_pdf=True)
    body = PDF + bytes(500)
    for at in range(len(body)):
        inspector.feed(body[at : at + 1])
    assert inspector.finish().size_bytes == len(body)


def test_a_pdf_that_was_changed_and_then_cut_off_is_none() -> None:
    with pytest.raises(NotAnImage):
        inspect(PDF + b"4 0 obj\n" + b"x" * 2000, LIMITS, is_pdf=True)


FALSE = {
    "a jpeg with html between its segments": _before(b"\xff\xda", HTML, JPEG),
    "a jpeg with pixels before its size": _before(b"\xff\xe0", b"\xff\xda\0\2", JPEG),
    "a jpeg without pixels": JPEG[: JPEG.index(b"\xff\xda") + 14] + b"\xff\xd9",
    "a webp without pixels": _webp(VP8X, (b"EXIF", b"x" * 20)),
    "a webp with an empty chunk for its pixels": _webp((b"VP8 ", b""), (b"EXIF", b"x" * 70_000)),
    "a webp around html": _webp(VP8X, VP8, (b"HTML", HTML)),
    "a png with a wrong checksum": picture()[:-1] + b"\0",
    "a png of nothing in width": png_of_chunks((b"IDAT", grey_rows(9, 0)), header=png_header(0, 9)),
    "a png of nothing in height": png_of_chunks((b"IDAT", zlib.compress(b"")), header=png_header(9, 0)),
    "a png without pixels": png_of_chunks(),
    "a png of too few pixels": png_of_chunks((b"IDAT", grey_rows(199))),
    "a png of too many pixels": png_of_chunks((b"IDAT", grey_rows(201))),
    "a png whose pixels have no end": png_of_chunks((b"IDAT", grey_rows(200)[:-4])),
    "a png whose pixels do not unpack": png_of_chunks((b"IDAT", HTML)),
    "a png of two headers": png_of_chunks((b"IHDR", png_header()), (b"IDAT", grey_rows(200))),
}


@pytest.mark.parametrize("body", FALSE.values(), ids=FALSE)
def test_what_hides_something_is_no_picture(body: bytes) -> None:
    with pytest.raises(NotAnImage):
        inspect(body, LIMITS)


@pytest.mark.parametrize(
    ("header", "unpacked_bytes"),
    [
        pytest.param(png_header(depth=4, colour=2), 200 * 481, id="colours of 4 bits"),
        pytest.param(png_header(colour=5), 200, id="no such colours"),
        pytest.param(png_header(rest=b"\1\0\0"), 200 * 321, id="another packing"),
        pytest.param(png_header(rest=b"\0\1\0"), 200 * 321, id="another filtering"),
        pytest.param(png_header(rest=b"\0\0\2"), 200 * 320 + 375, id="another interlacing"),
        pytest.param(png_header(rest=bytes(4)), 200 * 321, id="a byte too many"),
    ],
)
def test_a_png_with_a_header_that_means_nothing_is_none(header: bytes, unpacked_bytes: int) -> None:
    """Of pixels there are as many as there would be if the header were read all the same."""
    with pytest.raises(NotAnImage):
        inspect(png_of_chunks((b"IDAT", zlib.compress(bytes(unpacked_bytes))), header=header), LIMITS)


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"\xff", HTML], ids=["zero", "line", "fill byte", "html"])
@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp"])
def test_a_picture_ends_where_its_file_does(image_format: str, tail: bytes) -> None:
    with pytest.raises(NotAnImage):
        inspect(picture(image_format) + tail, LIMITS)


def test_a_png_that_unpacks_to_too_much_is_refused_before_its_end() -> None:
    inspector = Inspector(LIMITS)
    with pytest.raises(NotAnImage):
        inspector.feed(png_of_chunks((b"IDAT", grey_rows(50_000)))[:-12])


def test_who_decodes_a_picture_anyway_has_it_not_unpacked_twice() -> None:
    packed_wrongly = png_of_chunks((b"IDAT", HTML))
    assert inspect(packed_wrongly, LIMITS, unpacks=False).dimensions == Dimensions(320, 200)
