"""How SQLite finds what is asked for: by an index, or by looking at every row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from thumbnailer.database import Database


@contextmanager
def plans_of(database: Database) -> Iterator[list[str]]:
    """The steps of each query that is made meanwhile, as EXPLAIN QUERY PLAN tells them."""
    engine = database.open()
    steps: list[str] = []

    def explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_more: Any) -> None:
        if statement.startswith(("SELECT", "UPDATE", "DELETE")):
            plan = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            steps.extend(step for *_, step in plan)

    event.listen(engine, "before_cursor_execute", explain)
    try:
        yield steps
    finally:
        event.remove(engine, "before_cursor_execute", explain)


def looks_at_every_row(steps: list[str], table: str) -> bool:
    return any(step == f"SCAN {table}" or step.startswith(f"SCAN {table} ") for step in steps)
