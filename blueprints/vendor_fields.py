"""marshmallow fields for what SnapSharp and SnapAPI spell otherwise than this service, or have alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, pre_load

from blueprints.fields import Flag, SelectorsField, Text, allow_null
from blueprints.powers import (
    COOKIE_VALUE,
    FIELD_NAME,
    MAX_COOKIE_CHARACTERS,
    MAX_COOKIES,
    CookiesField,
    HeadersField,
    ProgramText,
)
from blueprints.schemas import CaptureOptions, StrictSchema, described
from thumbnailer.model import Clip, Geolocation

MAX_PAGE_PIXELS = 16_384
BEYOND_PAGE = f"Must lie within {MAX_PAGE_PIXELS} CSS pixels of the page's corner."

_OWN_FIELDS = CaptureOptions().declared_fields


def option(name: str, spelled: str | None = None, **metadata: object) -> fields.Field[Any]:
    """The field of an option of this service, by a vendor's name where that differs."""
    found = copy.copy(_OWN_FIELDS[name])
    found.data_key = spelled
    found.metadata = {**found.metadata, **metadata}
    return found


#: What asks for nothing, by type: generators of clients cannot read an ``enum`` of several.
NOTHINGS: list[dict[str, Any]] = [
    {"type": "boolean", "enum": [False]},
    {"type": "integer", "enum": [0]},
    {"type": "string", "maxLength": 0},
    {"type": "array", "items": {}, "maxItems": 0},
    {"type": "object", "maxProperties": 0},
    {"type": "null"},
]


class Unavailable(Flag):
    """What a vendor can do and this service cannot: refused, unless it asks for what happens anyway."""

    def __init__(self, what: str, *, spelled: str | None = None) -> None:
        metadata = described(f"{what} Not available here, so only false.", enum=[False])
        super().__init__(data_key=spelled, metadata=metadata)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        raise ValidationError("This service cannot do that.")


class VendorOptions(StrictSchema):
    """What a vendor's clients may say; what asks for nothing is as good as not said."""

    @pre_load
    def drop_what_asks_for_nothing(self, data: Mapping[str, Any], **_more: object) -> dict[str, Any]:
        found = {field.data_key or name: field for name, field in self.fields.items()}
        return {name: value for name, value in data.items() if not _asks_for_nothing(found.get(name), value)}

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Document what may be empty."""
        if not field_obj.required:
            field_obj.metadata = _with_emptiness(field_obj)

    def spellings(self) -> dict[str, str]:
        """The vendor's names by those of this service."""
        return {name: field.data_key or name for name, field in self.fields.items()}


class VendorBody(VendorOptions):
    """The same in JSON, where null says nothing."""

    def on_bind_field(self, field_name: str, field_obj: fields.Field[Any]) -> None:
        """Document that null may be said, too."""
        super().on_bind_field(field_name, field_obj)
        if not field_obj.required:
            allow_null(field_obj)
        if isinstance(field_obj, Unavailable):
            field_obj.metadata = {"description": field_obj.metadata["description"], "anyOf": NOTHINGS}


class ClipObject(fields.Field[Clip]):
    """A rectangle, ``{"x", "y", "width", "height"}`` in whole CSS pixels."""

    SCHEMA = {  # noqa: RUF012  never changed
        "type": "object",
        "properties": {
            **{side: {"type": "integer", "minimum": 0, "maximum": MAX_PAGE_PIXELS} for side in ("x", "y")},
            **{
                side: {"type": "integer", "minimum": 1, "maximum": MAX_PAGE_PIXELS}
                for side in ("width", "height")
            },
        },
        "required": ["x", "y", "width", "height"],
        "additionalProperties": False,
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Clip:
        names = ("x", "y", "width", "height")
        if not isinstance(value, dict) or set(value) != set(names):
            raise ValidationError("Must be an object of x, y, width and height.")
        return clip_of(*(value[name] for name in names))


def clip_of(x: object, y: object, width: object, height: object) -> Clip:
    """A rectangle of whole CSS pixels within the page; raises ``ValidationError``."""
    left, top, across, down = (_whole(side) for side in (x, y, width, height))
    if min(left, top) < 0 or min(across, down) < 1 or max(left + across, top + down) > MAX_PAGE_PIXELS:
        raise ValidationError(BEYOND_PAGE)
    return Clip(left, top, across, down)


def _whole(side: object) -> int:
    if isinstance(side, bool) or not isinstance(side, int | float) or side != side // 1:
        raise ValidationError("Must hold whole CSS pixels.")
    return int(side)


class PlaceObject(fields.Field[Geolocation]):
    """A place, ``{"latitude", "longitude"}`` in WGS 84 degrees."""

    SCHEMA = {  # noqa: RUF012  never changed
        "type": "object",
        "properties": {
            "latitude": {"type": "number", "minimum": -90, "maximum": 90},
            "longitude": {"type": "number", "minimum": -180, "maximum": 180},
        },
        "required": ["latitude", "longitude"],
        "additionalProperties": False,
    }

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Geolocation:
        if not isinstance(value, dict) or value.keys() != {"latitude", "longitude"}:
            raise ValidationError("Must be an object of latitude and longitude.")
        for name, most in (("latitude", 90), ("longitude", 180)):
            degrees = value[name]
            is_number = isinstance(degrees, int | float) and not isinstance(degrees, bool)
            if not (is_number and -most <= degrees <= most):
                raise ValidationError(f"Must have a {name} between -{most} and {most} degrees.")
        return Geolocation(float(value["latitude"]), float(value["longitude"]))


class CookieList(fields.Field[tuple[Mapping[str, str], ...]]):
    """Cookies as browsers' tools write them: ``{"name", "value", "domain"?, "path"?}`` each.

    They are loaded as they are written; whether ``domain`` is the target's host shows once that is known.
    """

    SCHEMA = {  # noqa: RUF012  never changed
        "type": "array",
        "minItems": 1,
        "maxItems": MAX_COOKIES,
        "items": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "pattern": FIELD_NAME},
                "value": {"type": "string", "maxLength": MAX_COOKIE_CHARACTERS, "pattern": COOKIE_VALUE},
                "domain": {"type": "string", "description": "The target's host, and no other."},
                "path": {"type": "string", "enum": ["/"]},
            },
            "required": ["name", "value"],
            "additionalProperties": False,
        },
    }

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> tuple[Mapping[str, str], ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= MAX_COOKIES:
            raise ValidationError(f"Must be an array of 1 to {MAX_COOKIES} cookies.")
        for cookie in value:
            if not isinstance(cookie, dict) or not {"name", "value"} <= cookie.keys():
                raise ValidationError("Must hold objects of name and value.")
            if not cookie.keys() <= {"name", "value", "domain", "path"}:
                raise ValidationError("Must hold cookies of name, value, domain and path only.")
            if not all(isinstance(text, str) for text in cookie.values()):
                raise ValidationError("Must hold texts only.")
            if cookie.get("path", "/") != "/":
                raise ValidationError("Must hold cookies for the path / only.")
        if len({cookie["name"] for cookie in value}) < len(value):
            raise ValidationError("Must not name a cookie twice.")
        CookiesField().deserialize({cookie["name"]: cookie["value"] for cookie in value})
        return tuple(value)


#: What programs write where they want nothing, by the kind of field.
_EMPTY: tuple[tuple[Any, tuple[object, ...]], ...] = (
    (Unavailable, (False, "", [], {})),
    ((Text, ProgramText), ("",)),
    (SelectorsField, ("", [])),
    (HeadersField, ({},)),
    (CookieList, ([],)),
)

_LEASTS = ("minLength", "minItems", "minProperties")


def _asks_for_nothing(field: fields.Field[Any] | None, value: object) -> bool:
    if field is None or field.required:
        return False
    if value is None:
        return field.allow_none
    return any(isinstance(field, kind) and value in empty for kind, empty in _EMPTY)


def _with_emptiness(field: fields.Field[Any]) -> dict[str, Any]:
    """The documentation of a field that may be empty."""
    if isinstance(field, Text | ProgramText):
        return {**field.metadata, "minLength": 0}
    found = {**field.metadata, **{name: 0 for name in _LEASTS if name in field.metadata}}
    if isinstance(field, SelectorsField) and "oneOf" in found:
        found["oneOf"] = [{**one, **{name: 0 for name in _LEASTS if name in one}} for one in found["oneOf"]]
    return found
