"""The tables of usage and of counters, and the plans of keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

COUNTS = ("captures", "hits", "stale", "misses", "refusals", "size_bytes")


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("day", sa.Date, nullable=False),
        sa.Column("account", sa.String(64), nullable=False),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in COUNTS),
        sa.PrimaryKeyConstraint("day", "account", name="pk_usage"),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("count", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_counters"),
    )
    op.create_index("ix_counters_ends_at", "counters", ["ends_at"])
    op.add_column("api_keys", sa.Column("plan", sa.String(32)))


def downgrade() -> None:
    op.drop_column("api_keys", "plan")
    op.drop_table("counters")
    op.drop_table("usage")
