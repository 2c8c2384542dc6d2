"""The tables of jobs, batches and the messages about them."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from thumbnailer.database import metadata

#: Ids are a prefix of three letters, an underscore and 22 characters of base64url.
ID = String(32)

batches = Table(
    "batches",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("total", Integer, nullable=False),
    Column("ended", Integer, nullable=False),
    Column("webhook_url", Text),
    Column("created_at", Float, nullable=False),
    Column("completed_at", Float, index=True),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("batch_id", ID, ForeignKey("batches.id", ondelete="CASCADE")),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("url", Text, nullable=False),
    Column("request", Text),
    Column("ttl_seconds", Integer, nullable=False),
    Column("persist", Boolean, nullable=False),
    Column("webhook_url", Text),
    Column("attempts", Integer, nullable=False),
    # Not begun before this moment; and begun again after it, since nobody alive is doing it then.
    Column("due_at", Float, nullable=False),
    # When it was last put into the queue.
    Column("queued_at", Float),
    Column("claim", ID),
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("completed_at", Float),
    Column("error", JSON),
    Column("result", JSON),
    Index("ix_jobs_state", "state", "due_at"),
    # Of those without a batch, too, the oldest are found by it.
    Index("ix_jobs_batch_id", "batch_id", "completed_at"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("event", String(32), nullable=False),
    Column("subject", ID, nullable=False),
    Column("url", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("queued_at", Float),
    Column("claim", ID),
    Column("created_at", Float, nullable=False),
    Column("ended_at", Float, index=True),
    Index("ix_deliveries_state", "state", "due_at"),
    Index("ix_deliveries_owner", "owner", "created_at"),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("delivery_id", ID, ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", Float, nullable=False),
    Column("status", Integer),
    Column("trouble", Text),
    Column("seconds", Float, nullable=False),
)

#: Under which keys orders came: ``thumbnailer.jobs.order_keys``.
order_keys = Table(
    "order_keys",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("body_digest", String(64), nullable=False),
    Column("subject", ID, nullable=False),
    Column("created_at", Float, nullable=False, index=True),
)

workers = Table(
    "workers",
    metadata,
    Column("id", String(128), primary_key=True),
    Column("seen_at", Float, nullable=False),
)
