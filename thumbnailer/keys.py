"""API keys: who a caller is, and what that lets them do.

A key is ``tn_<id>_<secret>``. The id is public and finds the key; the secret is 256 random bits, so that
its SHA-256 tells nothing about it, and none of the slow hashes is needed that guessable passwords need.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from limits import parse_many

from thumbnailer.host_patterns import HostPattern

ID_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without what is read as something else
ID_LENGTH = 12
TOKEN = re.compile(rf"tn_([{ID_ALPHABET}]{{{ID_LENGTH}}})_[A-Za-z0-9_-]{{43}}", re.ASCII)
ID = re.compile(rf"[{ID_ALPHABET}]{{{ID_LENGTH}}}")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,99}", re.ASCII)

#: What has a limit of its own: LIMIT_THUMB and so on, for one key.
LIMITED = ("thumb", "screenshot", "persist", "jobs", "cached", "purge")


class Scope(StrEnum):
    """What a key is for. ``admin`` includes all the others."""

    RENDER = "render"
    PERSIST = "persist"
    PURGE = "purge"
    SCRIPT = "script"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms:
    """What a key may do.

    ``limits`` holds limits such as ``100 per minute`` by the names of ``LIMITED``; others are those of its
    ``plan``, or as usual. ``daily_captures`` is the budget of a day, UTC. ``targets`` are the hosts that
    may be photographed, ``referrers`` those of the pages that requests may come from; empty: all.
    ``expires_at`` is Unix time in seconds.
    """

    scopes: frozenset[Scope] = frozenset({Scope.RENDER})
    plan: str | None = None
    limits: Mapping[str, str] = field(default_factory=dict)
    daily_captures: int | None = None
    targets: tuple[HostPattern, ...] = ()
    referrers: tuple[HostPattern, ...] = ()
    expires_at: float | None = None

    def allow(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def allow_target(self, host: str) -> bool:
        """Whether pages of ``host`` may be photographed; an empty one stands for all hosts there are."""
        return not self.targets or _matches(self.targets, host)

    def allow_referrer(self, host: str | None) -> bool:
        """Whether a request may come from a page of ``host``; None: it does not say."""
        return not self.referrers or (host is not None and _matches(self.referrers, host))


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is kept: without its secret, of which ``digest`` is the hexadecimal SHA-256.

    After a rotation the old secret goes on until ``previous_until``. Times are Unix seconds.
    """

    id: str
    name: str
    digest: str = field(repr=False)
    terms: KeyTerms
    created_at: float
    revoked_at: float | None = None
    previous_digest: str | None = field(default=None, repr=False)
    previous_until: float | None = None

    def is_live(self, now: float) -> bool:
        """Whether the key counts: neither revoked nor expired."""
        return self.revoked_at is None and (self.terms.expires_at is None or now < self.terms.expires_at)

    def fits(self, token: str, now: float) -> bool:
        """Whether ``token`` is this key; the time taken tells nothing about the right one."""
        given = digest_of(token)
        fits = hmac.compare_digest(given, self.digest)
        if self.previous_digest and self.previous_until and now < self.previous_until:
            fits |= hmac.compare_digest(given, self.previous_digest)
        return fits


def new_id() -> str:
    return "".join(secrets.choice(ID_ALPHABET) for _ in range(ID_LENGTH))


def new_token(key_id: str) -> str:
    """A key to hand out, once."""
    return f"tn_{key_id}_{secrets.token_urlsafe(32)}"


def digest_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def id_of(token: str) -> str | None:
    """The public part of a key, None where the text is no key of ours."""
    match = TOKEN.fullmatch(token)
    return match[1] if match else None


def check_name(name: str) -> str:
    """``name`` unless it could be taken for something else. Raises ValueError."""
    if not NAME.fullmatch(name):
        raise ValueError("must be 1 to 100 letters, digits, spaces and . _ @ -")
    if id_of(name) or ID.fullmatch(name):
        raise ValueError("looks like the id of a key")
    return name


def check_limits(limits: Mapping[str, str]) -> Mapping[str, str]:
    """``limits`` if each is one. Raises ValueError."""
    for name, limit in limits.items():
        if name not in LIMITED:
            raise ValueError(f"{name[:40]!r} has no limit; these have: {', '.join(LIMITED)}")
        try:
            parse_many(limit)
        except ValueError:
            raise ValueError(f"the limit of {name} must be one such as '100 per minute'") from None
    return MappingProxyType(dict(limits))


def _matches(patterns: Iterable[HostPattern], host: str) -> bool:
    return any(pattern.matches(host) for pattern in patterns)
