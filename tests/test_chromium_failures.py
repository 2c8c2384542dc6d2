"""Pages that cannot be photographed, and what a caller hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chromium import chromium, take
from tests.support.pages import GREEN, PageServer, colour_at, picture_of, running_pages
from tests.support.processes import free_port
from thumbnailer.errors import (
    CaptureRefused,
    ImageTooLarge,
    PageCrashed,
    TargetForbidden,
    TargetStatus,
    TargetTooSlow,
    TargetUnreachable,
    ThumbnailerError,
)
from thumbnailer.model import Clip, Format
from thumbnailer.providers.chromium import ChromiumProvider


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with running_pages() as server:
        yield server


@pytest.fixture(scope="module")
def provider() -> Iterator[ChromiumProvider]:
    with chromium() as provider:
        yield provider


@pytest.mark.parametrize(
    ("path", "options", "error"),
    [
        pytest.param("/status/404", {}, TargetStatus, id="404"),
        pytest.param("/breaks-off-anywhere", {}, TargetUnreachable, id="broken off twice"),
        pytest.param("/empty-404", {}, TargetStatus, id="404 without a page"),
        pytest.param("/moves-late-to-404", {"delay": 1000}, TargetStatus, id="404 reached by a script"),
        pytest.param("/moves-late-to-nowhere", {"delay": 1000}, TargetUnreachable, id="nowhere by a script"),
        pytest.param("/no-content", {}, TargetUnreachable, id="204"),
        pytest.param("/file", {}, CaptureRefused, id="a download"),
        pytest.param("/redirect-to-forbidden", {}, TargetForbidden, id="redirect to a forbidden address"),
        pytest.param("/redirect-to-forbidden-over-tls", {}, TargetForbidden, id="redirect, and encrypted"),
        pytest.param("/refreshes-to-forbidden", {"delay": 500}, TargetForbidden, id="refresh to forbidden"),
        pytest.param("/moves-late-to-forbidden", {"delay": 500}, TargetForbidden, id="script to forbidden"),
        pytest.param("/posts-to-forbidden", {"delay": 500}, TargetForbidden, id="form to forbidden"),
        pytest.param("/plain", {"selector": "#none"}, CaptureRefused, id="selector missing"),
        pytest.param("/elements", {"selector": "#gone"}, CaptureRefused, id="selector invisible"),
        pytest.param("/plain", {"selector": "##"}, CaptureRefused, id="selector invalid"),
        pytest.param("/plain", {"wait_for": "a >> b"}, CaptureRefused, id="wait_for invalid"),
        pytest.param("/plain", {"wait_for": "#none", "seconds": 3}, CaptureRefused, id="wait_for missing"),
        pytest.param(
            "/plain", {"hide_selectors": ("a", "b { }")}, CaptureRefused, id="hide_selectors invalid"
        ),
        pytest.param("/plain", {"clip": Clip(9000, 0, 10, 10)}, CaptureRefused, id="clip beside the page"),
        pytest.param("/plain", {"timezone": "Mars/Olympus"}, CaptureRefused, id="timezone unknown"),
        pytest.param("/plain", {"device": "Abacus"}, CaptureRefused, id="device unknown"),
        pytest.param("/hanging-script", {"seconds": 2}, TargetTooSlow, id="never shows anything"),
        pytest.param("/loop", {"seconds": 3}, TargetTooSlow, id="script without end"),
        pytest.param("/hog", {}, PageCrashed, id="page that eats memory"),
    ],
)
def test_what_goes_wrong_is_told_apart(
    provider: ChromiumProvider, pages: PageServer, path: str, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(ThumbnailerError) as caught:
        take(provider, pages.url(path), **options)
    assert type(caught.value) is error
    assert "127.0.0.1" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert colour_at(take(provider, pages.url("/plain")), 10, 10) == GREEN


@pytest.mark.parametrize(
    ("url", "error"),
    [
        pytest.param(f"http://127.0.0.1:{free_port()}/", TargetUnreachable, id="nobody listens"),
        pytest.param("http://no-such-host.example.com/", TargetUnreachable, id="no such host"),
        pytest.param("http://127.0.0.1:22/", TargetForbidden, id="port that browsers avoid"),
        pytest.param("file:///etc/passwd", TargetForbidden, id="file"),
        pytest.param("chrome://version/", TargetForbidden, id="the browser's own page"),
    ],
)
def test_what_cannot_be_reached_is_not_photographed(
    provider: ChromiumProvider, url: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as caught:
        take(provider, url)
    assert "127.0.0.1" not in str(caught.value)


def test_broken_encryption_is_the_targets_fault(provider: ChromiumProvider, pages: PageServer) -> None:
    with pytest.raises(TargetUnreachable, match="certificate or encryption"):
        take(provider, pages.url("/plain").replace("http:", "https:"))


def test_a_picture_with_too_many_pixels_is_refused_before_it_is_made_and_a_whole_page_is_cut_off(
    pages: PageServer,
) -> None:
    with chromium(max_image_pixels=320 * 240) as provider:
        assert picture_of(take(provider, pages.url("/plain"))).size == (320, 240)
        with pytest.raises(ImageTooLarge):
            take(provider, pages.url("/plain"), height=241)
        with pytest.raises(ImageTooLarge):
            take(provider, pages.url("/plain"), height=241, full_page=True)
    with chromium(max_image_pixels=320 * 1000 * 4) as provider:
        picture = take(provider, pages.url("/elements"), full_page=True, device_scale_factor=2.0)
        assert picture_of(picture).size == (640, 2000)


def test_a_pdf_of_too_many_bytes_is_given_up_while_it_is_read(pages: PageServer) -> None:
    """A page can make one of any size, and all of it was in memory before somebody looked."""
    with chromium(max_pdf_bytes=100) as provider, pytest.raises(ImageTooLarge):
        take(provider, pages.url("/plain"), format=Format.PDF)
