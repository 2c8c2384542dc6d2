"""The tables of pages and their versions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.String(32)


def upgrade() -> None:
    op.create_table(
        "pages",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("options", sa.JSON, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("refresh_seconds", sa.Integer, nullable=False),
        sa.Column("webhook_url", sa.Text),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("queued_at", sa.Float),
        sa.Column("claim", ID),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("refreshed_at", sa.Float),
        sa.Column("error", sa.JSON),
        sa.PrimaryKeyConstraint("id", name="pk_pages"),
    )
    op.create_index("ix_pages_owner", "pages", ["owner", "created_at"])
    op.create_index("ix_pages_due_at", "pages", ["due_at"])
    _create_versions()
    op.create_table(
        "outdated_objects",
        sa.Column("object_key", sa.String(512), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("object_key", name="pk_outdated_objects"),
    )


def _create_versions() -> None:
    op.create_table(
        "page_versions",
        sa.Column("id", ID, nullable=False),
        sa.Column("page_id", ID, nullable=False),
        sa.Column("captured_at", sa.Float, nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("stored_url", sa.Text, nullable=False),
        sa.Column("content_type", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("width", sa.Integer),
        sa.Column("height", sa.Integer),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("distance", sa.Integer),
        sa.PrimaryKeyConstraint("id", name="pk_page_versions"),
        sa.ForeignKeyConstraint(
            ["page_id"], ["pages.id"], "fk_page_versions_page_id_pages", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_page_versions_page_id", "page_versions", ["page_id", "captured_at"])


def downgrade() -> None:
    for table in ("outdated_objects", "page_versions", "pages"):
        op.drop_table(table)
