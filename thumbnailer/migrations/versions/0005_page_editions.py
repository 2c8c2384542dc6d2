"""In which order versions of pages came, and as which of a page's wishes they were taken."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

COLUMNS = (("pages", "edition"), ("page_versions", "edition"), ("page_versions", "number"))


def upgrade() -> None:
    for table, column in COLUMNS:
        op.add_column(table, sa.Column(column, sa.Integer, nullable=False, server_default="0"))


def downgrade() -> None:
    for table, column in reversed(COLUMNS):
        op.drop_column(table, column)
