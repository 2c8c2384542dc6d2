"""API keys in the database."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Row, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from thumbnailer.access_tables import api_keys
from thumbnailer.database import Database
from thumbnailer.host_patterns import parse_host_pattern
from thumbnailer.keys import ApiKey, KeyTerms, Scope, check_limits, check_name, digest_of, new_id, new_token

#: The budget of a day stands among the limits, under this name.
DAILY_CAPTURES = "daily_captures"


class KeyStore:
    """Makes, lists, rotates and revokes keys; each method raises ``DatabaseUnavailable`` too."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def create(self, name: str, terms: KeyTerms) -> tuple[ApiKey, str]:
        """A new key and, this once, its token. Raises ValueError where the name is odd or taken."""
        key_id = new_id()
        token = new_token(key_id)
        key = ApiKey(
            id=key_id,
            name=check_name(name),
            digest=digest_of(token),
            terms=terms,
            created_at=self._clock(),
        )
        try:
            with self._database.transaction() as connection:
                connection.execute(insert(api_keys).values(_written(key)))
        except IntegrityError:
            raise ValueError("is taken by another key, which may be revoked") from None
        return key, token

    def load(self) -> tuple[ApiKey, ...]:
        """All keys there ever were, the oldest first."""
        with self._database.reading() as connection:
            rows = connection.execute(select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)).all()
        return tuple(_read(row) for row in rows)

    def revoke(self, name: str) -> ApiKey:
        """End the key with that name or id for good. Raises LookupError."""
        return self._change(name, {"revoked_at": self._clock()})

    def put_on_plan(self, name: str, plan: str | None) -> ApiKey:
        """Let the plan of the key with that name or id be another, or none. Raises LookupError."""
        return self._change(name, {"plan": plan})

    def rotate(self, name: str, *, overlap_seconds: float) -> tuple[ApiKey, str]:
        """A new token for the key of that name or id; the old one goes on for a while. Raises LookupError."""
        with self._database.transaction() as connection:
            row = connection.execute(select(api_keys).where(_named(name)).with_for_update()).one_or_none()
            if row is None or row.revoked_at is not None:
                raise LookupError(name)
            token = new_token(row.id)
            changed = {
                "digest": digest_of(token),
                "previous_digest": row.digest,
                "previous_until": self._clock() + overlap_seconds,
            }
            changing = update(api_keys).where(api_keys.c.id == row.id).values(changed).returning(api_keys)
            return _read(connection.execute(changing).one()), token

    def _change(self, name: str, changed: Mapping[str, Any]) -> ApiKey:
        is_live = api_keys.c.revoked_at.is_(None)
        with self._database.transaction() as connection:
            changing = update(api_keys).where(_named(name), is_live).values(changed).returning(api_keys)
            row = connection.execute(changing).one_or_none()
        if row is None:
            raise LookupError(name)
        return _read(row)


def _named(name: str) -> Any:
    return or_(api_keys.c.name == name, api_keys.c.id == name)


def _written(key: ApiKey) -> dict[str, Any]:
    terms = key.terms
    budget = {} if terms.daily_captures is None else {DAILY_CAPTURES: terms.daily_captures}
    return {
        "id": key.id,
        "name": key.name,
        "digest": key.digest,
        "scopes": sorted(terms.scopes),
        "plan": terms.plan,
        "limits": {**terms.limits, **budget},
        "targets": [str(pattern) for pattern in terms.targets],
        "referrers": [str(pattern) for pattern in terms.referrers],
        "created_at": key.created_at,
        "expires_at": terms.expires_at,
    }


def _read(row: Row[Any]) -> ApiKey:
    limits = dict(row.limits)
    budget = limits.pop(DAILY_CAPTURES, None)
    terms = KeyTerms(
        scopes=frozenset(Scope(scope) for scope in row.scopes),
        plan=row.plan,
        limits=check_limits(limits),
        daily_captures=budget,
        targets=tuple(parse_host_pattern(text) for text in row.targets),
        referrers=tuple(parse_host_pattern(text) for text in row.referrers),
        expires_at=row.expires_at,
    )
    return ApiKey(
        id=row.id,
        name=row.name,
        digest=row.digest,
        terms=terms,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        previous_digest=row.previous_digest,
        previous_until=row.previous_until,
    )
