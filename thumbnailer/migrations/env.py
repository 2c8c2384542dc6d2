"""Alembic's entry: runs the steps on the connection that ``thumbnailer/schema.py`` hands over."""

from __future__ import annotations

from alembic import context

context.configure(
    connection=context.config.attributes["connection"],
    transactional_ddl=True,  # SQLite can do it too, once its driver is kept from committing by itself
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
