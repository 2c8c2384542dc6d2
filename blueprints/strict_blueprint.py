"""flask-smorest's blueprint, as this service uses it: strict, late to document, and quick to load."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Self, TypeVar

from flask_smorest import Blueprint
from flask_smorest.utils import resolve_schema_instance

from blueprints.parsing import StrictParser

View = TypeVar("View", bound=Callable[..., Any])

#: What stands in the place of each part of a path that is not fixed.
PATH_PARTS = {
    "job_id": "The job_id in the answer to POST /screenshots.",
    "batch_id": "The batch_id in the answer to POST /screenshots/batch.",
    "page_id": "The id in the answer to POST /pages.",
    "delivery_id": "The id of a message, from GET /webhooks/deliveries.",
    "key": "The key in the answer to POST /persist.",
    "slug": "The last part of a problem's type.",
}
PATH_PART = re.compile(r"<(?:\w+:)?(\w+)>")


class _Documented(dict[str, Any]):
    """What a view documents, handed on as it is from each wrapper of the view to the next."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Itself: flask-smorest would copy all there is for each wrapper."""
        return self


def _documented_once(wrap: Callable[[View], View]) -> Callable[[View], View]:
    def decorate(view: View) -> View:
        view.__dict__["_apidoc"] = _Documented(view.__dict__.get("_apidoc", {}))
        return wrap(view)

    return decorate


class StrictBlueprint(Blueprint):
    """A flask-smorest blueprint that reads parameters strictly."""

    ARGUMENTS_PARSER = StrictParser()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unstored: list[Callable[[], None]] = []

    def route(self, rule: str, *, parameters: Any = None, **options: Any) -> Callable[[View], View]:
        """Open a door, as flask-smorest does, and say what stands in its path."""
        parts = [
            {"in": "path", "name": name, "description": PATH_PARTS[name]} for name in PATH_PART.findall(rule)
        ]
        opened: Callable[[View], View] = super().route(
            rule, parameters=[*(parameters or ()), *parts], **options
        )
        return opened

    def arguments(self, *args: Any, **kwargs: Any) -> Callable[[View], View]:
        """Give a view its parameters, as flask-smorest does."""
        return _documented_once(super().arguments(*args, **kwargs))

    def response(self, *args: Any, **kwargs: Any) -> Callable[[View], View]:
        """Send what a view returns, as flask-smorest does."""
        return _documented_once(super().response(*args, **kwargs))

    def _store_endpoint_docs(
        self, endpoint: str, view: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> None:
        """Leave it until somebody asks for the document: it copies everything that a view documents."""
        documented = dict(view.__dict__.get("_apidoc", {}))  # each document alters its copy
        documented["manual_doc"] = {"operationId": endpoint, **documented.get("manual_doc", {})}
        view.__dict__["_apidoc"] = documented
        self._unstored.append(partial(super()._store_endpoint_docs, endpoint, view, *args, **kwargs))

    def register_views_in_doc(self, *args: Any, **kwargs: Any) -> None:
        """Put the views into a document."""
        while self._unstored:
            self._unstored.pop(0)()
        super().register_views_in_doc(*args, **kwargs)

    def alt_response(
        self,
        status_code: int,
        *,
        description: str,
        schema: Any = None,
        content_type: str | None = None,
        headers: Mapping[str, Mapping[str, Any]] | None = None,
        examples: Mapping[str, Mapping[str, Any]] | None = None,
        success: bool = False,
    ) -> Callable[[View], View]:
        """Document an answer of a view, as flask-smorest does, and leave the view as it is.

        flask-smorest wraps the view anew for each of its answers, some eighty times for a picture: every
        request would go through all of that.
        """
        answer: dict[str, Any] = {"description": description, "content_type": content_type}
        answer |= {"schema": resolve_schema_instance(schema)} if schema is not None else {}
        answer |= {"headers": headers} if headers is not None else {}
        answer |= {"examples": examples} if examples is not None else {}

        def document(view: View) -> View:
            documented: dict[str, Any] = view.__dict__.setdefault("_apidoc", {})
            answers = documented.setdefault("response", {}).setdefault("responses", {})
            answers.setdefault(status_code, []).append(answer)
            if success:
                documented.setdefault("success_status_codes", []).append(status_code)
            return view

        return document
