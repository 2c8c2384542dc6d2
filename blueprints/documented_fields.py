"""How the OpenAPI document tells of a field: in words that readers and generators of clients take alike."""

from __future__ import annotations

from typing import Any

from marshmallow import fields


def default_in_words(_converter: object, _field: fields.Field[Any], *, ret: dict[str, Any]) -> dict[str, str]:
    """Tell a default in the description of a field, and take its ``default`` out of the document.

    Swagger UI and generated clients send each ``default`` themselves. So a device would have no viewport
    of its own, a preset and the operator's choices would do nothing, and a change of a kept page would
    undo all options that it does not name.
    """
    if "default" not in ret:
        return {}
    usual = ret.pop("default")
    word = str(usual).lower() if isinstance(usual, bool) else usual
    return {"description": f"{ret['description']} Default: {word}."}


def alternatives_alone(
    _converter: object, _field: fields.Field[Any], *, ret: dict[str, Any]
) -> dict[str, str]:
    """Leave it to the alternatives of a field to say their types and values, where they do."""
    if all("type" in one for one in ret.get("anyOf", [{}])):
        for told in ("type", "enum"):
            ret.pop(told, None)
    return {}
