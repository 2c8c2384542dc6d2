"""The pictures that hits are measured with, and the URLs under which they are asked for."""

from __future__ import annotations

import functools
import random
from urllib.parse import quote

from PIL import Image

from benchmarks.clients import picture_path
from tests.support.answers import Answer, content
from tests.support.answers import Received as Call
from tests.support.screenshots import encoded
from thumbnailer.signing import UrlSigner, parse_signing_keys

#: For the service and whoever signs URLs for it.
SIGNING_KEYS = "bench:7f3e0b9c5a1d48e26f90c3b7a4d5182e9b6c0f1a2d3e4857c6b5a4938271605f"

#: How many different URLs are asked for in turn.
URLS = 8

#: Pixels of a picture of noise, which makes as large a file for whoever encodes it.
SIZES = {60: (160, 125), 10: (64, 52)}


#: In kilobytes.
LEAST_CAPTURE = 30


@functools.cache
def noise(kilobytes: int) -> bytes:
    """A PNG of about so many kilobytes, a little more rather than less; the same at every call."""
    width, height = SIZES[kilobytes]
    pixels = random.Random(kilobytes).randbytes(width * height * 3)
    return encoded(Image.frombytes("RGB", (width, height), pixels), "png")


def target(kilobytes: int, number: int | str) -> str:
    """The address of a page whose picture has that size: a public one, which nobody calls."""
    return f"http://93.184.216.34/{kilobytes}/{number}"


def upstream_picture(call: Call) -> Answer:
    """What the upstream answers, whoever's way to ask for a page it is."""
    asked = call.json["url"] if call.body else call.query["url"]
    return content(noise(10 if "/10/" in asked else 60), "image/png")


def plain_paths(kilobytes: int) -> tuple[str, ...]:
    return tuple(picture_path("/thumb", target(kilobytes, number)) for number in range(URLS))


def signed_path(page: str, **options: str) -> str:
    """The same for the service, which asks for signatures."""
    signer = UrlSigner(parse_signing_keys(SIGNING_KEYS))
    return str(signer.sign("/thumb", [("url", page), *options.items()], now=0))


def signed_paths(kilobytes: int) -> tuple[str, ...]:
    """Of captures, except that what is so small is a thumbnail: of as many pixels as the capture has."""
    options = {"thumb_width": str(SIZES[kilobytes][0])} if kilobytes < LEAST_CAPTURE else {}
    return tuple(signed_path(target(kilobytes, number), **options) for number in range(URLS))


def file_paths(kilobytes: int) -> tuple[str, ...]:
    return tuple(f"/{kilobytes}/{number}.png" for number in range(URLS))


def thumbor_paths(origin_url: str, kilobytes: int) -> tuple[str, ...]:
    """thumbor scales pictures that it fetches: here to the size that they have."""
    width, height = SIZES[kilobytes]
    return tuple(
        f"/unsafe/{width}x{height}/{quote(origin_url + path, safe='')}" for path in file_paths(kilobytes)
    )
