"""A closed service for tests: its keys, made as an operator makes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Flask

from blueprints.services import EXTENSION
from tests.support.service import snapapi_environment
from thumbnailer.key_store import KeyStore
from thumbnailer.keys import KeyTerms, Scope


def key_store(app: Flask) -> KeyStore:
    return KeyStore(app.extensions[EXTENSION].database)


def make_key(app: Flask, name: str, *scopes: Scope, **terms: Any) -> dict[str, str]:
    """A new key, as the header that gives it; for ``render`` unless other scopes are named."""
    wanted = KeyTerms(scopes=frozenset(scopes or (Scope.RENDER,)), **terms)
    return {"X-API-Key": key_store(app).create(name, wanted)[1]}


def folder_environment(upstream_url: str, folder: Path, **more: str) -> dict[str, str]:
    """Settings of a service that keeps all it has in ``folder``."""
    folders = {"MEDIA_DIR": str(folder / "media"), "CACHE_DIR": str(folder / "cache")}
    return snapapi_environment(upstream_url, DATABASE_URL=sqlite_url(folder), **folders, **more)


def sqlite_url(folder: Path) -> str:
    return f"sqlite:///{folder}/keys.sqlite3"
