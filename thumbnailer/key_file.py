"""API keys in a file, for deployments that change nothing while they run.

TOML, one table for each key; only ``id``, ``name`` and ``digest`` have to be there::

    [[keys]]
    id = "k3n9x2m7q4ab"
    name = "shop"
    digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
    scopes = ["render", "persist"]
    expires = 2027-01-01T00:00:00Z
    plan = "pro"
    daily_captures = 5000
    targets = ["example.com", "*.example.com"]
    referrers = ["shop.example.com"]
    limits = { thumb = "120 per minute" }
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thumbnailer.host_patterns import HostPattern, parse_host_pattern
from thumbnailer.keys import ID, ApiKey, KeyTerms, Scope, check_limits, check_name
from thumbnailer.plans import check_plan_name

DIGEST = re.compile(r"[0-9a-f]{64}")

MEMBERS = (
    "id",
    "name",
    "digest",
    "scopes",
    "expires",
    "plan",
    "daily_captures",
    "targets",
    "referrers",
    "limits",
)


def read_key_file(path: Path) -> tuple[ApiKey, ...]:
    """The keys of a file.

    Raises ValueError, which counts the keys and names the member at fault, but quotes no digest.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError("cannot be read as UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is no TOML: {error}") from None
    entries = document.get("keys", [])
    if set(document) - {"keys"} or not isinstance(entries, list):
        raise ValueError("must hold [[keys]] tables and nothing else")
    keys = tuple(_numbered(number, entry) for number, entry in enumerate(entries, 1))
    for member in ("id", "name"):
        if len({getattr(key, member) for key in keys}) < len(keys):
            raise ValueError(f"gives two keys the same {member}")
    return keys


def _numbered(number: int, entry: Any) -> ApiKey:
    try:
        return _key(entry)
    except ValueError as error:
        raise ValueError(f"key {number}: {error}") from None


def _key(entry: Any) -> ApiKey:
    if not isinstance(entry, Mapping):
        raise ValueError("must be a table")  # noqa: TRY004  # a fault of the file, not of the code
    unknown = sorted(set(entry) - set(MEMBERS))
    if unknown:
        raise ValueError(f"{unknown[0][:40]} is no member of a key")
    return ApiKey(
        id=_text(entry, "id", lambda text: _matching(ID, text)),
        name=_text(entry, "name", check_name),
        digest=_text(entry, "digest", lambda text: _matching(DIGEST, text)),
        terms=_terms(entry),
        created_at=0.0,
    )


def _terms(entry: Mapping[str, Any]) -> KeyTerms:
    scopes = _list(entry, "scopes", _scope) if "scopes" in entry else (Scope.RENDER,)
    expires, limits, daily = entry.get("expires"), entry.get("limits", {}), entry.get("daily_captures")
    if expires is not None and not isinstance(expires, datetime):
        raise ValueError("expires must be a time such as 2027-01-01T00:00:00Z")
    if not isinstance(limits, Mapping) or not all(isinstance(limit, str) for limit in limits.values()):
        raise ValueError('limits must be a table such as { thumb = "120 per minute" }')
    if daily is not None and (type(daily) is not int or daily < 0):
        raise ValueError("daily_captures must be a whole number")
    return KeyTerms(
        scopes=frozenset(scopes),
        plan=_text(entry, "plan", check_plan_name) if "plan" in entry else None,
        limits=check_limits(limits),
        daily_captures=daily,
        targets=_patterns(entry, "targets"),
        referrers=_patterns(entry, "referrers"),
        expires_at=_moment(expires) if expires else None,
    )


def _text(entry: Mapping[str, Any], member: str, check: Callable[[str], str]) -> str:
    value = entry.get(member)
    if not isinstance(value, str):
        raise ValueError(f"{member} must be a text")  # noqa: TRY004  # the same
    try:
        return check(value)
    except ValueError as error:
        raise ValueError(f"{member} {error}") from None


def _list(entry: Mapping[str, Any], member: str, convert: Callable[[str], Any]) -> tuple[Any, ...]:
    values = entry.get(member, [])
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"{member} must be a list of texts")
    try:
        return tuple(convert(value) for value in values)
    except ValueError as error:
        raise ValueError(f"{member}: {error}") from None


def _matching(pattern: re.Pattern[str], text: str) -> str:
    if not pattern.fullmatch(text):
        raise ValueError("is not as flask keys hash writes it")
    return text


def _scope(text: str) -> Scope:
    if text not in set(Scope):
        raise ValueError(f"must be of {', '.join(Scope)}")
    return Scope(text)


def _patterns(entry: Mapping[str, Any], member: str) -> tuple[HostPattern, ...]:
    """None are all hosts, so an empty list is a mistake."""
    if entry.get(member) == []:
        raise ValueError(f"{member} names no host; leave it out for all")
    return _list(entry, member, parse_host_pattern)


def _moment(time: datetime) -> float:
    """Unix seconds; a time without a zone is UTC."""
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
