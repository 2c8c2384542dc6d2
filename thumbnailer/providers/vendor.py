"""What an HTTP screenshot service is like on the wire, as a table that an adapter fills in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from thumbnailer.model import Cookie


def _anything(_: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Option:
    """How a vendor is told one option, and which of its values can be told at all."""

    write: Callable[[Any], Mapping[str, object]]
    accepts: Callable[[Any], bool] = _anything


def named(wire_name: str, *, accepts: Callable[[Any], bool] = _anything) -> Option:
    """An option that differs from ours in nothing but its name."""
    return Option(lambda value: {wire_name: value}, accepts)


def between(least: float, most: float) -> Callable[[Any], bool]:
    """Accept numbers from ``least`` to ``most``, both included."""
    return lambda value: bool(least <= value <= most)


def written_cookie(cookie: Cookie) -> Mapping[str, str]:
    """A cookie as browsers' own tools take it, for its host alone."""
    return {"name": cookie.name, "value": cookie.value, "domain": cookie.host, "path": "/"}


@dataclass(frozen=True, slots=True)
class Fault:
    """What a vendor's error body says; ``retry_after`` is its own word for seconds, unchecked."""

    code: str = ""
    message: str = ""
    retry_after: object = None


def read_flat_fault(body: Mapping[str, object]) -> Fault:
    """Read ``{"error": "some_code", "message": "…"}``, either of which may be missing."""
    error, message = _text(body.get("error")), _text(body.get("message"))
    return Fault(code=error, message=message or error)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def query_only(_: Mapping[str, object]) -> bool:
    """Parameters always go in a GET's query."""
    return False


def json_only(_: Mapping[str, object]) -> bool:
    """Parameters are always POSTed as JSON."""
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """A screenshot service as it is on the wire.

    ``options`` holds what the vendor can be told, by our names; ``also_always`` names options beyond
    ``ALWAYS_SENT`` that are sent in their neutral value too. ``sends_json`` decides by the parameters
    whether they are POSTed as JSON or go in a GET's query. ``reset_headers`` names, by status, the
    header that holds the Unix time at which a limit ends. ``usage_path`` answers a GET with our key, and
    takes no capture for it; None where the vendor has no such route.
    """

    name: str
    base_url: str
    path: str
    options: Mapping[str, Option]
    key_headers: Callable[[str], Mapping[str, str]]
    is_key_required: bool = True
    also_always: frozenset[str] = frozenset()
    sends_json: Callable[[Mapping[str, object]], bool] = query_only
    read_fault: Callable[[Mapping[str, object]], Fault] = read_flat_fault
    reset_headers: Mapping[int, str] = field(default_factory=dict)
    usage_path: str | None = None
