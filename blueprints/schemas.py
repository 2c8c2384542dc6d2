"""What callers may say, once for query strings and JSON bodies alike.

A schema loads only what the caller wrote; defaults are filled in by ``blueprints/capture_requests.py``, so
that what was asked for stays apart from what is merely usual. The OpenAPI document is made from
these very classes.
"""

from __future__ import annotations

from marshmallow import RAISE, Schema, ValidationError, fields, validate, validates_schema

from blueprints.fields import (
    ClipField,
    Flag,
    GeolocationField,
    Number,
    SelectorsField,
    StatusesField,
    Text,
    WholeMatch,
    WholeNumber,
    encodable,
    known_timezone,
)
from blueprints.powers import CookiesField, HeadersField, ProgramText
from thumbnailer.devices import DEVICES
from thumbnailer.model import MAX_TTL_SECONDS, MIN_TTL_SECONDS, Format, WaitUntil
from thumbnailer.renditions import MAX_DPR, MAX_SIDE, MIN_SIDE, Fit, RenditionFormat
from thumbnailer.signing import MAX_EXP

IMAGE_FORMATS = [*(one.value for one in RenditionFormat), "auto"]
ALL_FORMATS = [*IMAGE_FORMATS, Format.PDF.value]
LOCALE = WholeMatch(
    r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{2,8}){0,3}$", error="Must be a language tag, e.g. de-AT."
)
FILE_NAME = WholeMatch(
    r"^[^\x00-\x1f\x7f-\x9f/\\\u2028-\u202e\u2066-\u2069]+$",
    error="Must not contain slashes, backslashes or control characters.",
)
VIEWPORT_WIDTH = validate.Range(320, 3840)
THUMB_SIDE = validate.Range(MIN_SIDE, MAX_SIDE)
VIEWPORT_HEIGHT = validate.Range(240, 2160)


def described(text: str, **more: object) -> dict[str, object]:
    """Field metadata for the OpenAPI document."""
    return {"description": text, **more}


#: A default of routes that stand for others.
ON_THUMB = "true on /thumb, else false"
TTL_ON_THUMB = "86400 on /thumb, else 3600"


def blocks_ads(default: object) -> Flag:
    return Flag(metadata=described("Load no advertisements and trackers.", default=default))


def blocks_cookie_banners(default: object) -> Flag:
    return Flag(metadata=described("Decline cookie banners and hide the rest.", default=default))


def seconds_to_live(default: object) -> WholeNumber:
    return WholeNumber(
        validate=validate.Range(MIN_TTL_SECONDS, MAX_TTL_SECONDS),
        metadata=described(
            "The oldest picture that will do, in seconds, within the operator's bounds.", default=default
        ),
    )


class StrictSchema(Schema):
    """Refuses what it does not know."""

    class Meta:
        unknown = RAISE


class CaptureOptions(StrictSchema):
    """The target and every option that changes the picture of it."""

    url = Text(
        required=True,
        max_length=2048,
        metadata=described(
            "The page to photograph: http or https, public.", format="uri", example="https://example.com/"
        ),
    )
    width = WholeNumber(
        validate=VIEWPORT_WIDTH,
        metadata=described("Viewport width in CSS pixels.", default=1280),
    )
    height = WholeNumber(
        validate=VIEWPORT_HEIGHT,
        metadata=described("Viewport height in CSS pixels.", default=720),
    )
    device_scale_factor = Number(
        validate=validate.Range(1, 3), metadata=described("Image pixels per CSS pixel.", default=1)
    )
    retina = Flag(metadata=described("The same as device_scale_factor=2.", default=False))
    device = fields.String(
        validate=validate.OneOf(sorted(DEVICES)),
        metadata=described("The device to imitate: its viewport, scale, touch and user agent."),
    )
    format = fields.String(
        validate=validate.OneOf(ALL_FORMATS),
        metadata=described("How the answer is encoded; auto: by Accept.", default="png"),
    )
    quality = WholeNumber(
        validate=validate.Range(1, 100),
        metadata=described("Of jpeg, webp and avif only, and then 80 unless said otherwise."),
    )
    thumb_width = WholeNumber(
        validate=THUMB_SIDE,
        metadata=described("Width of the thumbnail in pixels; alone it keeps the proportions."),
    )
    thumb_height = WholeNumber(
        validate=THUMB_SIDE,
        metadata=described("Height of the thumbnail in pixels; alone it keeps the proportions."),
    )
    fit = fields.String(
        validate=validate.OneOf([one.value for one in Fit]),
        metadata=described(
            "How the picture meets thumb_width and thumb_height: inside never enlarges, cover cuts and keeps "
            "the top, contain pads.",
            default="inside",
        ),
    )
    dpr = Number(
        validate=validate.Range(1, MAX_DPR),
        metadata=described("Multiplies thumb_width and thumb_height, for dense screens.", default=1),
    )
    full_page = Flag(
        metadata=described("The whole scrollable page, at most 16,384 pixels high.", default=False)
    )
    selector = Text(max_length=1024, metadata=described("Only this element, by CSS selector."))
    clip = ClipField(
        metadata=described(
            "Only this rectangle: x,y,width,height in CSS pixels.", type="string", pattern=ClipField.PATTERN
        )
    )
    delay = WholeNumber(
        validate=validate.Range(0, 10_000),
        metadata=described("Milliseconds to wait before the picture is taken.", default=0),
    )
    wait_until = fields.String(
        validate=validate.OneOf([one.value for one in WaitUntil]),
        metadata=described("The moment of page loading to wait for.", default="load"),
    )
    wait_for = Text(max_length=1024, metadata=described("A CSS selector that must appear first."))
    dark_mode = Flag(metadata=described("Ask the page for its dark colours.", default=False))
    reduced_motion = Flag(metadata=described("Ask the page not to move.", default=False))
    block_ads = blocks_ads(default=False)
    block_cookie_banners = blocks_cookie_banners(default=False)
    hide_selectors = SelectorsField(
        takes_array=True,
        metadata=described(
            "CSS selectors of elements to leave out.",
            oneOf=[
                SelectorsField.SCHEMA,
                {"type": "array", "minItems": 1, "maxItems": 50, "items": SelectorsField.SCHEMA},
            ],
        ),
    )
    user_agent = Text(max_length=512, metadata=described("The User-Agent that the browser names."))
    locale = fields.String(validate=LOCALE, metadata=described("The browser's language, e.g. de-AT."))
    timezone = fields.String(
        validate=known_timezone, metadata=described("The browser's IANA time zone, e.g. Europe/Berlin.")
    )
    geolocation = GeolocationField(
        metadata=described(
            "Where the browser says it is: latitude,longitude.",
            type="string",
            pattern=GeolocationField.PATTERN,
        )
    )
    fail_on_status = StatusesField(
        metadata=described(
            "Which of the target's answers are failures: 404,500-599, or none.",
            type="string",
            pattern=StatusesField.PATTERN,
            default="400-599",
        )
    )
    css = ProgramText(metadata=described("A style sheet for the page. Needs a key."))
    js = ProgramText(metadata=described("A script that runs in the page. Needs a key of scope script."))
    ttl = seconds_to_live(default=3_600)
    fresh = Flag(
        metadata=described("Take a new picture, unless there is one from the last minute.", default=False)
    )
    preset = Text(max_length=32, metadata=described("A name for options that the operator has chosen."))

    @validates_schema(skip_on_field_errors=True)
    def refuse_contradictions(self, given: dict[str, object], **_more: object) -> None:
        if given.get("retina") and given.get("device_scale_factor", 2) != 2:
            raise ValidationError({"retina": ["Contradicts device_scale_factor."]})
        if "selector" in given and "clip" in given:
            raise ValidationError({"clip": ["Cannot be combined with selector."]})
        if "full_page" in given and given["full_page"] and ("selector" in given or "clip" in given):
            raise ValidationError({"full_page": ["Cannot be combined with selector or clip."]})


class BodyOptions(CaptureOptions):
    """The same in a JSON body, where secrets may stand."""

    headers = HeadersField(
        metadata=described(
            "Headers for the target's own origin, by name. Needs a key of scope script.",
            **HeadersField.SCHEMA,
        )
    )
    cookies = CookiesField(
        metadata=described(
            "Cookies for the target's host, by name. Needs a key of scope script.", **CookiesField.SCHEMA
        )
    )


#: In a query nothing is a list.
SELECTORS_IN_QUERY = SelectorsField(
    takes_array=False,
    metadata=described(
        "CSS selectors of elements to leave out, with commas between.", **SelectorsField.SCHEMA
    ),
)


def download_name() -> fields.String:
    """A name for the file: no path, no control character, nothing that turns the direction of writing."""
    return fields.String(
        validate=[validate.Length(min=1, max=100), FILE_NAME, encodable],
        metadata=described("Save the picture, under this name; its ending is made to fit the format."),
    )


def seconds_to_wait() -> WholeNumber:
    return WholeNumber(
        validate=validate.Range(0, 60),
        metadata=described(
            "Seconds after which a picture that is still being made is answered with 202; without it, that "
            "is waited for."
        ),
    )


class CaptureQuery(CaptureOptions):
    """The same in a query."""

    hide_selectors = SELECTORS_IN_QUERY
    download = download_name()
    on_error = fields.String(
        validate=validate.OneOf(["placeholder", "status"]),
        metadata=described("What a failure looks like; by Sec-Fetch-Dest and Accept where nothing is said."),
    )
    sig = Text(max_length=64, metadata=described("The signature of a signed URL."))
    exp = WholeNumber(
        validate=validate.Range(1, MAX_EXP),
        metadata=described("Until when the signature counts, in unix seconds."),
    )
    kid = Text(max_length=32, metadata=described("Which key the URL was signed with."))


class ThumbQuery(CaptureQuery):
    """``GET /thumb``."""

    format = fields.String(
        validate=validate.OneOf(IMAGE_FORMATS),
        metadata=described("How the answer is encoded; auto: by Accept.", default="png"),
    )
    block_ads = blocks_ads(default=True)
    block_cookie_banners = blocks_cookie_banners(default=True)
    ttl = seconds_to_live(default=86_400)
    wait = seconds_to_wait()


class ScreenshotQuery(CaptureQuery):
    """``GET /screenshot``."""

    stream = Flag(metadata=described("The same as /screenshot/stream.", default=False))


class ScreenshotBody(BodyOptions):
    """``POST /screenshot``."""

    download = download_name()


class PersistBody(BodyOptions):
    """``POST /persist``."""

    block_ads = blocks_ads(default=True)
    block_cookie_banners = blocks_cookie_banners(default=True)
    force = Flag(metadata=described("Take a new capture even if a good one is there.", default=False))
    presign = WholeNumber(
        validate=validate.Range(1, 604_800),
        metadata=described("Answer a URL of a private bucket that works for so many seconds."),
    )


class Problem(Schema):
    """A problem document: RFC 9457."""

    type = fields.String(
        required=True, metadata=described("The page that explains it.", format="uri-reference")
    )
    title = fields.String(required=True, metadata=described("What kind of problem it is."))
    status = fields.Integer(required=True, metadata=described("The HTTP status."))
    detail = fields.String(required=True, metadata=described("What is wrong with this request."))
    request_id = fields.String(required=True, metadata=described("Names this request in the logs."))
    retryable = fields.Boolean(required=True, metadata=described("Whether it may succeed later."))
    errors = fields.Dict(
        keys=fields.String(),
        values=fields.List(fields.String()),
        metadata=described("What is wrong with each field, where fields are at fault."),
    )
