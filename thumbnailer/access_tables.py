"""The tables of who may do what."""

from __future__ import annotations

from sqlalchemy import JSON, Column, Float, String, Table

from thumbnailer.database import metadata

#: Digests are SHA-256, hexadecimal; times are Unix seconds. ``previous_digest`` is good until
#: ``previous_until``, after a rotation.
api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("digest", String(64), nullable=False),
    Column("previous_digest", String(64)),
    Column("previous_until", Float),
    Column("scopes", JSON, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("targets", JSON, nullable=False),
    Column("referrers", JSON, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),
    Column("revoked_at", Float),
    Column("plan", String(32)),
)
