"""What every provider owes its callers, whether it is a browser or a service across the network.

A new provider needs one ``Harness`` here: how it is built, which server its captures depend on (its
upstream, or the page itself), and what that server's misbehaviour means.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from PIL import Image

from tests.support import answers
from tests.support.answers import Answer, Behaviour
from tests.support.chromium import make_provider
from tests.support.upstream import Upstream
from tests.support.vendors import play_vendors
from thumbnailer.errors import (
    TargetStatus,
    TargetTooSlow,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamError,
    UpstreamFailed,
    UpstreamTimeout,
)
from thumbnailer.model import (
    NEUTRAL_OPTIONS,
    CaptureRequest,
    Clip,
    Cookie,
    Deadline,
    Format,
    Geolocation,
    WaitUntil,
)
from thumbnailer.providers import Provider
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.hermesforge import HERMESFORGE
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.providers.snapsharp import SNAPSHARP
from thumbnailer.providers.vendor import Vendor

KEY = "sk_live_contract"
PATIENCE_SECONDS = 40
PAGE = answers.content(
    b"<!doctype html><title>Page</title><body style='background: #246'><h1>Hello</h1><p class=ad>Buy</p>",
    "text/html",
)


def error_of(status: int) -> Answer:
    return answers.content(b"{}", "application/json", status=status)


TROUBLES: dict[str, Answer] = {
    "silence": answers.silence(),
    "slow-headers": answers.slow_head(0.05),
    "reset": answers.reset(),
    "status-404": error_of(404),
    "status-410": error_of(410),
    "status-500": error_of(500),
    "redirect-to-nowhere": answers.redirect(f"{answers.refusing_url()}/"),
}

#: Only the deadline ends these; the others end by themselves, on a busy machine not soon.
ENDLESS_TROUBLES = {"silence", "slow-headers"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Harness:
    """One provider under test.

    ``build`` is given the address of the server that it depends on; ``soundness`` is how that server
    behaves when all is well; ``target`` makes of its address the URL to photograph; ``troubles`` says
    which error each of ``TROUBLES`` means.
    """

    name: str
    build: Callable[[str], Provider]
    soundness: Behaviour
    target: Callable[[str], str]
    troubles: Mapping[str, type[ThumbnailerError]]


def remote(vendor: Vendor) -> Harness:
    return Harness(
        name=vendor.name,
        build=lambda url: RemoteProvider(vendor, UpstreamSession(), key=KEY, base_url=url),
        soundness=play_vendors,
        target=lambda url: "https://example.com/",
        troubles={
            "silence": UpstreamTimeout,
            "slow-headers": UpstreamTimeout,
            "reset": UpstreamFailed,
            "status-404": TargetUnreachable,
            "status-410": TargetUnreachable,
            "status-500": UpstreamFailed,
            "redirect-to-nowhere": UpstreamFailed,
        },
    )


CHROMIUM = Harness(
    name="chromium",
    build=lambda url: make_provider(),
    soundness=PAGE,
    target=lambda url: f"{url}/page",
    troubles={
        "silence": TargetTooSlow,
        "slow-headers": TargetTooSlow,
        "reset": TargetUnreachable,
        "status-404": TargetStatus,
        "status-410": TargetStatus,
        "status-500": TargetStatus,
        "redirect-to-nowhere": TargetUnreachable,
    },
)

HARNESSES = {harness.name: harness for harness in (CHROMIUM, *map(remote, (HERMESFORGE, SNAPSHARP, SNAPAPI)))}


@dataclass(frozen=True, slots=True)
class Stage:
    """A provider with the server that it depends on."""

    harness: Harness
    provider: Provider
    server: Upstream

    def request(self, *asked: str, **options: Any) -> CaptureRequest:
        url = self.harness.target(self.server.url)
        return CaptureRequest(url=url, **options, asked=frozenset(asked))

    def capture(self, request: CaptureRequest, seconds: float = PATIENCE_SECONDS) -> bytes:
        with closing(self.provider.capture(request, Deadline.after(seconds))) as body:
            return b"".join(body)


@pytest.fixture(scope="module", params=HARNESSES.values(), ids=list(HARNESSES))
def staged(request: pytest.FixtureRequest) -> Iterator[Stage]:
    harness: Harness = request.param
    with Upstream(harness.soundness) as server, closing(harness.build(server.url)) as provider:
        yield Stage(harness, provider, server)


@pytest.fixture
def stage(staged: Stage) -> Stage:
    staged.server.behave(staged.harness.soundness)
    return staged


def test_a_provider_is_known_by_its_name_and_ready(stage: Stage) -> None:
    assert stage.provider.name == stage.harness.name
    assert stage.provider.is_ready()


@pytest.mark.parametrize("image_format", [Format.PNG, Format.JPEG, Format.WEBP])
def test_a_capture_is_a_whole_picture_of_the_format_asked_for(stage: Stage, image_format: Format) -> None:
    image = Image.open(io.BytesIO(stage.capture(stage.request("format", format=image_format))))
    image.load()

    assert image.format == image_format.upper()


def test_a_capture_can_be_a_pdf(stage: Stage) -> None:
    document = stage.capture(stage.request("format", format=Format.PDF))

    assert document.startswith(b"%PDF-")
    assert document.rstrip().endswith(b"%%EOF")


def test_a_body_comes_in_pieces_that_add_up_to_its_length(stage: Stage) -> None:
    with closing(stage.provider.capture(stage.request(), Deadline.after(PATIENCE_SECONDS))) as body:
        sizes = [len(chunk) for chunk in body]
        assert body.length in (None, sum(sizes))

    assert all(0 < size <= 65536 for size in sizes)


@pytest.mark.parametrize("chunks_read", [0, 1])
def test_a_body_may_be_closed_before_its_end_and_more_than_once(stage: Stage, chunks_read: int) -> None:
    body = stage.provider.capture(stage.request(), Deadline.after(PATIENCE_SECONDS))
    arriving = iter(body)
    for _ in range(chunks_read):
        assert next(arriving)
    body.close()
    body.close()

    assert stage.capture(stage.request())


def test_nothing_is_called_once_the_deadline_has_passed(stage: Stage) -> None:
    with pytest.raises(UpstreamTimeout):
        stage.capture(stage.request(), seconds=0)

    assert stage.server.requests == ()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_has_the_same_name_at_every_provider(stage: Stage, trouble: str) -> None:
    assert stage.capture(stage.request())  # whatever starts slowly has started
    stage.server.behave(TROUBLES[trouble])

    with pytest.raises(ThumbnailerError) as caught:
        stage.capture(stage.request(), seconds=2 if trouble in ENDLESS_TROUBLES else PATIENCE_SECONDS)

    error = caught.value
    assert type(error) is stage.harness.troubles[trouble]
    assert not isinstance(error, UpstreamError) or error.provider == stage.harness.name
    for secret in (KEY, "127.0.0.1", stage.server.url.rpartition(":")[2], "Traceback"):
        assert secret not in str(error)


def test_trouble_leaves_nothing_behind(stage: Stage) -> None:
    for trouble in ("reset", "status-500"):
        stage.server.behave(TROUBLES[trouble])
        with pytest.raises(ThumbnailerError):
            stage.capture(stage.request())
    stage.server.behave(stage.harness.soundness)

    assert stage.capture(stage.request())


def test_many_threads_may_capture_at_once(stage: Stage) -> None:
    pictures: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: pictures.append(stage.capture(stage.request()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)

    assert len(pictures) == 4
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)


def test_a_closed_provider_starts_again_when_it_is_called(stage: Stage) -> None:
    stage.provider.close()
    stage.provider.close()

    assert stage.capture(stage.request())


def test_an_option_asked_for_in_its_neutral_value_is_never_unsupported(stage: Stage) -> None:
    assert stage.provider.unsupported_option(stage.request(*NEUTRAL_OPTIONS)) is None


def test_defaults_that_a_provider_lacks_are_left_out(stage: Stage) -> None:
    request = stage.request(
        dark_mode=True,
        reduced_motion=True,
        block_ads=True,
        block_cookie_banners=True,
        locale="de-DE",
        timezone="Europe/Berlin",
        wait_until=WaitUntil.NETWORKIDLE,
        hide_selectors=(".ad",),
    )

    assert stage.provider.unsupported_option(request) is None
    assert stage.capture(request)


WISHES: dict[str, Mapping[str, object]] = {
    "width": {"width": 800},
    "height": {"height": 600},
    "device_scale_factor": {"device_scale_factor": 2.0},
    "device": {"device": "iPhone 14", "width": 390, "height": 664, "device_scale_factor": 3.0},
    "format": {"format": Format.WEBP},
    "quality": {"quality": 50, "format": Format.JPEG},
    "full_page": {"full_page": True},
    "selector": {"selector": "h1"},
    "clip": {"clip": Clip(0, 0, 200, 100)},
    "delay": {"delay": 1},
    "wait_until": {"wait_until": WaitUntil.DOMCONTENTLOADED},
    "wait_for": {"wait_for": "h1"},
    "dark_mode": {"dark_mode": True},
    "reduced_motion": {"reduced_motion": True},
    "block_ads": {"block_ads": True},
    "block_cookie_banners": {"block_cookie_banners": True},
    "hide_selectors": {"hide_selectors": (".ad",)},
    "user_agent": {"user_agent": "Bot/1.0"},
    "locale": {"locale": "de-DE"},
    "timezone": {"timezone": "Europe/Berlin"},
    "geolocation": {"geolocation": Geolocation(52.5, 13.4)},
    "fail_on_status": {"fail_on_status": ()},
    "css": {"css": "h1 { color: red }"},
    "js": {"js": "scrollTo(0, 0)"},
    "headers": {"headers": (("x-token", "a"),)},
    "cookies": {"cookies": (Cookie("a", "b", "127.0.0.1"),)},
}


@pytest.mark.parametrize(("option", "values"), WISHES.items(), ids=WISHES)
def test_an_option_asked_for_is_honoured_or_named(
    stage: Stage, option: str, values: Mapping[str, object]
) -> None:
    request = stage.request(option, **values)
    unsupported = stage.provider.unsupported_option(request)

    assert unsupported in (None, option)
    if unsupported is None:
        assert stage.capture(request)
        assert len(stage.server.requests) >= 1


def test_the_wishes_above_cover_every_option() -> None:
    assert WISHES.keys() == NEUTRAL_OPTIONS.keys()
