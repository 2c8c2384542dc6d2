"""What orders were called by those who may send them again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "order_keys",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(32), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_order_keys"),
    )
    op.create_index("ix_order_keys_created_at", "order_keys", ["created_at"])


def downgrade() -> None:
    op.drop_table("order_keys")
