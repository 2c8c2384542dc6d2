"""Pictures of nothing are told from pictures of very little, and are no answers."""

from __future__ import annotations

import functools
import io
import json
from collections.abc import Iterator
from hashlib import sha256

import pytest
from flask.testing import FlaskClient
from PIL import Image, ImageDraw
from werkzeug.test import TestResponse

from tests.support import answers
from tests.support.answers import content
from tests.support.pictures import picture
from tests.support.service import client_of, snapapi_environment
from tests.support.trips import TARGET, journey
from tests.support.upstream import Upstream
from thumbnailer.blanks import Blanks
from thumbnailer.errors import BlankPicture
from thumbnailer.model import CaptureRecord, CaptureRequest, Clip

REQUEST = CaptureRequest(url="https://example.com/")
FORMATS = ["png", "jpeg", "webp"]
INK = {"a word": 70, "nothing": 0, "a full stop": 4}


@functools.cache
def paper(
    image_format: str = "png",
    colour: str = "white",
    ink_pixels: int = 0,
    height: int = 720,
    mode: str = "RGB",
    ink: str = "#808080",
) -> bytes:
    """A page of one colour, with so many pixels of text near its top."""
    image = Image.new("RGB", (1280, height), colour)
    draw = ImageDraw.Draw(image)
    for number in range(ink_pixels):
        draw.point((20 + number % 10, 20 + number // 10), fill=ink)
    encoded = io.BytesIO()
    image.convert(mode).save(encoded, image_format.upper(), quality=80)
    return encoded.getvalue()


def refuse(body: bytes, request: CaptureRequest = REQUEST, blanks: Blanks | None = None) -> None:
    with Image.open(io.BytesIO(body)) as opened:
        width, height = opened.size
    record = CaptureRecord(
        content_type="image/png",
        size_bytes=len(body),
        sha256=sha256(body).hexdigest(),
        width=width,
        height=height,
        captured_at=0,
        provider="test",
        upstream_seconds=0,
    )
    (blanks or Blanks()).refuse(request, record, lambda: body)


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("colour", ["white", "black", "#123456", "#808080", "#fffffe"])
@pytest.mark.parametrize("ink", ["nothing", "a full stop"])
def test_one_colour_but_for_a_few_stray_pixels_is_blank(image_format: str, colour: str, ink: str) -> None:
    with pytest.raises(BlankPicture):
        refuse(paper(image_format, colour, INK[ink]))


@pytest.mark.parametrize("image_format", FORMATS)
@pytest.mark.parametrize("colour", ["white", "black", "#123456"])
def test_a_small_word_is_enough(image_format: str, colour: str) -> None:
    refuse(paper(image_format, colour, INK["a word"]))


@pytest.mark.parametrize("ink", ["#f0f0f0", "yellow"])
def test_a_pale_word_is_enough(ink: str) -> None:
    refuse(paper(ink_pixels=INK["a word"], ink=ink))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_pictures_of_every_kind_are_looked_at(mode: str) -> None:
    with pytest.raises(BlankPicture):
        refuse(paper(mode=mode))
    refuse(paper(mode=mode, colour="white", ink_pixels=400))


def test_a_picture_that_is_transparent_all_over_is_blank() -> None:
    encoded = io.BytesIO()
    Image.new("RGBA", (1280, 720), (12, 34, 56, 0)).save(encoded, "PNG")
    with pytest.raises(BlankPicture):
        refuse(encoded.getvalue())


def test_a_word_on_top_of_a_very_long_page_counts_as_much() -> None:
    refuse(paper(height=16_384, ink_pixels=INK["a word"]))
    with pytest.raises(BlankPicture):
        refuse(paper(height=16_384))


@pytest.mark.parametrize("image_format", FORMATS)
def test_a_gradient_and_a_picture_are_not_blank(image_format: str) -> None:
    refuse(picture(image_format))
    encoded = io.BytesIO()
    Image.linear_gradient("L").resize((1280, 720)).save(encoded, image_format.upper())
    refuse(encoded.getvalue())


def test_a_picture_with_many_bytes_is_not_even_read() -> None:
    noise = io.BytesIO()
    Image.effect_noise((640, 360), 50).save(noise, "PNG")
    record_only = len(noise.getvalue())

    def read() -> bytes:
        raise AssertionError("it was read")

    record = CaptureRecord(
        content_type="image/png",
        size_bytes=record_only,
        sha256="",
        width=640,
        height=360,
        captured_at=0,
        provider="test",
        upstream_seconds=0,
    )
    Blanks().refuse(REQUEST, record, read)


@pytest.mark.parametrize(
    ("request_", "blanks"),
    [
        pytest.param(REQUEST, Blanks(is_on=False), id="switched off"),
        pytest.param(CaptureRequest(url=TARGET, selector="#swatch"), Blanks(), id="an element"),
        pytest.param(CaptureRequest(url=TARGET, clip=Clip(0, 0, 9, 9)), Blanks(), id="a rectangle"),
    ],
)
def test_one_colour_passes_where_that_may_be_meant(request_: CaptureRequest, blanks: Blanks) -> None:
    refuse(paper(), request_, blanks)


def test_how_many_pixels_may_stray_is_the_operators_choice() -> None:
    refuse(paper(ink_pixels=4), blanks=Blanks(stray_per_million=2))
    with pytest.raises(BlankPicture):
        refuse(paper(ink_pixels=70), blanks=Blanks(stray_per_million=100))


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def ask(client: FlaskClient, path: str = "/screenshot", **query: str) -> TestResponse:
    return client.get(path, query_string={"url": TARGET, **query}, buffered=True)


@pytest.mark.parametrize("path", ["/screenshot", "/thumb"])
def test_a_blank_picture_is_tried_once_more_and_then_no_answer(upstream: Upstream, path: str) -> None:
    upstream.behave(content(paper(), "image/png"))
    with client_of(snapapi_environment(upstream.url)) as client:
        response = ask(client, path)
        assert response.status_code == 502
        assert response.get_json()["type"] == "/problems/not-an-image"
        assert "blank" in response.get_json()["detail"]
        assert int(response.headers["Retry-After"]) > 0
        assert len(upstream.requests) == 2


def test_a_page_that_had_drawn_itself_at_the_second_try_is_the_answer(upstream: Upstream) -> None:
    upstream.behave(content(paper(), "image/png"), answers.image())
    with client_of(snapapi_environment(upstream.url)) as client:
        assert ask(client).data == picture()


def test_a_blank_picture_is_not_stored(upstream: Upstream) -> None:
    upstream.behave(content(paper(), "image/png"))
    with client_of(snapapi_environment(upstream.url)) as client:
        response = client.post("/persist", json={"url": TARGET})
        assert (response.status_code, response.get_json()["type"]) == (502, "/problems/not-an-image")


def test_a_stream_of_a_blank_picture_is_broken_off_and_not_cached(upstream: Upstream) -> None:
    upstream.behave(content(paper(), "image/png"), answers.image())
    with client_of(snapapi_environment(upstream.url)) as client:
        with pytest.raises(ConnectionResetError, match="blank"):
            ask(client, "/screenshot/stream")
        assert ask(client, "/screenshot").status_code == 502, "the failure is remembered, the picture is not"
        assert len(upstream.requests) == 1


def test_an_operator_may_let_blank_pictures_pass(upstream: Upstream) -> None:
    upstream.behave(content(paper(), "image/png"))
    with client_of(snapapi_environment(upstream.url, REFUSE_BLANK="false")) as client:
        assert [ask(client, path).status_code for path in ("/screenshot", "/thumb")] == [200, 200]
        stream = client.get("/screenshot/stream", query_string={"url": f"{TARGET}?other"}, buffered=True)
        assert stream.data == paper()


def test_blank_pictures_do_not_open_a_breaker(upstream: Upstream) -> None:
    upstream.behave(content(paper(), "image/png"))
    with client_of(snapapi_environment(upstream.url, BREAKER_FAILURES="2")) as client:
        for number in range(4):
            ask(client, url=f"{TARGET}?{number}")
        assert json.loads(client.get("/ready").data)["providers"][0]["breaker"] == "closed"


def test_an_old_picture_is_better_than_a_blank_one(tmp_path_factory: pytest.TempPathFactory) -> None:
    trip = journey(tmp_path_factory.mktemp("trip"))
    old = trip.pipeline.fetch(CaptureRequest(url=TARGET), trip.terms()).capture
    trip.clock.turn(29 * 86_400)
    trip.provider.body = paper()
    delivery = trip.pipeline.fetch(CaptureRequest(url=TARGET), trip.terms())
    assert delivery.capture.record == old.record
    assert isinstance(delivery.trouble, BlankPicture)
