"""Reads query strings and JSON bodies into what the schemas expect, and refuses sloppy ones."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, NoReturn, TypeVar, cast

import flask
from marshmallow import RAISE, Schema, ValidationError, fields
from webargs.flaskparser import FlaskParser

from blueprints.fields import SelectorsField
from blueprints.powers import SECRET
from blueprints.schemas import CaptureOptions
from thumbnailer.errors import InvalidParameters

View = TypeVar("View", bound=Callable[..., Any])

INTEGER = re.compile(r"-?\d{1,12}", re.ASCII)
NUMBER = re.compile(r"-?\d{1,12}(\.\d{1,20})?", re.ASCII)
#: Of one object: more than any schema has. Each that is unknown is named in the answer.
MAX_NAMES = 256

#: What is said of a secret option in a query.
NOT_IN_A_URL = "Is taken in a JSON body only, never in a URL."

FLAGS = {"true": True, "false": False, "1": True, "0": False}


class StrictParser(FlaskParser):
    """webargs for this service: nothing unknown, repeated or guessed gets through."""

    DEFAULT_VALIDATION_STATUS = 400  # what flask-smorest documents of a schema that refuses
    DEFAULT_UNKNOWN_BY_LOCATION = FlaskParser.DEFAULT_UNKNOWN_BY_LOCATION | {"query": RAISE, "json": RAISE}

    def load_querystring(self, req: flask.Request, schema: Schema) -> Mapping[str, object]:
        """Give every parameter the type that its field has in JSON.

        Raises:
            InvalidParameters: a parameter stands there twice.
        """
        given = [(name, _field(schema, name), values) for name, values in req.args.lists()]
        lists = {name: [*filter(None, values)] for name, field, values in given if _is_list(field)}
        repeated = [name for name, _, values in given if len(values) > 1 and name not in lists]
        if repeated:
            raise InvalidParameters({name: ["Must not be repeated."] for name in repeated})
        return lists | {name: _typed(values[0], field) for name, field, values in given if name not in lists}

    def load_json(self, req: flask.Request, schema: Schema) -> Mapping[str, object]:  # noqa: ARG002  webargs' signature
        """Parse the body, whatever its size limit let in.

        Raises:
            InvalidParameters: it is no JSON object, a name stands there twice, or in the query.
        """
        refuse_query(req)
        return self.load_body(req)

    def load_body(self, req: flask.Request) -> dict[str, object]:
        """Parse the body, whatever the query says; raises ``InvalidParameters``."""
        if not req.is_json:
            raise InvalidParameters({}, "The body must be JSON, sent as Content-Type: application/json.")
        try:
            body = json.loads(req.get_data(), object_pairs_hook=_unique_names)
        except (ValueError, RecursionError):
            raise InvalidParameters({}, "The body is not valid JSON.") from None
        if not isinstance(body, dict):
            raise InvalidParameters({}, "The body must be a JSON object.")
        return body

    def handle_error(
        self,
        error: ValidationError,
        req: flask.Request,  # noqa: ARG002  webargs' signature
        schema: Schema,
        **_more: Any,
    ) -> NoReturn:
        """Say which field is wrong and why, in the words of the schema."""
        messages = flat_messages(error)
        if isinstance(schema, CaptureOptions) and "query" in error.messages:
            messages |= {name: [NOT_IN_A_URL] for name in SECRET & messages.keys()}
        raise InvalidParameters(messages) from None


def refuse_query(req: flask.Request, *allowed: str) -> None:
    """Refuse what stands beside a body in the query, where nobody reads it; raises ``InvalidParameters``."""
    misplaced = {name: ["Belongs into the JSON body."] for name in req.args if name not in allowed}
    if misplaced:
        raise InvalidParameters(misplaced)


def takes_no_parameters(view: View) -> View:
    """Let a view refuse every parameter in its query: it has none that could be meant."""

    @wraps(view)
    def strict(*args: Any, **kwargs: Any) -> Any:
        if flask.request.args:
            raise InvalidParameters({name: ["Unknown field."] for name in flask.request.args})
        return view(*args, **kwargs)

    return cast(View, strict)


def _field(schema: Schema, spelled: str) -> fields.Field[Any] | None:
    found = schema.fields.get(spelled)
    return found or next((field for field in schema.fields.values() if field.data_key == spelled), None)


def _is_list(field: fields.Field[Any] | None) -> bool:
    return isinstance(field, SelectorsField) and field.takes_array


def _typed(value: str, field: fields.Field[Any] | None) -> object:
    if isinstance(field, fields.Boolean):
        return FLAGS.get(value, value)
    if isinstance(field, fields.Integer) and INTEGER.fullmatch(value):
        return int(value)
    if isinstance(field, fields.Float) and NUMBER.fullmatch(value):
        return float(value)
    return value


def typed_options(options: Mapping[str, str], schema: Schema, *, is_whole: bool = False) -> dict[str, Any]:
    """Load options that are written as text; raises ``InvalidParameters``.

    ``is_whole``: they are all of a query, and what a query has to say may not be missing.
    """
    typed = {name: _typed(value, schema.fields.get(name)) for name, value in options.items()}
    return load(typed, schema, is_whole=is_whole)


def load(given: Mapping[str, Any], schema: Schema, *, is_whole: bool = True) -> dict[str, Any]:
    """What a schema makes of what is given; raises ``InvalidParameters``."""
    try:
        return dict(schema.load(given, partial=not is_whole))
    except ValidationError as error:
        raise InvalidParameters(flat_messages(error)) from None


def spell_for_query(value: object) -> str:
    """A value of JSON as a query has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _unique_names(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(pairs) > MAX_NAMES:
        raise InvalidParameters({}, f"The body has an object of more than {MAX_NAMES} names.")
    found, names = dict(pairs), [name for name, _ in pairs]
    if len(found) < len(names):
        repeated = sorted(name for name in found if names.count(name) > 1)
        raise InvalidParameters({name: ["Must not be repeated."] for name in repeated})
    return found


def flat_messages(error: ValidationError) -> dict[str, list[str]]:
    """Field messages without webargs' location level and without nesting deeper than a field."""
    messages = error.normalized_messages()  # type: ignore[no-untyped-call]  # marshmallow left it untyped
    if set(messages) <= {"query", "json", "querystring"}:
        messages = {name: text for part in messages.values() for name, text in part.items()}
    return {str(name): _texts(content) for name, content in messages.items()}


def _texts(content: object) -> list[str]:
    if isinstance(content, dict):
        return [text for part in content.values() for text in _texts(part)]
    if isinstance(content, list):
        return [str(text) for text in content]
    return [str(content)]
