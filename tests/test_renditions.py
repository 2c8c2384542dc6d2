"""The size of a thumbnail follows from the capture's and from the options, to the pixel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.imaging import Dimensions
from thumbnailer.renditions import Fit, Layout, Rendition, RenditionFormat, lay_out, rendition_key

SCREEN = Dimensions(1280, 720)
TALL = Dimensions(1280, 16_384)
PNG, JPEG, WEBP, AVIF = RenditionFormat
INSIDE, COVER, CONTAIN = Fit


def _rendition(
    width: int | None = None,
    height: int | None = None,
    fit: Fit = INSIDE,
    dpr: float = 1,
    wanted: RenditionFormat = PNG,
) -> Rendition:
    return Rendition(format=wanted, thumb_width=width, thumb_height=height, fit=fit, dpr=dpr)


SIZES = [
    pytest.param(SCREEN, _rendition(), (1280, 720), id="nothing asked: as it is"),
    pytest.param(SCREEN, _rendition(dpr=3), (1280, 720), id="dpr multiplies nothing: as it is"),
    pytest.param(SCREEN, _rendition(400), (400, 225), id="width alone"),
    pytest.param(SCREEN, _rendition(None, 90), (160, 90), id="height alone"),
    pytest.param(SCREEN, _rendition(2000), (1280, 720), id="width alone never enlarges"),
    pytest.param(SCREEN, _rendition(None, 2000), (1280, 720), id="height alone never enlarges"),
    pytest.param(SCREEN, _rendition(2000, fit=COVER), (1280, 720), id="cover needs both sides"),
    pytest.param(SCREEN, _rendition(None, 90, CONTAIN), (160, 90), id="contain needs both sides"),
    pytest.param(SCREEN, _rendition(400, 100), (178, 100), id="inside a flat box: 177.8"),
    pytest.param(SCREEN, _rendition(100, 400), (100, 56), id="inside a tall box: 56.25"),
    pytest.param(Dimensions(200, 101), _rendition(100), (100, 51), id="halves go up: 50.5"),
    pytest.param(SCREEN, _rendition(2000, 2000), (1280, 720), id="inside never enlarges"),
    pytest.param(SCREEN, _rendition(400, dpr=2), (800, 450), id="dpr doubles"),
    pytest.param(SCREEN, _rendition(33, dpr=1.5), (50, 28), id="dpr rounds halves up: 49.5"),
    pytest.param(SCREEN, _rendition(1000, dpr=3), (1280, 720), id="dpr does not enlarge either"),
    pytest.param(SCREEN, _rendition(300, 300, COVER), (300, 300), id="cover is exact"),
    pytest.param(SCREEN, _rendition(2000, 2000, COVER), (2000, 2000), id="cover enlarges"),
    pytest.param(SCREEN, _rendition(2000, 2000, COVER, 3), (6000, 6000), id="the largest there is"),
    pytest.param(SCREEN, _rendition(300, 300, CONTAIN), (300, 300), id="contain is exact"),
    pytest.param(SCREEN, _rendition(2000, 2000, CONTAIN), (2000, 2000), id="contain enlarges"),
    pytest.param(TALL, _rendition(16, 16), (1, 16), id="no side vanishes: 1.25"),
    pytest.param(Dimensions(2, 16_384), _rendition(None, 16), (1, 16), id="no side vanishes: 0.002"),
    pytest.param(TALL, _rendition(), (1280, 16_384), id="png holds a whole page"),
    pytest.param(TALL, _rendition(wanted=JPEG), (1280, 16_384), id="jpeg holds a whole page"),
    pytest.param(TALL, _rendition(wanted=WEBP), (1279, 16_383), id="webp is one pixel too short"),
    pytest.param(TALL, _rendition(wanted=AVIF), (1118, 14_310), id="avif takes 16 million pixels"),
    pytest.param(SCREEN, _rendition(2000, 1000, COVER, 3, AVIF), (5656, 2828), id="avif keeps the shape"),
]


@pytest.mark.parametrize(("source", "rendition", "size"), SIZES)
def test_the_size_follows_from_the_options(
    source: Dimensions, rendition: Rendition, size: tuple[int, int]
) -> None:
    assert lay_out(source, rendition).canvas == Dimensions(*size)


@pytest.mark.parametrize(
    ("source", "rendition", "layout"),
    [
        pytest.param(
            SCREEN,
            _rendition(300, 300, COVER),
            Layout(Dimensions(533, 300), Dimensions(300, 300), left=116),
            id="cover cuts both flanks alike, the odd pixel at the right",
        ),
        pytest.param(
            Dimensions(400, 900),
            _rendition(200, 100, COVER),
            Layout(Dimensions(200, 450), Dimensions(200, 100)),
            id="cover keeps the top",
        ),
        pytest.param(
            SCREEN,
            _rendition(300, 300, CONTAIN),
            Layout(Dimensions(300, 169), Dimensions(300, 300), top=65),
            id="contain pads above and below, the odd pixel below",
        ),
        pytest.param(
            Dimensions(400, 900),
            _rendition(300, 90, CONTAIN),
            Layout(Dimensions(40, 90), Dimensions(300, 90), left=130),
            id="contain pads at the sides",
        ),
    ],
)
def test_what_is_cut_or_padded_follows_from_the_fit(
    source: Dimensions, rendition: Rendition, layout: Layout
) -> None:
    assert lay_out(source, rendition) == layout


SIDES = st.none() | st.integers(16, 2000)


@given(
    source=st.builds(Dimensions, st.integers(1, 17_000), st.integers(1, 17_000)),
    rendition=st.builds(
        Rendition,
        format=st.sampled_from(RenditionFormat),
        thumb_width=SIDES,
        thumb_height=SIDES,
        fit=st.sampled_from(Fit),
        dpr=st.floats(1, 3),
    ),
)
def test_every_layout_can_be_drawn(source: Dimensions, rendition: Rendition) -> None:
    layout = lay_out(source, rendition)
    bounds = rendition.format.bounds
    assert min(layout.canvas.width, layout.canvas.height, layout.scaled.width, layout.scaled.height) >= 1
    assert max(layout.canvas.width, layout.canvas.height) <= bounds.max_side
    assert layout.canvas.width * layout.canvas.height <= (bounds.max_pixels or 300_000_000)
    assert min(layout.left, layout.top) >= 0
    if rendition.effective_fit is Fit.INSIDE:
        assert layout.scaled == layout.canvas
        assert layout.canvas.width <= source.width
        assert layout.canvas.height <= source.height
    assert not (layout.is_cut and layout.is_padded)


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param({"thumb_width": 15}, id="too narrow"),
        pytest.param({"thumb_height": 2001}, id="too high"),
        pytest.param({"dpr": 0.9}, id="too few dots"),
        pytest.param({"dpr": 3.1}, id="too many dots"),
        pytest.param({"quality": 0}, id="no quality"),
        pytest.param({"quality": 101}, id="too good"),
    ],
)
def test_numbers_out_of_range_make_no_rendition(numbers: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="is no"):
        Rendition(format=PNG, **numbers)  # type: ignore[arg-type]  # a table of numbers


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(_rendition(400, dpr=2), _rendition(800), id="dpr and size"),
        pytest.param(_rendition(400, fit=COVER), _rendition(400), id="a fit without effect"),
        pytest.param(_rendition(dpr=2), _rendition(), id="a dpr without effect"),
        pytest.param(
            Rendition(format=WEBP), Rendition(format=WEBP, quality=80), id="the usual quality, said or not"
        ),
        pytest.param(Rendition(format=PNG, quality=30), Rendition(format=PNG), id="png has no quality"),
    ],
)
def test_what_comes_to_the_same_picture_has_one_key(one: Rendition, other: Rendition) -> None:
    assert rendition_key("c", one) == rendition_key("c", other)


def test_what_comes_to_different_pictures_has_different_keys() -> None:
    different = [
        _rendition(),
        _rendition(400),
        _rendition(None, 400),
        _rendition(400, 400),
        _rendition(400, 400, COVER),
        _rendition(400, 400, CONTAIN),
        _rendition(400, wanted=WEBP),
        _rendition(400, wanted=AVIF),
        Rendition(format=WEBP, quality=79, thumb_width=400),
    ]
    keys = {rendition_key(capture, one) for one in different for capture in ("c", "d")}
    assert len(keys) == 2 * len(different)
