"""What orders were called by those who may send them again: written with the order, or not at all.

A process that is killed between accepting an order and answering it leaves no answer that could be given
again. What it has made of the order is found here.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, select

from thumbnailer.errors import IdempotencyMismatch
from thumbnailer.jobs.tables import order_keys

#: For how long an order counts as the same that came before, in seconds: a day.
KEPT_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class OrderKey:
    """Two SHA-256 in hexadecimal: of who sends the order to where, and calls it how; and of its body."""

    name: str
    body_digest: str


def find_order(connection: Connection, key: OrderKey | None, now: float) -> str | None:
    """The id of what was made of an order when it came before; None where it is new.

    Raises:
        IdempotencyMismatch: it came with another body.
    """
    if key is None:
        return None
    known = select(order_keys).where(
        order_keys.c.name == key.name, order_keys.c.created_at > now - KEPT_SECONDS
    )
    row = connection.execute(known).first()
    if row is not None and row.body_digest != key.body_digest:
        raise IdempotencyMismatch("This Idempotency-Key came with another body before. Use a new one.")
    return row.subject if row else None


def note_order(connection: Connection, key: OrderKey | None, subject: str, now: float) -> None:
    """Write down what was made of an order, ``subject`` being its id."""
    if key is None:
        return
    connection.execute(delete(order_keys).where(order_keys.c.name == key.name))
    row = {"name": key.name, "body_digest": key.body_digest, "subject": subject, "created_at": now}
    connection.execute(insert(order_keys).values(**row))


def forget_orders(connection: Connection, now: float) -> None:
    """Forget the keys that may stand for something else by now."""
    connection.execute(delete(order_keys).where(order_keys.c.created_at <= now - KEPT_SECONDS))
