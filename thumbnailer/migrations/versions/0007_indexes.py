"""Indexes for what the queries ask: sweeps, an owner's messages, and objects that versions share."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.drop_index("ix_deliveries_subject", "deliveries")
    op.create_index("ix_deliveries_owner", "deliveries", ["owner", "created_at"])
    op.drop_index("ix_jobs_completed_at", "jobs")
    op.drop_index("ix_jobs_batch_id", "jobs")
    op.create_index("ix_jobs_batch_id", "jobs", ["batch_id", "completed_at"])
    op.create_index("ix_page_versions_object_key", "page_versions", ["object_key"])


def downgrade() -> None:
    op.drop_index("ix_page_versions_object_key", "page_versions")
    op.drop_index("ix_jobs_batch_id", "jobs")
    op.create_index("ix_jobs_batch_id", "jobs", ["batch_id"])
    op.create_index("ix_jobs_completed_at", "jobs", ["completed_at"])
    op.drop_index("ix_deliveries_owner", "deliveries")
    op.create_index("ix_deliveries_subject", "deliveries", ["subject"])
