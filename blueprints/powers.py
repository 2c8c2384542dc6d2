"""marshmallow fields for the options with power: what is done to the page, and who asks for it."""

from __future__ import annotations

import re
from typing import Any

from marshmallow import ValidationError, fields, validate

from blueprints.fields import WholeMatch, encodable

#: Options that may let somebody in.
SECRET = frozenset({"headers", "cookies"})

MAX_PROGRAM_CHARACTERS = 50_000
MAX_HEADERS, MAX_HEADER_CHARACTERS = 20, 4_096
MAX_COOKIES, MAX_COOKIE_CHARACTERS = 50, 4_096

#: RFC 9110, section 5.6.2.
FIELD_NAME = r"^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$"
#: What the browser says of the connection, of the message and of itself, or what has an option of its own.
RESERVED = (
    *("accept-charset", "accept-encoding", "connection", "cookie", "cookie2", "date", "dnt", "expect"),
    *("host", "keep-alive", "origin", "range", "referer", "te", "trailer", "transfer-encoding", "upgrade"),
    *("user-agent", "via", "content-.*", "if-.*", "proxy-.*", "sec-.*"),
)
#: The same, for what is left; JSON Schema's patterns know no case, so that each letter is written in both.
HEADER_NAME = "^(?!(?:{reserved})$){rest}".format(
    reserved="|".join(
        "".join(f"[{sign}{sign.upper()}]" if sign.isalpha() else sign for sign in name) for name in RESERVED
    ),
    rest=FIELD_NAME.removeprefix("^"),
)
#: RFC 9110, section 5.5, without obs-text and without blanks at the ends.
HEADER_VALUE = r"^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$"
#: RFC 6265, section 4.1.1.
COOKIE_VALUE = r"^[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*$"


def _object_of_texts(name: str, value: str, most: int, most_characters: int) -> dict[str, Any]:
    """JSON Schema of an object of texts, by the patterns of their names and values."""
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": most,
        "additionalProperties": {"type": "string", "maxLength": most_characters, "pattern": value},
        "anyOf": [{"propertyNames": {"pattern": name}}],  # which apispec drops outside, and alters in allOf
    }


class ProgramText(fields.String):
    """A text of several lines, with no control characters but those between them."""

    def __init__(self, **kwargs: Any) -> None:
        length = validate.Length(min=1, max=MAX_PROGRAM_CHARACTERS)
        printable = WholeMatch(
            r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$", error="Must not contain control characters."
        )
        super().__init__(validate=[length, printable, encodable], **kwargs)


class HeadersField(fields.Field[tuple[tuple[str, str], ...]]):
    """Header fields by name, as pairs in the order of their names."""

    SCHEMA = _object_of_texts(HEADER_NAME, HEADER_VALUE, MAX_HEADERS, MAX_HEADER_CHARACTERS)

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> tuple[tuple[str, str], ...]:
        pairs = _pairs(value, MAX_HEADERS, MAX_HEADER_CHARACTERS, HEADER_VALUE)
        if not all(re.fullmatch(HEADER_NAME, name) for name in pairs):
            raise ValidationError("Must not hold what the browser says itself or has an option of its own.")
        if len({name.lower() for name in pairs}) < len(pairs):
            raise ValidationError("Must not name a header twice.")
        return tuple(sorted((name.lower(), text) for name, text in pairs.items()))


class CookiesField(fields.Field[tuple[tuple[str, str], ...]]):
    """Cookies by name, as pairs in the order of their names."""

    SCHEMA = _object_of_texts(FIELD_NAME, COOKIE_VALUE, MAX_COOKIES, MAX_COOKIE_CHARACTERS)

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> tuple[tuple[str, str], ...]:
        return tuple(sorted(_pairs(value, MAX_COOKIES, MAX_COOKIE_CHARACTERS, COOKIE_VALUE).items()))


def _pairs(value: Any, most: int, most_characters: int, pattern: str) -> dict[str, str]:
    """An object of texts; a fault quotes none of them."""
    if not isinstance(value, dict) or not 1 <= len(value) <= most:
        raise ValidationError(f"Must be an object of 1 to {most} members.")
    if not all(re.fullmatch(FIELD_NAME, name) for name in value):
        raise ValidationError("Must have names of 1 to 128 letters, digits and !#$%&'*+.^_`|~-.")
    if not all(isinstance(text, str) and len(text) <= most_characters for text in value.values()):
        raise ValidationError(f"Must hold texts of at most {most_characters} characters.")
    if not all(re.fullmatch(pattern, text) for text in value.values()):
        raise ValidationError("Must hold texts of printable ASCII without what separates them from others.")
    return value
