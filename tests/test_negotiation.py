"""The format fits what the caller says it can show."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnailer.negotiation import choose_format
from thumbnailer.renditions import RenditionFormat

PNG, JPEG, WEBP, AVIF = RenditionFormat

PAGES = "text/html,application/xhtml+xml,application/xml;q=0.9,"

BROWSERS = [
    pytest.param("image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8", AVIF, id="chrome img"),
    pytest.param(
        PAGES + "image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
        AVIF,
        id="chrome address bar",
    ),
    pytest.param("image/webp,image/apng,image/*,*/*;q=0.8", WEBP, id="chrome 80 img"),
    pytest.param(
        "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", AVIF, id="firefox img"
    ),
    pytest.param("image/avif,image/webp,*/*", AVIF, id="firefox 100 img"),
    pytest.param("image/webp,*/*", WEBP, id="firefox 70 img"),
    pytest.param("image/png,image/*;q=0.8,*/*;q=0.5", PNG, id="firefox 50 img"),
    pytest.param(PAGES + "*/*;q=0.8", JPEG, id="firefox address bar"),
    pytest.param(
        "image/webp,image/avif,image/jxl,image/heic,image/heic-sequence,video/*;q=0.8,image/png,"
        "image/svg+xml,image/*;q=0.8,*/*;q=0.5",
        AVIF,
        id="safari 17 img",
    ),
    pytest.param(
        "image/webp,image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", WEBP, id="safari 14 img"
    ),
    pytest.param("image/png,image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", PNG, id="safari 12 img"),
    pytest.param("image/png, image/svg+xml, image/jxr, image/*;q=0.8, */*;q=0.5", PNG, id="edge 18 img"),
    pytest.param("image/png, image/svg+xml, image/*;q=0.8, */*;q=0.5", PNG, id="ie 11 img"),
    pytest.param(
        "image/gif, image/x-xbitmap, image/jpeg, image/pjpeg, application/x-shockwave-flash, */*",
        JPEG,
        id="ie 6",
    ),
    pytest.param("*/*", JPEG, id="curl, python-requests"),
    pytest.param(None, JPEG, id="no header"),
    pytest.param("image/*,*/*;q=0.8", JPEG, id="a mail program"),
]

RULES = [
    pytest.param("", JPEG, id="empty"),
    pytest.param(" ", JPEG, id="blank"),
    pytest.param("image/webp", WEBP, id="only webp"),
    pytest.param("IMAGE/WebP", WEBP, id="case does not matter"),
    pytest.param("image/webp;q=0.9,image/avif;q=0.8", WEBP, id="the higher weight wins"),
    pytest.param("image/webp ; q=0.9 , image/avif ; q=0.95", AVIF, id="white space"),
    pytest.param("image/avif;q=0,image/webp;q=0,*/*", JPEG, id="weight 0 is a no"),
    pytest.param("image/jpeg;q=0,*/*", PNG, id="no to jpeg: png"),
    pytest.param("image/png,*/*;q=0.1", PNG, id="the more specific counts for png"),
    pytest.param("image/*;q=0.1,image/png;q=0.5,image/jpeg;q=0.4", PNG, id="order does not matter"),
    pytest.param("image/jpeg;q=0.5,image/*", PNG, id="the more specific is lower"),
    pytest.param("image/avif;q=0.001,text/html", AVIF, id="a small weight is a yes"),
    pytest.param("text/html", JPEG, id="nothing fits: the most common"),
    pytest.param("*/*;q=0", JPEG, id="no to all: the most common"),
    pytest.param("image/avif;q=2,image/webp;q=0.5", WEBP, id="a weight above 1 is malformed"),
    pytest.param("image/avif;q=yes,image/webp", WEBP, id="a weight that is no number"),
    pytest.param("image/avif;q=0.1234,image/webp;q=0.1", WEBP, id="a weight with four digits"),
    pytest.param("image/avif;q=,image/webp;q=0.1", WEBP, id="a weight without a number"),
    pytest.param("image/avif;depth=10,image/webp", WEBP, id="a range for another kind of avif"),
    pytest.param("image/avif;q=0.9;x=y,image/webp;q=0.8", AVIF, id="what follows the weight is skipped"),
    pytest.param('x/y;z="image/avif,image/avif",image/webp', WEBP, id="commas in quotes"),
    pytest.param('x/y;z="\\",image/avif",image/webp', WEBP, id="escapes in quotes"),
    pytest.param('x/y;z="image/avif,image/webp', JPEG, id="a quote that never ends"),
    pytest.param(",,image/webp,,", WEBP, id="empty members"),
    pytest.param("*/*;q=0.8,image/*;q=0.3,image/webp;q=0.5", WEBP, id="the narrower range counts"),
]


@pytest.mark.parametrize(("accept", "chosen"), [*BROWSERS, *RULES])
def test_the_best_format_that_can_be_shown_is_chosen(accept: str | None, chosen: RenditionFormat) -> None:
    assert choose_format(accept, has_alpha=False) is chosen


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        pytest.param("*/*", PNG, id="curl"),
        pytest.param(None, PNG, id="no header"),
        pytest.param("image/webp,*/*", WEBP, id="webp is transparent too"),
        pytest.param("image/jpeg", JPEG, id="only jpeg"),
        pytest.param("text/html", PNG, id="nothing fits"),
    ],
)
def test_what_is_transparent_becomes_png_rather_than_jpeg(
    accept: str | None, chosen: RenditionFormat
) -> None:
    assert choose_format(accept, has_alpha=True) is chosen


PIECES = st.sampled_from(['"', ",", ";", "\\", "q=", "0.5", "image/avif", "image/*", "*/*", " ", "\x00", "é"])


@given(st.lists(PIECES, max_size=40).map("".join), st.booleans())
def test_no_header_whatever_goes_without_an_answer(accept: str, has_alpha: bool) -> None:
    assert choose_format(accept, has_alpha=has_alpha) in RenditionFormat
