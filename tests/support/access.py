"""A closed service for tests: its keys, made as an operator makes them."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from blueprints.access import Need
from blueprints.services import EXTENSION
from tests.support.service import TARGET, snapapi_environment
from tests.support.vectors import SIGNING_KEYS
from thumbnailer.key_store import KeyStore
from thumbnailer.keys import KeyTerms, Scope
from thumbnailer.signing import UrlSigner, parse_signing_keys

#: The problems that tell of what somebody may not do.
REFUSALS = {"unauthorized", "scope-missing", "signature-required", "signature-invalid", "signature-expired"}


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


def signed(path: str, *, exp: int | None = None, **parameters: str) -> str:
    signer = UrlSigner(parse_signing_keys(SIGNING_KEYS))
    return str(signer.sign(path, parameters.items(), now=time.time(), exp=exp))


def slug_of(answer: Any) -> str | None:
    """The problem that an answer tells of, in whatever shape."""
    document = answer.get_json(silent=True) or {}
    told = str(document.get("type", "")).rpartition("/")[2] or answer.headers.get("X-Problem")
    return told or document.get("error")


@dataclass(frozen=True)
class Route:
    method: str
    rule: str
    need: Need

    def call(self, client: FlaskClient, url: str = TARGET, **more: Any) -> Any:
        path = re.sub(r"<[^>]+>", "unknown", self.rule)
        if self.method in {"GET", "DELETE"}:
            return client.open(path, method=self.method, query_string={"url": url}, buffered=True, **more)
        return client.open(path, method=self.method, json={"url": url}, buffered=True, **more)


def routes(app: Flask) -> list[Route]:
    found = []
    for rule in app.url_map.iter_rules():
        need = getattr(app.view_functions[rule.endpoint], "need", Need(is_open=True))
        found += [Route(method, rule.rule, need) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}]
    return found


def ask(client: FlaskClient, path: str = "/thumb", url: str = TARGET, **more: Any) -> Any:
    return client.get(path, query_string={"url": url}, buffered=True, **more)
