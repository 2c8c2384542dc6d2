"""Puts the finished parts together; only ``app.py`` and other entries import from here."""
