"""Fields of answers: each is always there, and says in the OpenAPI document what it is."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields

from blueprints.schemas import described


def text(description: str, *, allow_none: bool = False, **more: object) -> fields.String:
    return fields.String(required=True, allow_none=allow_none, metadata=described(description, **more))


def moment(description: str, *, allow_none: bool = False) -> fields.String:
    """A time as RFC 3339 has it."""
    return text(description, allow_none=allow_none, format="date-time")


def whole_number(description: str, *, allow_none: bool = False) -> fields.Integer:
    return fields.Integer(required=True, allow_none=allow_none, metadata=described(description))


def number(description: str) -> fields.Float:
    return fields.Float(required=True, metadata=described(description))


def flag(description: str) -> fields.Boolean:
    return fields.Boolean(required=True, metadata=described(description))


def nested(schema: type[Schema], description: str, *, allow_none: bool = False) -> fields.Nested:
    return fields.Nested(schema, required=True, allow_none=allow_none, metadata=described(description))


def nested_list(schema: type[Schema], description: str) -> fields.List[Any]:
    return fields.List(fields.Nested(schema), required=True, metadata=described(description))


def pixels() -> fields.Integer:
    return whole_number("Image pixels; null for a PDF.", allow_none=True)
