"""What is never rendered, and that rendering ends."""

from __future__ import annotations

import contextlib
import struct
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests.support.pictures import grey_rows, picture, png_of_chunks
from tests.support.renderings import AVIF, JPEG, LIMITS, PNG, WEBP
from tests.support.screenshots import encoded, page_picture
from thumbnailer import libvips, rendering
from thumbnailer.errors import ImageTooLarge, NotAnImage, Overloaded
from thumbnailer.imaging import PictureLimits, inspect
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import Fit, Rendition, RenditionFormat


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


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(grey_rows(100), id="half of the rows"),
        pytest.param(grey_rows(200)[:-30], id="their end lost"),
        pytest.param(b"<script>" * 9, id="what does not unpack"),
    ],
)
def test_a_png_without_all_its_pixels_is_none(renderer: Renderer, pixels: bytes) -> None:
    """Nobody else has unpacked them, and what is missing would be black."""
    with pytest.raises(NotAnImage):
        renderer.render(png_of_chunks((b"IDAT", pixels)), Rendition(format=PNG, thumb_width=160))


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


def test_of_large_pictures_one_is_rendered_at_a_time_and_small_ones_beside_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Large ones take hundreds of megabytes each, be they large before or after."""
    renderer = Renderer(LIMITS, concurrency=2, wait_seconds=0)
    small, large = (encoded(Image.new("RGB", size, "teal"), "png") for size in ((32, 20), (2000, 2001)))
    enlarging = Rendition(format=PNG, thumb_width=2000, thumb_height=2000, dpr=1.1, fit=Fit.CONTAIN)
    has_begun, go_on = threading.Event(), threading.Event()

    def hold(*_picture: object) -> None:
        has_begun.set()
        assert go_on.wait(20)

    with ThreadPoolExecutor(1) as others:
        with monkeypatch.context() as held:
            held.setattr(rendering, "encode", hold)
            other = others.submit(renderer.render, large, Rendition(format=PNG, thumb_width=16))
            assert has_begun.wait(20)
        for body, rendition in ((large, Rendition(format=PNG, thumb_width=16)), (small, enlarging)):
            with pytest.raises(Overloaded):
                renderer.render(body, rendition)
        assert renderer.render(small, Rendition(format=PNG)).width == 32
        go_on.set()
        other.result(20)
    assert renderer.render(large, Rendition(format=PNG, thumb_width=16)).width == 16


def test_a_failure_gives_its_place_back() -> None:
    renderer = Renderer(LIMITS, concurrency=1, wait_seconds=0)
    for _ in range(3):
        with pytest.raises(NotAnImage):
            renderer.render(DAMAGED, Rendition(format=PNG))


def test_libvips_uses_one_thread_for_a_picture_and_keeps_none() -> None:
    assert libvips.vips().concurrency_get() == 1
    assert libvips.vips().cache_get_max() == 0
    assert libvips.LOADERS == ("VipsForeignLoadPng", "VipsForeignLoadJpeg", "VipsForeignLoadWebp")
