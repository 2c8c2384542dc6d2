"""What SnapSharp's and SnapAPI's clients may say, by the names and in the ranges of those APIs.

Fields are called as the options of this service that they stand for; ``data_key`` is the vendor's name.
What a vendor allows beyond the bounds of this service is refused like everything out of range.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, pre_load, validate, validates_schema

from blueprints.fields import ClipField, Flag, SelectorsField, WholeNumber
from blueprints.powers import SECRET, HeadersField
from blueprints.schemas import described
from blueprints.vendor_fields import (
    BEYOND_PAGE,
    MAX_PAGE_PIXELS,
    ClipObject,
    CookieList,
    PlaceObject,
    Unavailable,
    VendorBody,
    VendorOptions,
    option,
)
from thumbnailer.devices import DEVICES
from thumbnailer.model import Format
from thumbnailer.renditions import RenditionFormat

SNAPSHARP_FORMATS = [one.value for one in Format]
SNAPAPI_FORMATS = [*SNAPSHARP_FORMATS, RenditionFormat.AVIF.value]

#: Devices by SnapAPI's names for them, as far as they are known here.
SNAPAPI_NAMES: Mapping[str, str] = {
    **{name.lower().replace(" ", "-"): name for name in DEVICES},
    "samsung-galaxy-s24": "Galaxy S24",
}
#: The same, and devices by this service's own names.
SNAPAPI_DEVICES: Mapping[str, str] = {**SNAPAPI_NAMES, **{name: name for name in DEVICES}}

MAX_TIMEOUT_MILLISECONDS = 600_000

_CACHE = "False: a new picture, unless there is one of this minute. True is what happens anyway."
_COOKIES = "Cookies for the target's host. Needs a key of scope script."
_HEADERS = "Header fields for the target's own origin. Needs a key of scope script."


def _one_format(formats: list[str]) -> fields.String:
    return fields.String(
        validate=validate.OneOf(formats), metadata=described("How the answer is encoded.", default="png")
    )


def _refuse_two_areas(given: Mapping[str, Any], spelled: Mapping[str, str]) -> None:
    """Refuse more than one of the areas that a picture can show."""
    asked = [spelled[name] for name in ("selector", "clip", "full_page") if given.get(name)]
    if len(asked) > 1:
        raise ValidationError({asked[0]: [f"Cannot be combined with {asked[1]}."]})


class _SnapSharpOptions(VendorOptions):
    """SnapSharp's parameters."""

    url = option("url")
    width = option("width")
    height = option("height")
    format = _one_format(SNAPSHARP_FORMATS)
    quality = option("quality", description="Of jpeg and webp; means nothing for others.", default=80)
    full_page = option("full_page")
    retina = option("retina")
    device = option("device")
    delay = option("delay")
    wait_until = option("wait_until")
    wait_for = option("wait_for")
    dark_mode = option("dark_mode")
    block_ads = option("block_ads")
    user_agent = option("user_agent")
    css = option("css")
    js = option("js")
    cache = Flag(metadata=described(_CACHE, default=True))
    ttl = option("ttl", "cache_ttl")
    click = Unavailable("Clicks on an element.")
    stealth = Unavailable("Hides that a browser is automated.")
    proxy = Unavailable("Visits the page by way of a proxy.")
    country = Unavailable("Visits the page from a country.")
    bypass_csp = Unavailable("Switches the page's content security policy off.")

    @validates_schema(skip_on_field_errors=True)
    def refuse_two_areas(self, given: dict[str, Any], **_more: object) -> None:
        _refuse_two_areas(given, self.spellings() | {"selector": "selector"})


class SnapSharpQuery(_SnapSharpOptions):
    """``GET /v1/screenshot``."""

    hide_selectors = SelectorsField(
        takes_array=True,
        metadata=described(
            "CSS selectors of elements to leave out: with commas between, or each by itself.",
            type="array",
            maxItems=50,
            items=SelectorsField.SCHEMA,
        ),
    )
    clip = ClipField(
        metadata=described(
            "Only this rectangle: x,y,width,height in CSS pixels.", type="string", pattern=ClipField.PATTERN
        )
    )

    @pre_load
    def refuse_secrets(self, data: Mapping[str, Any], **_more: object) -> Mapping[str, Any]:
        secrets = SECRET & data.keys()
        if secrets:
            raise ValidationError({name: ["Send it in a JSON body, by POST."] for name in sorted(secrets)})
        return data


class SnapSharpBody(_SnapSharpOptions, VendorBody):
    """``POST /v1/screenshot`` in snake_case."""

    hide_selectors = option("hide_selectors")
    clip = ClipObject(metadata=described("Only this rectangle, in CSS pixels.", **ClipObject.SCHEMA))
    headers = HeadersField(metadata=described(_HEADERS, **HeadersField.SCHEMA))
    cookies = CookieList(metadata=described(_COOKIES, **CookieList.SCHEMA))


def _side(name: str, least: int) -> WholeNumber:
    return WholeNumber(
        data_key=name,
        validate=validate.Range(least, MAX_PAGE_PIXELS),
        metadata=described("Of the rectangle that is shown, in CSS pixels."),
    )


class SnapApiBody(VendorBody):
    """``POST /v1/screenshot`` in camelCase."""

    url = option("url")
    format = _one_format(SNAPAPI_FORMATS)
    quality = option("quality", description="Of jpeg, webp and avif; means nothing for others.", default=80)
    response_type = fields.String(
        data_key="responseType",
        validate=validate.OneOf(["binary", "base64", "json"]),
        metadata=described(
            "Bytes, the same in base64, or JSON that describes and holds them.", default="binary"
        ),
    )
    device = fields.String(
        validate=validate.OneOf(sorted(SNAPAPI_DEVICES)),
        metadata=described(
            "The device to imitate: its viewport, scale, touch and user agent.",
            anyOf=[{"type": "string", "enum": sorted(names)} for names in (SNAPAPI_NAMES, DEVICES)],
        ),
    )
    width = option("width")
    height = option("height", default=800)
    device_scale_factor = option("device_scale_factor", "deviceScaleFactor")
    is_mobile = Flag(data_key="isMobile", metadata=described("As the device is, or false."))
    has_touch = Flag(data_key="hasTouch", metadata=described("As the device is, or false."))
    is_landscape = Unavailable("Turns the device on its side.", spelled="isLandscape")
    full_page = option("full_page", "fullPage")
    scroll_delay = Unavailable("Waits between the steps of scrolling.", spelled="fullPageScrollDelay")
    max_height = Unavailable("Cuts a whole page off.", spelled="fullPageMaxHeight")
    selector = option("selector")
    clip_x = _side("clipX", 0)
    clip_y = _side("clipY", 0)
    clip_width = _side("clipWidth", 1)
    clip_height = _side("clipHeight", 1)
    delay = option("delay")
    timeout = WholeNumber(
        validate=validate.Range(1, MAX_TIMEOUT_MILLISECONDS),
        metadata=described(
            "Milliseconds after which the answer is 504; the service may be quicker with that."
        ),
    )
    wait_until = option("wait_until", "waitUntil")
    wait_for = option("wait_for", "waitForSelector")
    dark_mode = option("dark_mode", "darkMode")
    reduced_motion = option("reduced_motion", "reducedMotion")
    css = option("css")
    js = option("js", "javascript")
    hide_selectors = option("hide_selectors", "hideSelectors")
    click = Unavailable("Clicks on an element.", spelled="clickSelector")
    block_ads = option("block_ads", "blockAds")
    block_trackers = Flag(
        data_key="blockTrackers", metadata=described("The same as blockAds.", default=False)
    )
    block_cookie_banners = option("block_cookie_banners", "blockCookieBanners")
    block_chat_widgets = Unavailable("Hides chat widgets.", spelled="blockChatWidgets")
    user_agent = option("user_agent", "userAgent")
    headers = HeadersField(data_key="extraHeaders", metadata=described(_HEADERS, **HeadersField.SCHEMA))
    cookies = CookieList(metadata=described(_COOKIES, **CookieList.SCHEMA))
    http_auth = Unavailable("Logs in by HTTP.", spelled="httpAuth")
    proxy = Unavailable("Visits the page by way of a proxy.")
    geolocation = PlaceObject(metadata=described("Where the browser says it is.", **PlaceObject.SCHEMA))
    timezone = option("timezone")
    locale = option("locale")
    fail_on_http_error = Flag(
        data_key="failOnHttpError",
        metadata=described("Whether a page that answers with 400 to 599 is a failure.", default=False),
    )
    cache = Flag(metadata=described(_CACHE, default=True))
    ttl = option("ttl", "cacheTtl")
    pdf_options = Unavailable("Lays a PDF out.", spelled="pdfOptions")

    @validates_schema(skip_on_field_errors=True)
    def refuse_contradictions(self, given: dict[str, Any], **_more: object) -> None:
        sides = [name for name in ("clip_x", "clip_y", "clip_width", "clip_height") if name in given]
        if sides and not {"clip_width", "clip_height"} <= given.keys():
            raise ValidationError({self.spellings()[sides[0]]: ["Needs clipWidth and clipHeight."]})
        for start, length, spelled in (
            ("clip_x", "clip_width", "clipWidth"),
            ("clip_y", "clip_height", "clipHeight"),
        ):
            if given.get(start, 0) + given.get(length, 0) > MAX_PAGE_PIXELS:
                raise ValidationError({spelled: [BEYOND_PAGE]})
        _refuse_two_areas(given | {"clip": bool(sides)}, self.spellings() | {"clip": "clipWidth"})
        if given.get("block_ads", True) != given.get("block_trackers", True) and (
            {"block_ads", "block_trackers"} <= given.keys()
        ):
            raise ValidationError({"blockTrackers": ["Ads and trackers are blocked together or not at all."]})

    @validates_schema(skip_on_field_errors=True)
    def refuse_another_device(self, given: dict[str, Any], **_more: object) -> None:
        """Refuse a half of a device: phones are what the presets are."""
        preset = DEVICES[SNAPAPI_DEVICES[given["device"]]] if "device" in given else None
        for name in ("is_mobile", "has_touch"):
            is_so = preset is not None and bool(getattr(preset, name))
            if given.get(name, is_so) != is_so:
                what = "That device is another." if preset else "Needs a device that is so."
                raise ValidationError({self.spellings()[name]: [what]})


SNAPSHARP_BODY, SNAPAPI_BODY = SnapSharpBody(), SnapApiBody()
_SNAPSHARP_NAMES, _SNAPAPI_NAMES = (
    frozenset(body.spellings().values()) for body in (SNAPSHARP_BODY, SNAPAPI_BODY)
)

#: Names that tell which API a JSON body is written for: the other has them not.
ONLY_SNAPSHARP, ONLY_SNAPAPI = _SNAPSHARP_NAMES - _SNAPAPI_NAMES, _SNAPAPI_NAMES - _SNAPSHARP_NAMES
