"""The steps that make the database's tables; Alembic runs them (``thumbnailer/schema.py``)."""
