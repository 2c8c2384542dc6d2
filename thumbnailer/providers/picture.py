"""From a page that is ready to the bytes of its picture."""

from __future__ import annotations

import asyncio
import base64
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thumbnailer.devices import device_named
from thumbnailer.errors import CaptureRefused, ImageTooLarge
from thumbnailer.model import DEFAULT_QUALITY, CaptureRequest, Format
from thumbnailer.providers.page_scripts import BOX_OF, MEASURES
from thumbnailer.providers.page_world import PageWorld

if TYPE_CHECKING:
    from playwright.async_api import Page

#: A WebP has 14 bits for each side (RFC 9649, section 2.6); beyond, Chromium hands out a broken file.
MAX_WEBP_SIDE = 16_383

#: A sheet of paper as wide as the viewport, its sides in the proportion of ISO 216.
PAPER_RATIO = math.sqrt(2)
PIXELS_PER_INCH = 96  # CSS Values and Units, 5.2

#: What a page is believed of its size, in CSS pixels: no layout of Chromium's is larger; and of its scale.
MAX_CSS_PIXELS = 1 << 25
MIN_SCALE, MAX_SCALE = 0.05, 20

#: How long a page is looked at before it is photographed beyond the viewport.
LOOK_SECONDS = 0.1

#: How much of a PDF is read from the browser at a time, in bytes.
PDF_PIECE_BYTES = 1_048_576


#: What ``MEASURES`` tells.
MEASURED = ("start", "left", "top", "width", "height", "scale", "pageWidth", "pageHeight")


@dataclass(frozen=True, slots=True)
class PictureBounds:
    """How large a picture may get: image pixels in all, bytes of a PDF, CSS pixels of a page's height."""

    max_image_pixels: int
    max_pdf_bytes: int
    max_full_page_height: int


@dataclass(frozen=True, slots=True)
class _Area:
    """A rectangle of the page in whole CSS pixels from its top left corner."""

    x: int
    y: int
    width: int
    height: int

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> _Area:
        """The smallest area of whole pixels that holds the rectangle."""
        left, top = math.floor(x), math.floor(y)
        return cls(left, top, math.ceil(x + width) - left, math.ceil(y + height) - top)

    def within(self, other: _Area) -> _Area:
        left, top = max(self.x, other.x), max(self.y, other.y)
        right = min(self.x + self.width, other.x + other.width)
        bottom = min(self.y + self.height, other.y + other.height)
        return _Area(left, top, right - left, bottom - top)

    @property
    def is_empty(self) -> bool:
        return self.width <= 0 or self.height <= 0


@dataclass(frozen=True, slots=True)
class Taken:
    """A picture, and whether a script, which may change the page, ran in it meanwhile or just before."""

    content: bytes
    is_of_moving_page: bool = False


async def photograph(page: Page, world: PageWorld, request: CaptureRequest, bounds: PictureBounds) -> Taken:
    """Encode what ``request`` wants of ``page`` in the format that it wants.

    ``selector`` or ``clip`` decide the area where given, else ``full_page``, else it is what the
    viewport shows. A whole page is as wide as the viewport and cut off below ``bounds``; a WebP also where
    the format ends.

    Raises:
        CaptureRefused: the element or the rectangle is not there, or the page does not say how large it is.
        ImageTooLarge: the picture would have more pixels than allowed, or the PDF more bytes.
        playwright.async_api.Error: the browser failed.
    """
    if request.format is Format.PDF:
        return Taken(await _print(page, request, bounds.max_pdf_bytes))
    box = await _box_of(world, request.selector) if request.selector else None
    measures = _numbers(await world.run(MEASURES), *MEASURED)
    # Only a phone that fits a wide page into its screen has a scale other than 1.
    scale = measures["scale"]
    if not MIN_SCALE <= scale <= MAX_SCALE or min(measures["width"], measures["height"]) <= 0:
        raise _immeasurable()
    pixels_per_css = scale * request.device_scale_factor
    seen = _Area.around(*(measures[name] for name in ("left", "top", "width", "height")))
    area = box or _asked_area(request, measures, seen, bounds)
    if request.format is Format.WEBP:
        side = int(MAX_WEBP_SIDE / pixels_per_css)
        area = _Area(area.x, area.y, min(area.width, side), min(area.height, side))
    if area.width * area.height * pixels_per_css**2 > bounds.max_image_pixels:
        raise ImageTooLarge("The picture would have more pixels than allowed.", provider="chromium")
    return await _shoot(world, request, area, scale=scale, is_seen=area.within(seen) == area)


def _numbers(told: object, *names: str) -> dict[str, float]:
    """What a page says of itself under these names. Raises ``CaptureRefused``."""
    found = told if isinstance(told, dict) else {}
    numbers = {name: value for name in names if isinstance(value := found.get(name), int | float)}
    if len(numbers) < len(names) or not all(abs(number) <= MAX_CSS_PIXELS for number in numbers.values()):
        raise _immeasurable()
    return numbers


def _immeasurable() -> CaptureRefused:
    return CaptureRefused("The page does not say how large it is.")


def _asked_area(
    request: CaptureRequest, measures: dict[str, float], seen: _Area, bounds: PictureBounds
) -> _Area:
    whole_width, whole_height = (math.ceil(measures[name]) for name in ("pageWidth", "pageHeight"))
    whole = _Area(0, 0, max(seen.width, whole_width), max(seen.height, whole_height))
    if request.clip is not None:
        clip = request.clip
        area = _Area(clip.x, clip.y, clip.width, clip.height).within(whole)
        if area.is_empty:
            raise CaptureRefused("The clip lies outside of the page.")
        return area
    if request.full_page:
        pixels_across = seen.width * (measures["scale"] * request.device_scale_factor) ** 2
        most = min(bounds.max_full_page_height, int(bounds.max_image_pixels / pixels_across))
        left = whole.width - seen.width if measures["start"] else 0
        return _Area(left, 0, seen.width, min(whole.height, max(seen.height, most)))
    return seen


async def _box_of(world: PageWorld, selector: str) -> _Area:
    told = await world.run(BOX_OF, selector)
    if told is None:
        raise CaptureRefused("No element of the page matches the selector.")
    box = _numbers(told, "x", "y", "width", "height")
    corner = _Area.around(box["x"], box["y"], box["width"], box["height"])
    area = corner.within(_Area(0, 0, corner.x + corner.width, corner.y + corner.height))
    if area.is_empty or not box["width"] or not box["height"]:
        raise CaptureRefused("The element that matches the selector has no visible area.")
    return area


async def _shoot(
    world: PageWorld, request: CaptureRequest, area: _Area, *, scale: float, is_seen: bool
) -> Taken:
    """Take the picture over the DevTools protocol.

    Playwright's own method waits for web fonts without a bound, and for a body that frame sets lack.
    """
    clip = {"x": area.x, "y": area.y, "width": area.width, "height": area.height, "scale": scale}
    options: dict[str, Any] = {"format": request.format.value, "clip": clip}
    options["captureBeyondViewport"] = not is_seen
    if request.format.takes_quality:
        options["quality"] = request.quality or DEFAULT_QUALITY
    await world.send("Emulation.setDeviceMetricsOverride", _metrics(request))
    before = await world.script_seconds()
    if not is_seen:
        # Beyond the viewport the page is told of another size while its picture is taken.
        await asyncio.sleep(LOOK_SECONDS)
        moving = await world.script_seconds() != before
    answer = await world.send("Page.captureScreenshot", options)
    if is_seen:
        moving = await world.script_seconds() != before
    return Taken(base64.b64decode(answer["data"]), is_of_moving_page=moving)


def _metrics(request: CaptureRequest) -> dict[str, Any]:
    """The page's emulated screen once more: a session knows only what was set through itself."""
    device = device_named(request.device)
    return {
        "width": request.width,
        "height": request.height,
        "screenWidth": request.width,
        "screenHeight": request.height,
        "deviceScaleFactor": request.device_scale_factor,
        "mobile": device is not None and device.is_mobile,
    }


async def _print(page: Page, request: CaptureRequest, max_bytes: int) -> bytes:
    """The whole page on paper, looking as it does on screen; areas have no meaning there.

    It is read piece by piece: Playwright would bring all of it into memory, several times over.
    """
    await page.emulate_media(media="screen")
    paper = {
        "paperWidth": request.width / PIXELS_PER_INCH,
        "paperHeight": round(request.width * PAPER_RATIO) / PIXELS_PER_INCH,
        **dict.fromkeys(("marginTop", "marginBottom", "marginLeft", "marginRight"), 0),
    }
    session = await page.context.new_cdp_session(page)
    printed = {
        "transferMode": "ReturnAsStream",
        "printBackground": True,
        "generateTaggedPDF": False,
        **paper,
    }
    answer = await session.send("Page.printToPDF", printed)
    reading = {"handle": answer["stream"], "size": PDF_PIECE_BYTES}
    body, is_whole = bytearray(), False
    while not is_whole:
        piece = await session.send("IO.read", reading)
        body += base64.b64decode(piece["data"])
        is_whole = piece["eof"]
        if len(body) > max_bytes:
            raise ImageTooLarge("The picture has more bytes than allowed.", provider="chromium")
    return bytes(body)
