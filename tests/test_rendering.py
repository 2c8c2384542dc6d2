"""Thumbnails look as they should, whatever the capture is like, and no file does harm."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image, ImageCms, ImageOps

from tests.support.pictures import picture
from tests.support.screenshots import decoded, encoded, likeness, page_picture
from thumbnailer import libvips
from thumbnailer.encoding import avif_quality
from thumbnailer.errors import ImageTooLarge, NotAnImage, Overloaded
from thumbnailer.imaging import PictureLimits, inspect
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import Fit, Rendition, RenditionFormat

PNG, JPEG, WEBP, AVIF = RenditionFormat
LIMITS = PictureLimits()
LANCZOS = Image.Resampling.LANCZOS

#: Decibels. Two good ways to scale differ by less than the eye sees; the encoders at their usual quality
#: stay below what it minds in a thumbnail.
SAME, GOOD = 40, 30


@pytest.fixture
def renderer() -> Renderer:
    return Renderer(LIMITS, concurrency=2)


@pytest.fixture(scope="module")
def page() -> bytes:
    return encoded(page_picture(), "png")


def _size(body: bytes) -> tuple[int, int]:
    return decoded(body).size


@pytest.mark.parametrize("source", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("wanted", RenditionFormat)
@pytest.mark.parametrize("width", [100, 400, 1000, None])
def test_a_thumbnail_looks_like_its_capture(
    renderer: Renderer, source: str, wanted: RenditionFormat, width: int | None
) -> None:
    body = encoded(page_picture(), source, quality=90)
    rendered = renderer.render(body, Rendition(format=wanted, thumb_width=width))
    expected = decoded(body).convert("RGB").resize((rendered.width, rendered.height), LANCZOS)
    thumbnail = decoded(rendered.body)
    assert rendered.content_type == Image.MIME[str(thumbnail.format)] == f"image/{wanted}"
    assert thumbnail.size == (rendered.width, rendered.height)
    assert (rendered.width, rendered.height) == (width or 1280, int((width or 1280) * 9 / 16 + 0.5))
    assert thumbnail.mode == "RGB"
    assert likeness(thumbnail, expected) > (SAME if wanted is PNG and source != "jpeg" else GOOD)


def _laid_out(page: Image.Image, box: tuple[int, int], fit: Fit) -> Image.Image:
    """What docs/rendering.md says of the fits, done by Pillow."""
    across, down = box[0] / page.width, box[1] / page.height
    scale = {Fit.INSIDE: min(1.0, across, down), Fit.COVER: max(across, down), Fit.CONTAIN: min(across, down)}
    size = (int(page.width * scale[fit] + 0.5), int(page.height * scale[fit] + 0.5))
    scaled = page.convert("RGBA").resize(size, LANCZOS)
    if fit is Fit.INSIDE:
        return scaled
    canvas = Image.new("RGBA", box, (0, 0, 0, 0))
    top = 0 if fit is Fit.COVER else (box[1] - size[1]) // 2
    canvas.paste(scaled, ((box[0] - size[0]) // 2 if fit is Fit.CONTAIN else -((size[0] - box[0]) // 2), top))
    return canvas


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("wanted", RenditionFormat)
@pytest.mark.parametrize(
    "box", [(300, 300), (200, 401), (641, 100), (1600, 1200)], ids="{0[0]}x{0[1]}".format
)
def test_every_fit_looks_like_its_capture(
    renderer: Renderer, page: bytes, fit: Fit, wanted: RenditionFormat, box: tuple[int, int]
) -> None:
    rendition = Rendition(format=wanted, thumb_width=box[0], thumb_height=box[1], fit=fit)
    thumbnail, expected = decoded(renderer.render(page, rendition).body), _laid_out(page_picture(), box, fit)
    assert thumbnail.size == expected.size
    assert likeness(thumbnail, expected) > (SAME if wanted is PNG else GOOD)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_an_enlarged_picture_stays_where_it_is(renderer: Renderer, mode: str) -> None:
    """To align corners instead of middles would move it by up to half a pixel, and cost 15 dB."""
    small = page_picture(160, 100).convert(mode)
    rendition = Rendition(format=PNG, thumb_width=800, thumb_height=500, fit=Fit.COVER)
    enlarged = decoded(renderer.render(encoded(small, "png"), rendition).body)
    assert likeness(enlarged, small.resize((800, 500), Image.Resampling.BICUBIC)) > SAME


@pytest.mark.parametrize("fit", Fit)
@pytest.mark.parametrize("box", [(100, 100), (16, 2000), (2000, 16)], ids="{0[0]}x{0[1]}".format)
@pytest.mark.parametrize(
    "size", [(1, 1), (16, 17), (1, 16_384), (16_384, 1), (9_000, 3)], ids="{0[0]}x{0[1]}".format
)
def test_tiny_and_extreme_pictures_keep_their_colour_to_the_edge(
    renderer: Renderer, size: tuple[int, int], box: tuple[int, int], fit: Fit
) -> None:
    body = encoded(Image.new("RGB", size, (200, 40, 40)), "png")
    rendition = Rendition(format=PNG, thumb_width=box[0], thumb_height=box[1], fit=fit)
    thumbnail = decoded(renderer.render(body, rendition).body).convert("RGBA")
    colours = {colour for _, colour in thumbnail.getcolors(4_000_000) or []}
    if fit is Fit.INSIDE:
        assert max(thumbnail.size) <= max(size)
        assert colours == {(200, 40, 40, 255)}
    else:
        assert thumbnail.size == box
        assert colours - {(0, 0, 0, 0)} == {(200, 40, 40, 255)}


@pytest.mark.parametrize("wanted", RenditionFormat)
def test_a_picture_of_16_bits_a_colour_looks_like_one_of_8(
    renderer: Renderer, wanted: RenditionFormat
) -> None:
    eight = page_picture(320, 200)
    deep = libvips.vips().Image.new_from_buffer(encoded(eight, "png"), "").cast("ushort") * 257
    body = deep.copy(interpretation="rgb16").pngsave_buffer(bitdepth=16)
    thumbnail = decoded(renderer.render(body, Rendition(format=wanted, thumb_width=160)).body)
    expected = eight.resize((160, 100), LANCZOS)
    assert likeness(thumbnail, expected) > (SAME if wanted is PNG else GOOD)


@pytest.mark.parametrize("wanted", RenditionFormat)
def test_a_palette_with_a_transparent_colour_keeps_both(renderer: Renderer, wanted: RenditionFormat) -> None:
    palette = Image.new("P", (64, 64), 1)
    palette.putpalette([0, 0, 0, 200, 40, 40])
    palette.paste(0, (0, 0, 32, 64))
    body = encoded(palette, "png", transparency=0)
    thumbnail = decoded(renderer.render(body, Rendition(format=wanted, thumb_width=32)).body).convert("RGBA")
    clear, red = thumbnail.getpixel((4, 16)), thumbnail.getpixel((28, 16))
    assert isinstance(clear, tuple)
    assert clear == (255, 255, 255, 255) if wanted is JPEG else clear[3] == 0
    assert red == pytest.approx((200, 40, 40, 255), abs=6)


def test_another_picture_does_not_look_alike(renderer: Renderer, page: bytes) -> None:
    rendered = renderer.render(page, Rendition(format=PNG, thumb_width=400))
    thumbnail = decoded(rendered.body)
    assert likeness(thumbnail, ImageOps.flip(thumbnail)) < 20
    assert (
        likeness(thumbnail, thumbnail.transform(thumbnail.size, Image.Transform.AFFINE, (1, 0, 1, 0, 1, 0)))
        < GOOD
    )
    assert likeness(thumbnail, thumbnail.resize((133, 75)).resize((400, 225))) < GOOD


@pytest.mark.parametrize("wanted", [JPEG, WEBP, AVIF])
def test_more_quality_is_a_better_and_larger_picture(
    renderer: Renderer, page: bytes, wanted: RenditionFormat
) -> None:
    expected = page_picture().resize((400, 225), LANCZOS)
    made = [
        renderer.render(page, Rendition(format=wanted, thumb_width=400, quality=quality)).body
        for quality in (1, 30, 60, 80, 90, 100)
    ]
    assert [len(body) for body in made] == sorted({len(body) for body in made})
    likenesses = [likeness(decoded(body), expected) for body in made]
    assert likenesses == sorted(likenesses)


def test_the_scale_of_avif_qualities_has_no_step_back() -> None:
    numbers = [avif_quality(quality) for quality in range(1, 101)]
    assert numbers == sorted(numbers)
    assert (numbers[0], numbers[79], numbers[-1]) == (1, 52, 90)


def _coloured_quarters(width: int, height: int) -> Image.Image:
    quarters = Image.new("RGB", (2, 2))
    quarters.putdata([(220, 20, 20), (20, 200, 20), (20, 20, 220), (240, 240, 240)])
    return quarters.resize((width, height), Image.Resampling.NEAREST)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        pytest.param((800, 200), {(5, 50): "red", (95, 50): "green"}, id="a wide picture: its middle"),
        pytest.param((200, 800), {(5, 5): "red", (95, 95): "green"}, id="a tall picture: its top"),
    ],
)
def test_cover_keeps_the_top_and_the_middle(
    renderer: Renderer, size: tuple[int, int], expected: dict[tuple[int, int], str]
) -> None:
    body = encoded(_coloured_quarters(*size), "png")
    wanted = Rendition(format=PNG, thumb_width=100, thumb_height=60, fit=Fit.COVER)
    thumbnail = decoded(renderer.render(body, wanted).body)
    assert thumbnail.size == (100, 60)
    colours = {"red": (220, 20, 20), "green": (20, 200, 20)}
    for place, name in expected.items():
        assert thumbnail.getpixel((place[0], min(place[1], 25))) == colours[name]


@pytest.mark.parametrize("wanted", RenditionFormat)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_contain_pads_with_nothing_or_white(renderer: Renderer, wanted: RenditionFormat, mode: str) -> None:
    body = encoded(Image.new(mode, (400, 100), (200, 30, 30)), "png")
    rendition = Rendition(format=wanted, thumb_width=100, thumb_height=100, fit=Fit.CONTAIN)
    thumbnail = decoded(renderer.render(body, rendition).body)
    assert thumbnail.size == (100, 100)
    margin, middle = (thumbnail.convert("RGBA").getpixel(place) for place in ((50, 5), (50, 50)))
    assert isinstance(margin, tuple)
    assert isinstance(middle, tuple)
    if wanted is JPEG:
        assert margin == (255, 255, 255, 255)
    else:
        assert margin[3] == 0
    assert middle == pytest.approx((200, 30, 30, 255), abs=6)


@pytest.mark.parametrize("fit", [Fit.COVER, Fit.CONTAIN])
def test_small_captures_are_enlarged_to_the_size_asked_for(renderer: Renderer, fit: Fit) -> None:
    rendition = Rendition(format=PNG, thumb_width=300, thumb_height=300, fit=fit, dpr=1.5)
    assert _size(renderer.render(picture("png", 32, 20), rendition).body) == (450, 450)


@pytest.mark.parametrize("wanted", RenditionFormat)
def test_what_is_transparent_stays_so_or_turns_white(renderer: Renderer, wanted: RenditionFormat) -> None:
    half = Image.new("RGBA", (200, 100), (0, 0, 0, 0))
    half.paste((30, 30, 200, 255), (0, 0, 100, 100))
    rendered = renderer.render(encoded(half, "png"), Rendition(format=wanted, thumb_width=100))
    clear = decoded(rendered.body).convert("RGBA").getpixel((90, 25))
    assert isinstance(clear, tuple)
    assert clear == (255, 255, 255, 255) if wanted is JPEG else clear[3] == 0


def _swapped_profile() -> bytes:
    """A colour profile in which red stands for blue and the reverse."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace(b"rXYZ", b"tXYZ").replace(b"bXYZ", b"rXYZ").replace(b"tXYZ", b"bXYZ")


@pytest.mark.parametrize("source", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("wanted", RenditionFormat)
def test_colours_are_brought_to_srgb(renderer: Renderer, source: str, wanted: RenditionFormat) -> None:
    red = encoded(Image.new("RGB", (64, 64), (250, 5, 5)), source, icc_profile=_swapped_profile())
    rendered = renderer.render(red, Rendition(format=wanted, thumb_width=32))
    assert decoded(rendered.body).convert("RGB").getpixel((16, 16)) == pytest.approx((5, 5, 250), abs=12)


def test_a_profile_of_junk_is_ignored(renderer: Renderer) -> None:
    body = encoded(Image.new("RGB", (64, 64), (250, 5, 5)), "png", icc_profile=b"junk" * 99)
    rendered = renderer.render(body, Rendition(format=PNG, thumb_width=32))
    assert decoded(rendered.body).getpixel((16, 16)) == (250, 5, 5)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "I;16", "RGBA"])
@pytest.mark.parametrize("wanted", RenditionFormat)
def test_every_kind_of_pixel_becomes_8_bit_srgb(
    renderer: Renderer, mode: str, wanted: RenditionFormat
) -> None:
    grey = page_picture(320, 200).convert("L")
    source = (
        grey.convert("I").point(lambda value: value * 257).convert("I;16")
        if mode == "I;16"
        else grey.convert(mode)
    )
    rendered = renderer.render(encoded(source, "png"), Rendition(format=wanted, thumb_width=160))
    thumbnail = decoded(rendered.body)
    assert thumbnail.mode in ("RGB", "RGBA")
    seen = grey.convert("1") if mode == "1" else grey
    assert likeness(thumbnail, seen.convert("RGB").resize(thumbnail.size, LANCZOS)) > 25


def test_a_jpeg_for_print_is_shown_in_its_colours(renderer: Renderer) -> None:
    body = encoded(Image.new("CMYK", (64, 64), (255, 0, 0, 0)), "jpeg")
    cyan = decoded(renderer.render(body, Rendition(format=PNG, thumb_width=32)).body).getpixel((9, 9))
    assert cyan == pytest.approx((0, 160, 230), abs=40)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("source", ["png", "jpeg", "webp"])
def test_pictures_are_turned_upright(renderer: Renderer, orientation: int, source: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    lying = encoded(_coloured_quarters(120, 60), source, exif=exif)
    rendered = renderer.render(lying, Rendition(format=PNG, thumb_width=60, thumb_height=60))
    upright = ImageOps.exif_transpose(decoded(lying)).convert("RGB")
    upright.thumbnail((60, 60), LANCZOS)
    assert (rendered.width, rendered.height) == upright.size
    assert likeness(decoded(rendered.body), upright) > 25


@pytest.mark.parametrize("source", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("wanted", RenditionFormat)
def test_no_metadata_is_passed_on(renderer: Renderer, source: str, wanted: RenditionFormat) -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET PLACE"
    options = {"exif": exif, "xmp": b"<x>SECRET PLACE</x>", "icc_profile": _swapped_profile()}
    body = encoded(page_picture(320, 200), source, **options)
    assert b"SECRET PLACE" in body
    rendered = renderer.render(body, Rendition(format=wanted))
    assert b"SECRET" not in rendered.body
    assert not {"exif", "xmp", "icc_profile"} & decoded(rendered.body).info.keys()


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda body: body[:-1], id="one byte lost"),
        pytest.param(lambda body: body[: len(body) // 2], id="half of it"),
        pytest.param(lambda body: body[:40], id="a header"),
        pytest.param(lambda body: body + b"<script>", id="something appended"),
        pytest.param(lambda _body: b"", id="nothing"),
    ],
)
@pytest.mark.parametrize("source", ["png", "jpeg", "webp"])
def test_a_picture_that_is_not_whole_is_none(
    renderer: Renderer, source: str, spoil: Callable[[bytes], bytes]
) -> None:
    with pytest.raises(NotAnImage):
        renderer.render(spoil(encoded(page_picture(320, 200), source)), Rendition(format=PNG))


def _damaged() -> bytes:
    """A PNG with all its ends in place, and zeros in its middle."""
    body = encoded(page_picture(320, 200), "png")
    middle = len(body) // 2
    return body[:middle] + bytes(100) + body[middle + 100 :]


DAMAGED = _damaged()


def test_a_png_with_damaged_pixels_is_none(renderer: Renderer) -> None:
    with pytest.raises(NotAnImage):
        inspect(DAMAGED, LIMITS)
    with pytest.raises(NotAnImage):
        renderer.render(DAMAGED, Rendition(format=PNG))


@pytest.mark.parametrize("image_format", ["gif", "tiff", "avif", "bmp", "ppm"])
def test_other_files_are_refused_by_their_looks_and_by_libvips(renderer: Renderer, image_format: str) -> None:
    body = encoded(page_picture(64, 64), image_format)
    with pytest.raises(NotAnImage):
        renderer.render(body, Rendition(format=PNG))
    with pytest.raises(libvips.vips().Error):
        libvips.vips().Image.new_from_buffer(body, "")


def test_svg_is_refused_by_libvips() -> None:
    drawing = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    with pytest.raises(libvips.vips().Error):
        libvips.vips().Image.new_from_buffer(drawing, "")


def test_a_bomb_is_refused_before_libvips_sees_it(renderer: Renderer) -> None:
    bomb = bytearray(picture("png"))
    bomb[16:24] = struct.pack(">II", 20_000, 15_000)
    with pytest.raises(ImageTooLarge):
        renderer.render(bytes(bomb), Rendition(format=PNG, thumb_width=16))


def test_a_jpeg_that_hides_its_size_gets_round_no_limit() -> None:
    """A marker without parameters, TEM (T.81, B.1.1.3), may lead two readers to different frames."""
    whole = picture("jpeg", 640, 400)
    skipped = 0xFFE0  # the marker after TEM, read as a length
    application = b"\xff\xe0\xff\xff" + bytes(0xFFFD)
    false_frame = b"\xff\xc0\x00\x11\x08" + struct.pack(">HH", 8, 8)
    lie = bytearray(b"\xff\xd8\xff\x01" + application + whole[2:])
    lie[4 + skipped : 4 + skipped + len(false_frame)] = false_frame
    renderer = Renderer(PictureLimits(max_pixels=640 * 400 - 1), concurrency=1)
    with pytest.raises((NotAnImage, ImageTooLarge)):
        renderer.render(bytes(lie), Rendition(format=PNG))


@pytest.mark.parametrize(
    ("limits", "rendition"),
    [
        pytest.param(PictureLimits(max_bytes=100), Rendition(format=PNG), id="bytes"),
        pytest.param(PictureLimits(max_pixels=63_999), Rendition(format=PNG, thumb_width=16), id="pixels"),
        pytest.param(
            PictureLimits(max_pixels=64_000),
            Rendition(format=PNG, thumb_width=300, thumb_height=300, fit=Fit.COVER),
            id="pixels of the thumbnail",
        ),
    ],
)
def test_what_is_over_the_limits_is_refused(limits: PictureLimits, rendition: Rendition) -> None:
    with pytest.raises(ImageTooLarge):
        Renderer(limits, concurrency=1).render(picture("png", 320, 200), rendition)


def test_what_is_within_the_limits_is_not() -> None:
    limits = PictureLimits(max_pixels=64_000)
    rendered = Renderer(limits, concurrency=1).render(picture("png", 320, 200), Rendition(format=JPEG))
    assert (rendered.width, rendered.height) == (320, 200)


@pytest.mark.parametrize(
    ("width", "height", "wanted", "longest"),
    [
        pytest.param(16, 16_384, WEBP, 16_383, id="webp"),
        pytest.param(16, 17_000, AVIF, 16_384, id="avif"),
        pytest.param(16, 65_535, JPEG, 65_500, id="jpeg"),
        pytest.param(16, 70_000, PNG, 70_000, id="png"),
    ],
)
def test_pictures_too_long_for_a_format_are_made_to_fit(
    renderer: Renderer, width: int, height: int, wanted: RenditionFormat, longest: int
) -> None:
    body = encoded(Image.new("RGB", (width, height), "teal"), "png")
    assert renderer.render(body, Rendition(format=wanted)).height == longest


def test_eight_threads_make_what_one_makes(renderer: Renderer) -> None:
    bodies = [encoded(page_picture(600 + 8 * number, 400), "png") for number in range(8)]
    work = [
        (body, Rendition(format=wanted, thumb_width=200)) for body in bodies for wanted in RenditionFormat
    ]
    alone = [renderer.render(*each) for each in work]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda each: Renderer(LIMITS, concurrency=8).render(*each), work))
    assert together == alone
    assert len({each.body for each in alone}) == len(work)


def _busy(renderer: Renderer, body: bytes) -> tuple[threading.Thread, threading.Event]:
    """A thread that renders one picture after the other until told to stop."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with contextlib.suppress(Overloaded):
                renderer.render(body, Rendition(format=WEBP))

    thread = threading.Thread(target=work)
    thread.start()
    return thread, stop


def _render_often(renderer: Renderer, times: int) -> None:
    for _ in range(times):
        renderer.render(picture("png", 32, 20), Rendition(format=PNG))


def test_nobody_waits_for_ever(page: bytes) -> None:
    renderer = Renderer(LIMITS, concurrency=1, wait_seconds=0)
    thread, stop = _busy(renderer, page)
    try:
        with pytest.raises(Overloaded) as caught:
            _render_often(renderer, times=10_000)
        assert caught.value.retry_after_seconds == 1
    finally:
        stop.set()
        thread.join()
    _render_often(renderer, times=1)


def test_a_failure_gives_its_place_back() -> None:
    renderer = Renderer(LIMITS, concurrency=1, wait_seconds=0)
    for _ in range(3):
        with pytest.raises(NotAnImage):
            renderer.render(DAMAGED, Rendition(format=PNG))


def test_libvips_uses_one_thread_for_a_picture_and_keeps_none() -> None:
    assert libvips.vips().concurrency_get() == 1
    assert libvips.vips().cache_get_max() == 0
    assert libvips.LOADERS == ("VipsForeignLoadPng", "VipsForeignLoadJpeg", "VipsForeignLoadWebp")
