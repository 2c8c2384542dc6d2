"""marshmallow fields for the options of a capture: strict in JSON, spelled as text in a query."""

from __future__ import annotations

import contextlib
import re
from datetime import datetime
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from marshmallow import ValidationError, fields, validate

from thumbnailer.database import Place
from thumbnailer.model import END_OF_DATES, Clip, Geolocation, StatusRange


class WholeMatch(validate.Regexp):
    """A pattern for the whole text; Python's ``$`` would let a line feed follow."""

    def __call__(self, value: Any) -> Any:
        if self.regex.fullmatch(value) is None:
            raise ValidationError(self._format_error(value))
        return value


PRINTABLE = WholeMatch(r"^[^\x00-\x1f\x7f]*$", error="Must not contain control characters.")
SELECTOR_LENGTH = validate.Length(min=1, max=1024)


def encodable(text: str) -> None:
    """Refuse halves of UTF-16 surrogate pairs, which JSON can spell and UTF-8 cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValidationError("Must be text that UTF-8 can encode.") from None


class Flag(fields.Boolean):
    """``true`` or ``false`` and nothing that merely looks like it."""

    truthy = {True}  # noqa: RUF012  marshmallow reads the class attribute
    falsy = {False}  # noqa: RUF012  marshmallow reads the class attribute
    default_error_messages = {"invalid": "Must be true or false."}  # noqa: RUF012  likewise

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Text(fields.String):
    """A string without control characters, between 1 and ``max_length`` characters long."""

    def __init__(self, *, max_length: int, **kwargs: Any) -> None:
        length = validate.Length(min=1, max=max_length)
        super().__init__(validate=[length, PRINTABLE, encodable], **kwargs)


class Number(fields.Float):
    """A number, and nothing that could be made one."""

    default_error_messages = {"invalid": "Must be a number."}  # noqa: RUF012  marshmallow reads the class attribute

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class WholeNumber(fields.Integer):
    """A whole number, which JSON may spell ``800.0``: it has one kind of number (RFC 8259, section 6)."""

    default_error_messages = {"invalid": "Must be a whole number."}  # noqa: RUF012  likewise

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class ShortList(fields.List[Any]):
    """A list of 1 to ``most`` members, which are not looked at where there are more."""

    def __init__(self, member: fields.Field[Any], *, most: int, **kwargs: Any) -> None:
        self._length = validate.Length(1, most)
        super().__init__(member, validate=self._length, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list):
            self._length(value)
        return super()._deserialize(value, attr, data, **kwargs)


class ClipField(fields.Field[Clip]):
    """A rectangle, ``x,y,width,height`` in CSS pixels."""

    PATTERN = r"^\d{1,5},\d{1,5},[1-9]\d{0,4},[1-9]\d{0,4}$"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Clip:
        if not isinstance(value, str) or not re.fullmatch(self.PATTERN, value, re.ASCII):
            raise ValidationError("Must be x,y,width,height: whole CSS pixels, e.g. 0,0,800,600.")
        x, y, width, height = (int(part) for part in value.split(","))
        if max(x + width, y + height) > 16_384:
            raise ValidationError("Must lie within 16384 CSS pixels of the page's corner.")
        return Clip(x, y, width, height)


class GeolocationField(fields.Field[Geolocation]):
    """A place, ``latitude,longitude`` in WGS 84 degrees."""

    LATITUDE = r"-?(90(\.0{1,8})?|[1-8]?\d(\.\d{1,8})?)"
    LONGITUDE = r"-?(180(\.0{1,8})?|(1[0-7]\d|[1-9]?\d)(\.\d{1,8})?)"
    PATTERN = f"^{LATITUDE},{LONGITUDE}$"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Geolocation:
        if not isinstance(value, str) or not re.fullmatch(self.PATTERN, value, re.ASCII):
            raise ValidationError("Must be latitude,longitude, within 90 and 180 degrees, e.g. 52.52,13.405.")
        latitude, longitude = (float(part) for part in value.split(","))
        return Geolocation(latitude, longitude)


class StatusesField(fields.Field[tuple[StatusRange, ...]]):
    """HTTP statuses: single ones and ranges, ``404,500-599``; ``none`` for none."""

    PATTERN = r"^(none|[1-5]\d\d(-[1-5]\d\d)?(,[1-5]\d\d(-[1-5]\d\d)?){0,19})$"

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[StatusRange, ...]:
        if not isinstance(value, str) or not re.fullmatch(self.PATTERN, value, re.ASCII):
            raise ValidationError("Must be statuses or ranges, e.g. 404,500-599, or none.")
        if value == "none":
            return ()
        ranges = []
        for part in value.split(","):
            first, _, last = part.partition("-")
            ranges.append(StatusRange(int(first), int(last or first)))
        if any(one.first > one.last for one in ranges):
            raise ValidationError("Must name the lower end of a range first.")
        return tuple(sorted(set(ranges), key=lambda one: (one.first, one.last)))


class SelectorsField(fields.Field[tuple[str, ...]]):
    """CSS selectors: one string, which may be a selector list, or, with ``takes_array``, an array of them."""

    SCHEMA = {"type": "string", "minLength": 1, "maxLength": 1024, "pattern": PRINTABLE.regex.pattern}  # noqa: RUF012  never changed

    def __init__(self, *, takes_array: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.takes_array = takes_array

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[str, ...]:
        if not isinstance(value, str) and not self.takes_array:
            raise ValidationError("Must be a selector; several have commas between them.")
        selectors = [value] if isinstance(value, str) else value
        if not isinstance(selectors, list) or not 1 <= len(selectors) <= 50:
            raise ValidationError("Must be a selector or an array of 1 to 50 selectors.")
        for selector in selectors:
            if not isinstance(selector, str):
                raise ValidationError("Must hold strings only.")
            SELECTOR_LENGTH(selector)
            PRINTABLE(selector)
            encodable(selector)
        return tuple(selectors)


class MomentField(fields.Field[float]):
    """A moment: RFC 3339 with an offset, or Unix time in seconds; loaded as the latter."""

    PATTERN = r"^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"
    MAX_SECONDS = END_OF_DATES - 1
    MIN_SECONDS = -62_135_596_800  # the beginning of the year 1; an offset leads before it

    def __init__(self, description: str) -> None:
        spellings = [
            {"type": "string", "format": "date-time"},
            {"type": "number", "minimum": 0, "maximum": self.MAX_SECONDS},
        ]
        super().__init__(metadata={"description": description, "oneOf": spellings})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= self.MAX_SECONDS:
            return float(value)
        if isinstance(value, str) and re.fullmatch(self.PATTERN, value, re.ASCII):
            with contextlib.suppress(ValueError):
                whole = re.sub(r":60(?=[.Zz+-])", ":59", value.upper())  # a leap second
                return max(float(self.MIN_SECONDS), datetime.fromisoformat(whole).timestamp())
        raise ValidationError("Must be a time, e.g. 2026-11-21T07:44:47Z, or Unix time in seconds.")


class CursorField(fields.Field[Place]):
    """Where a list goes on: what its answer gave, loaded as a place in the list."""

    PATTERN = re.compile(r"(\d{1,12}\.\d{1,12})_([a-z]{3}_[A-Za-z0-9_-]{1,40})", re.ASCII)

    def __init__(self) -> None:
        told = "Where the list goes on: the next_cursor of the answer before. Without it: at its beginning."
        pattern = f"^{self.PATTERN.pattern}$"
        super().__init__(metadata={"description": told, "type": "string", "pattern": pattern})

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Place:
        found = self.PATTERN.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise ValidationError("Must be the next_cursor of an answer, as it is.")
        return float(found[1]), found[2]


#: Where the documentation of a field lists what it may be.
_CHOICES = ("oneOf", "anyOf", "enum")


def allow_null(field: fields.Field[Any]) -> None:
    """Let a field be null, and document so."""
    field.allow_none = True
    choices = {key: _with_null(field.metadata[key]) for key in _CHOICES if key in field.metadata}
    field.metadata = {**field.metadata, **choices}


def _with_null(choices: list[Any]) -> list[Any]:
    return [*choices, {"type": "null"} if isinstance(choices[0], dict) else None]


@cache
def _timezones() -> frozenset[str]:
    """Their names; reading the database takes some 20 ms, so it is done once, and not at a start."""
    return frozenset(available_timezones())


def known_timezone(name: str) -> None:
    """Refuse what is not in the IANA time zone database."""
    if name not in _timezones():
        raise ValidationError("Must be an IANA time zone, e.g. Europe/Berlin.")
