"""Who may do what: every route for every kind of caller, and what a refusal does not cause."""

from __future__ import annotations

import re
import socket
import time
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from blueprints import access
from blueprints.access import Need, needs
from tests.support.access import (
    REFUSALS,
    ask,
    key_store,
    make_key,
    routes,
    signed,
    slug_of,
)
from tests.support.markdown import tables
from tests.support.service import PROJECT, TARGET
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS
from tests.test_docs import names
from thumbnailer.keys import Scope
from thumbnailer.signing import UrlSigner, parse_signing_keys

ACCESS = (PROJECT / "docs/access.md").read_text(encoding="utf-8")
NAMED = "http://page.example.com/page"


def test_every_route_for_every_caller(app: Flask, client: FlaskClient) -> None:
    right = {scope: make_key(app, scope.value, scope) for scope in Scope}
    revoked = make_key(app, "revoked", Scope.ADMIN)
    key_store(app).revoke("revoked")
    expired = make_key(app, "expired", Scope.ADMIN, expires_at=time.time() - 1)
    wrong = {"X-API-Key": right[Scope.ADMIN]["X-API-Key"][:-1] + "~"}
    guessed = {"X-API-Key": right[Scope.ADMIN]["X-API-Key"][:-5] + "AAAAA"}
    for route in routes(app):
        need, where = route.need, f"{route.method} {route.rule}"
        if need.is_open:
            for headers in ({}, wrong, revoked, right[Scope.RENDER]):
                assert slug_of(route.call(client, headers=headers)) not in REFUSALS, where
            continue
        expected = (403, "signature-required") if need.takes_signature else (401, "unauthorized")
        answer = route.call(client)
        assert (answer.status_code, slug_of(answer)) == expected, where
        for headers in (wrong, guessed, revoked, expired):
            answer = route.call(client, headers=headers)
            assert (answer.status_code, slug_of(answer)) == (401, "unauthorized"), where
            challenge = answer.headers["WWW-Authenticate"]
            assert challenge == 'Bearer realm="thumbnailer", error="invalid_token"', where
        for scope, headers in right.items():
            answer = route.call(client, headers=headers)
            if need.scope in (None, scope) or scope is Scope.ADMIN:
                assert slug_of(answer) not in REFUSALS, f"{where} {scope}"
            else:
                assert (answer.status_code, slug_of(answer)) == (403, "scope-missing"), f"{where} {scope}"


def test_a_signature_opens_the_routes_that_take_one_and_no_other(app: Flask, client: FlaskClient) -> None:
    for route in routes(app):
        if route.need.is_open or "<" in route.rule:
            continue
        answer = client.open(signed(route.rule, url=TARGET), method=route.method, buffered=True)
        if route.need.takes_signature and route.method == "GET":
            assert answer.status_code == 200, route.rule
        else:
            assert (answer.status_code, slug_of(answer)) == (401, "unauthorized"), route.rule


def test_a_bad_or_ended_signature_opens_nothing(app: Flask, client: FlaskClient, upstream: Upstream) -> None:
    signer = UrlSigner(parse_signing_keys(SIGNING_KEYS))
    for route in routes(app):
        if route.need.is_open or "<" in route.rule:
            continue
        ended = str(signer.sign(route.rule, [("url", TARGET)], now=0.0, exp=60))
        for url, slug in (
            (signed(route.rule, url=NAMED).replace("page.example", "other.example"), "signature-invalid"),
            (ended, "signature-expired"),
        ):
            answer = client.open(url, method=route.method, buffered=True)
            takes = route.need.takes_signature and route.method == "GET"
            expected = (403, slug) if takes else (401, "unauthorized")
            assert (answer.status_code, slug_of(answer)) == expected, f"{route.method} {route.rule}"
    assert upstream.requests == ()


def test_the_documentation_has_the_same_table(app: Flask) -> None:
    rows = next(rows for rows in tables(ACCESS) if "route" in rows[0])
    told = {names(row["route"])[0]: (row["key with"], row["signature"], row["nothing"]) for row in rows}
    served = {}
    for route in routes(app):
        need = route.need
        scope = "any scope" if need.scope is None else f"`{need.scope.value}`"
        nothing = "yes" if need.is_open else "where public" if need.may_be_public else "no"
        signature = "yes" if need.takes_signature else "no"
        row = ("\N{EN DASH}", "\N{EN DASH}", nothing) if need.is_open else (scope, signature, nothing)
        served[f"{route.method} {re.sub(r'<[a-z]+:', '<', route.rule)}"] = row
    assert told == served


def test_a_refusal_causes_nothing(
    app: Flask, client: FlaskClient, upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[object] = []

    def look_up(host: object, *_more: object, **_even_more: object) -> list[object]:
        looked_up.append(host)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    weak = make_key(app, "weak", Scope.PURGE)
    for route in routes(app):
        if not route.need.is_open and route.need.scope not in (None, Scope.PURGE):
            for headers in ({}, {"X-API-Key": "tn_guess"}, weak):
                assert route.call(client, NAMED, headers=headers).status_code in (401, 403), route.rule
    assert client.get(signed("/thumb", url=NAMED) + "x").status_code == 403
    assert looked_up == []
    assert upstream.requests == ()
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []
    assert not (tmp_path / "media").exists()


def test_a_route_that_does_not_say_what_it_needs_stops_the_start(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert access._need_of(app, "screenshot.thumb").may_be_public
    app.view_functions["undeclared"] = lambda: ""
    with pytest.raises(TypeError, match="undeclared does not say what it needs"):
        access._need_of(app, "undeclared")
    app.view_functions["declared"] = needs(Need(is_open=True))(lambda: "")
    assert access._need_of(app, "declared").is_open


# --- caches ------------------------------------------------------------------------------------


def test_what_a_key_got_is_private(app: Flask, client: FlaskClient) -> None:
    key = make_key(app, "a")
    for path in ("/thumb", "/screenshot", "/screenshot/stream", "/api/screenshot", "/v1/screenshot"):
        answer = ask(client, path, f"{TARGET}?{path}", headers=key)
        assert answer.headers["Cache-Control"].startswith("private, max-age="), path


def test_what_a_signature_got_is_public_until_its_end(client: FlaskClient) -> None:
    forever = client.get(signed("/thumb", url=TARGET), buffered=True)
    assert forever.headers["Cache-Control"].startswith("public, max-age=86400, stale-while-revalidate")
    for path in ("/thumb", "/screenshot/stream"):
        url = signed(path, url=f"{TARGET}?{path}", exp=int(time.time()) + 100)
        answer = client.get(url, buffered=True)
        seconds = int(
            re.findall(r"^public, max-age=(\d+), must-revalidate$", answer.headers["Cache-Control"])[0]
        )
        assert 0 < seconds <= 100
