"""Objects in the storage that no version has: not yet, or no more. None of them stays for good."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, insert, select

from thumbnailer.pages.tables import outdated_objects, page_versions


def expect_object(connection: Connection, object_key: str, until: float) -> None:
    """Write down that an object is about to be stored: outdated after ``until``, unless it is had by then."""
    connection.execute(insert(outdated_objects).values(object_key=object_key, since=until))


def is_expected(connection: Connection, object_key: str, now: float) -> bool:
    """Whether an object cannot have been taken for outdated yet."""
    expected = select(outdated_objects.c.since).where(outdated_objects.c.object_key == object_key)
    since = connection.execute(expected).scalar()
    return since is not None and since > now


def outdate_versions(connection: Connection, version_ids: Any, now: float) -> None:
    """Forget versions, but not their objects, which still lie in the storage."""
    ids = connection.execute(version_ids).scalars().all()
    keys = connection.execute(select(page_versions.c.object_key).where(page_versions.c.id.in_(ids))).scalars()
    outdated = set(keys)
    connection.execute(delete(page_versions).where(page_versions.c.id.in_(ids)))
    let_go(connection, outdated, now)


def let_go(connection: Connection, object_keys: set[str], now: float) -> None:
    """Write down which of these objects are outdated: those that no version has."""
    still_used = select(page_versions.c.object_key).where(page_versions.c.object_key.in_(object_keys))
    used = set(connection.execute(still_used).scalars())
    connection.execute(delete(outdated_objects).where(outdated_objects.c.object_key.in_(object_keys)))
    rows = [{"object_key": key, "since": now} for key in object_keys - used]
    if rows:
        connection.execute(insert(outdated_objects), rows)
