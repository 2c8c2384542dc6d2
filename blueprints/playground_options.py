"""What the playground offers: the options of ``GET /thumb``, with the ranges of the schema that validates
them, the defaults that apply here, and whether a configured provider can do them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlencode

from marshmallow import fields, validate

from blueprints.parsing import typed_options
from blueprints.pictures import judge, thumb_door
from blueprints.powers import ProgramText
from blueprints.schemas import ThumbQuery
from blueprints.services import services
from thumbnailer.devices import DEVICES
from thumbnailer.errors import InvalidParameters, OptionUnsupported
from thumbnailer.model import NEUTRAL_OPTIONS, POWERFUL

#: A target that the guard likes, for requests that are judged and never made.
JUDGED_TARGET = "https://example.com/"
#: A size that makes any of them a rendition, whose encoding no provider is asked for.
SIZED = {"thumb_width": "400"}


class Kind(StrEnum):
    """How an option is written: by which control in the form, and as what in JSON."""

    FLAG = "flag"
    INTEGER = "integer"
    NUMBER = "number"
    CHOICE = "choice"
    TEXT = "text"
    PROGRAM = "program"


class Reach(StrEnum):
    """For which pictures a provider can honour an option: all, thumbnails with a size, none."""

    ALL = "all"
    SIZED = "sized"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value of an option; ``viewport`` is a device's width, height and scale."""

    value: str
    reach: Reach
    viewport: tuple[int, int, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option as a form shows it; texts are as a query spells them, and empty where there is none.

    ``is_chosen_here`` says that the operator has chosen the default, ``is_powerful`` that a key is needed.
    ``bounds`` are the least and the greatest number, or length of a text.
    """

    name: str
    label: str
    kind: Kind
    description: str
    example: str
    default: str
    is_chosen_here: bool
    is_powerful: bool
    bounds: tuple[float | None, float | None]
    choices: Sequence[Choice]
    reach: Reach


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Options that belong together; ``is_open`` says whether they are shown without being asked for."""

    title: str
    is_open: bool
    options: Sequence[Option]


@dataclass(frozen=True, slots=True)
class _Offer:
    """``example`` is a value that is nobody's default: it is shown, and providers are judged by it."""

    label: str
    example: str = ""


#: Title, whether open, and the options in the order of the form.
OFFERED: Sequence[tuple[str, bool, Mapping[str, _Offer]]] = (
    (
        "Size and fit",
        True,
        {
            "thumb_width": _Offer("Width", "400"),
            "thumb_height": _Offer("Height", "300"),
            "fit": _Offer("Fit"),
            "dpr": _Offer("Pixel density", "2"),
        },
    ),
    ("Format and quality", True, {"format": _Offer("Format"), "quality": _Offer("Quality", "75")}),
    (
        "Screen",
        True,
        {
            "device": _Offer("Device"),
            "width": _Offer("Viewport width", "1024"),
            "height": _Offer("Viewport height", "768"),
            "device_scale_factor": _Offer("Scale", "2"),
            "full_page": _Offer("Whole page"),
            "dark_mode": _Offer("Dark mode"),
            "reduced_motion": _Offer("Reduced motion"),
        },
    ),
    (
        "Clutter",
        True,
        {
            "block_ads": _Offer("Block ads"),
            "block_cookie_banners": _Offer("Block cookie banners"),
            "hide_selectors": _Offer("Hide elements", ".chat, #newsletter"),
        },
    ),
    (
        "Waiting",
        False,
        {
            "delay": _Offer("Delay", "500"),
            "wait_until": _Offer("Wait until"),
            "wait_for": _Offer("Wait for element", "main h1"),
        },
    ),
    (
        "Advanced",
        False,
        {
            "selector": _Offer("One element", "main"),
            "clip": _Offer("Rectangle", "0,0,800,600"),
            "locale": _Offer("Language", "de-AT"),
            "timezone": _Offer("Time zone", "Europe/Berlin"),
            "geolocation": _Offer("Place", "48.2082,16.3738"),
            "user_agent": _Offer("User agent", "Mozilla/5.0"),
            "fail_on_status": _Offer("Failures", "404,500-599"),
            "ttl": _Offer("Oldest picture", "3600"),
            "preset": _Offer("Preset"),
            "css": _Offer("Style sheet", "body { font-family: serif }"),
            "js": _Offer("Script", "document.title = 'seen'"),
        },
    ),
)
#: What pictures are wanted for, and the options that make such a one.
STARTS: Mapping[str, Mapping[str, str]] = {
    "Card": {"thumb_width": "400", "format": "webp"},
    "Social card": {"width": "1200", "height": "630", "format": "jpeg"},
    "Phone": {"device": "iPhone 14", "thumb_width": "390", "format": "webp"},
    "Whole page": {"full_page": "true", "thumb_width": "800", "format": "webp"},
}
#: What the page has a field of its own for, or another word; and what its answers are not for.
NOT_OFFERED = frozenset({"url", "fresh", "retina", "download", "on_error", "wait", "sig", "exp", "kid"})


def offered_groups(chosen_here: Mapping[str, str]) -> Sequence[Group]:
    """The form; ``chosen_here`` are the operator's defaults, as written. Needs the current application."""
    schema = ThumbQuery()
    if chosen_here.get("retina") in ("true", "1"):
        chosen_here = {"device_scale_factor": "2", **chosen_here}
    return [
        Group(
            title=title,
            is_open=is_open,
            options=[
                _option(schema.fields[name], name, offer, chosen_here) for name, offer in offers.items()
            ],
        )
        for title, is_open, offers in OFFERED
    ]


def offered_starts() -> Mapping[str, str]:
    """Those of ``STARTS`` that a provider can do, as queries. Needs the current application."""
    return {title: urlencode(options) for title, options in STARTS.items() if _is_honoured(options)}


def _option(field: fields.Field[object], name: str, offer: _Offer, chosen_here: Mapping[str, str]) -> Option:
    kind, choices = _kind_of(field), _choices(field, name)
    example = "true" if kind is Kind.FLAG else offer.example
    reaches = [choice.reach for choice in choices] or [_reach(name, example)]
    default, is_powerful = _default(field, name, chosen_here), name in POWERFUL
    return Option(
        name=name,
        label=offer.label,
        kind=kind,
        description=str(field.metadata["description"]),
        example=offer.example,
        default="" if is_powerful else default,  # a program may hold what is nobody else's business
        is_chosen_here=name in chosen_here,
        is_powerful=is_powerful,
        bounds=_bounds(field, name),
        choices=choices,
        reach=min(reaches, key=list(Reach).index),
    )


def _kind_of(field: fields.Field[object]) -> Kind:
    if any(isinstance(each, validate.OneOf) for each in field.validators):
        return Kind.CHOICE
    kinds = (
        (fields.Boolean, Kind.FLAG),
        (fields.Integer, Kind.INTEGER),
        (fields.Float, Kind.NUMBER),
        (ProgramText, Kind.PROGRAM),
    )
    return next((kind for sort, kind in kinds if isinstance(field, sort)), Kind.TEXT)


def _default(field: fields.Field[object], name: str, chosen_here: Mapping[str, str]) -> str:
    if name == "ttl":
        return str(services().bounds.thumb.ttl_seconds)
    text = chosen_here.get(name, str(field.metadata.get("default", "")))
    if isinstance(field, fields.Boolean):
        return "true" if text in ("True", "true", "1") else "false"
    return text


def _bounds(field: fields.Field[object], name: str) -> tuple[float | None, float | None]:
    if name == "ttl":
        return services().bounds.min_ttl_seconds, services().bounds.max_ttl_seconds
    ranges = [each for each in field.validators if isinstance(each, validate.Range | validate.Length)]
    return (ranges[0].min, ranges[0].max) if ranges else (None, field.metadata.get("maxLength"))


def _choices(field: fields.Field[object], name: str) -> list[Choice]:
    values = next((each.choices for each in field.validators if isinstance(each, validate.OneOf)), ())
    return [
        Choice(
            value=value,
            reach=_reach(name, value),
            viewport=_viewport(value) if name == "device" else None,
        )
        for value in map(str, values)
    ]


def _viewport(device: str) -> tuple[int, int, float]:
    found = DEVICES[device]
    return found.width, found.height, found.device_scale_factor


def _reach(name: str, text: str) -> Reach:
    """What becomes of a request that says this and no more."""
    if name not in NEUTRAL_OPTIONS:
        return Reach.ALL  # it is done here
    options = {name: text} | ({"format": "jpeg"} if name == "quality" else {})
    if _is_honoured(options):
        return Reach.ALL
    return Reach.SIZED if _is_honoured(options | SIZED) else Reach.NONE


def _is_honoured(options: Mapping[str, str]) -> bool:
    try:
        given = typed_options({"url": JUDGED_TARGET, **options}, ThumbQuery(), is_whole=True)
        asked = judge(given, thumb_door(), accept=None)
        services().thumbnails.pipeline.judge(asked.request.capture)
    except OptionUnsupported:
        return False
    except InvalidParameters:
        return True  # beside what the operator has chosen it means nothing, which is nobody's lack
    return True
