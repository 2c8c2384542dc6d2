"""What thumbnails look like, beside the captures that they are made of."""

from __future__ import annotations

import pytest
from PIL import Image, ImageCms, ImageOps

from tests.support.pictures import picture
from tests.support.renderings import AVIF, JPEG, PNG, WEBP
from tests.support.screenshots import decoded, encoded, likeness, page_picture
from thumbnailer import libvips
from thumbnailer.encoding import avif_quality
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import Fit, Rendition, RenditionFormat

LANCZOS = Image.Resampling.LANCZOS
#: Decibels. Two good ways to scale differ by less than the eye sees; the encoders at their usual quality
#: stay below what it minds in a thumbnail.
SAME, GOOD = 40, 30


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
