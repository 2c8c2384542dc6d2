"""The tables of pages and their versions."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, ForeignKey, Index, Integer, String, Table, Text

from thumbnailer.database import metadata
from thumbnailer.jobs.tables import ID

pages = Table(
    "pages",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("url", Text, nullable=False),
    Column("options", JSON, nullable=False),
    Column("request", Text, nullable=False),
    Column("refresh_seconds", Integer, nullable=False),
    Column("webhook_url", Text),
    Column("state", String(16), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("due_at", Float, nullable=False),
    Column("queued_at", Float),
    Column("claim", ID),
    Column("created_at", Float, nullable=False),
    Column("refreshed_at", Float),
    Column("error", JSON),
    Column("edition", Integer, nullable=False, server_default="0"),
    Index("ix_pages_owner", "owner", "created_at"),
    Index("ix_pages_due_at", "due_at"),
)

page_versions = Table(
    "page_versions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("page_id", ID, ForeignKey("pages.id", ondelete="CASCADE"), nullable=False),
    Column("captured_at", Float, nullable=False),
    Column("object_key", Text, nullable=False, index=True),
    Column("stored_url", Text, nullable=False),
    Column("content_type", String(64), nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("fingerprint", String(64), nullable=False),
    Column("distance", Integer),
    Column("edition", Integer, nullable=False, server_default="0"),
    # In which order they came: a clock may be set back, and a picture come from the cache.
    Column("number", Integer, nullable=False, server_default="0"),
    Index("ix_page_versions_page_id", "page_id", "captured_at"),
)

NEWEST_FIRST = (page_versions.c.number.desc(), page_versions.c.captured_at.desc())

#: Objects of versions that nobody needs any more, until the storage has let go of them.
outdated_objects = Table(
    "outdated_objects",
    metadata,
    Column("object_key", String(512), primary_key=True),
    Column("since", Float, nullable=False),
)
