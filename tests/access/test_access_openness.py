"""What nobody has to have a key for: public targets, presets, and services that are open as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from config import ConfigurationError
from tests.support.access import (
    REFUSALS,
    ask,
    key_store,
    make_key,
    routes,
    signed,
    slug_of,
)
from tests.support.processes import wait_until
from tests.support.service import TARGET, client_of, running_app
from tests.support.vectors import SIGNING_KEYS

# --- what is public ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "is_public"),
    [
        pytest.param("http://93.184.216.35/any?page", True, id="a host"),
        pytest.param("http://93.184.216.36/", False, id="another host"),
        pytest.param("http://public.example.com.evil.test/", False, id="a host that starts alike"),
        pytest.param("http://evil.test/?public.example.com", False, id="a query"),
        pytest.param("http://public.example.com@evil.test/", False, id="a user"),
        pytest.param("http://a.public.example.com/", False, id="a host below a plain one"),
        pytest.param("http://badsites.example.com/", False, id="a label that ends alike"),
        pytest.param("http://sites.example.com/", False, id="the host above a wildcard"),
        pytest.param("nonsense", False, id="no URL"),
    ],
)
def test_unsigned_thumbnails_are_for_public_targets(client: FlaskClient, url: str, is_public: bool) -> None:
    answer = ask(client, url=url)
    if is_public:
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"].startswith("public")
    else:
        assert (answer.status_code, slug_of(answer)) == (403, "signature-required")


@pytest.mark.parametrize("path", ["/screenshot", "/screenshot/stream"])
def test_public_targets_are_for_thumbnails_only(client: FlaskClient, path: str) -> None:
    assert ask(client, path, "http://93.184.216.35/").status_code == 403


def test_a_public_target_given_twice_is_refused(client: FlaskClient) -> None:
    answer = client.get("/thumb?url=http://93.184.216.35/&url=http://93.184.216.36/")
    assert answer.status_code == 403


def test_nobody_unknown_gets_a_fresh_picture(app: Flask, client: FlaskClient) -> None:
    query = {"url": "http://93.184.216.35/", "fresh": "true"}
    answer = client.get("/thumb", query_string=query)
    assert (answer.status_code, slug_of(answer)) == (401, "unauthorized")
    assert client.get("/thumb", query_string=query, headers=make_key(app, "a")).status_code == 200
    assert client.get(signed("/thumb", url=query["url"], fresh="true")).status_code == 200


@pytest.mark.parametrize(
    ("targets", "query", "status"),
    [
        ("", {"preset": "card"}, 200),
        ("", {"preset": "card", "on_error": "status"}, 200),
        ("", {"preset": "hero"}, 401),
        ("", {}, 401),
        ("", {"preset": "card", "width": "800"}, 401),
        ("93.184.216.34", {"preset": "card"}, 200),
        ("93.184.216.35", {"preset": "card"}, 401),
        ("93.184.216.34", {}, 401),
    ],
)
def test_public_presets_take_nothing_beside_them(
    settings: dict[str, str], targets: str, query: dict[str, str], status: int
) -> None:
    more = {"PRESETS": "card:thumb_width=400;hero:width=1920", "PUBLIC_PRESETS": "card"}
    with client_of(settings | more | {"PUBLIC_TARGETS": targets, "SIGNING_KEYS": ""}) as client:
        assert client.get("/thumb", query_string={"url": TARGET} | query).status_code == status


# --- open and closed ---------------------------------------------------------------------------


def open_settings(settings: dict[str, str]) -> dict[str, str]:
    return settings | {"SIGNING_KEYS": "", "PUBLIC_TARGETS": ""}


def test_without_any_key_everything_is_open(settings: dict[str, str]) -> None:
    with running_app(open_settings(settings)) as app:
        for route in routes(app):
            for headers in ({}, {"X-API-Key": "sk_live_somebody_elses"}):
                assert slug_of(route.call(app.test_client(), headers=headers)) not in REFUSALS, route.rule
        assert ask(app.test_client()).headers["Cache-Control"].startswith("public")


def test_the_first_key_closes_a_running_service_within_seconds(settings: dict[str, str]) -> None:
    with running_app(open_settings(settings)) as app, app.test_client() as client:
        assert ask(client).status_code == 200
        make_key(app, "first")
        wait_until(lambda: ask(client).status_code == 401)
        key_store(app).revoke("first")
        assert ask(client).status_code == 401, "a revoked key must not open the service again"


@pytest.mark.parametrize(
    "closing",
    [
        {"SIGNING_KEYS": SIGNING_KEYS},
        {"PUBLIC_TARGETS": "example.com"},
        {"API_KEYS_FILE": "keys.toml"},
    ],
    ids=lambda closing: next(iter(closing)),
)
def test_any_setting_of_access_closes_the_service(
    settings: dict[str, str], closing: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "keys.toml").write_text("")
    if "API_KEYS_FILE" in closing:
        closing = {"API_KEYS_FILE": str(tmp_path / "keys.toml")}
    with client_of(open_settings(settings) | closing) as client:
        assert ask(client).status_code in (401, 403)
        assert ask(client, "/screenshot").status_code in (401, 403)
        assert client.get("/ready").status_code == 200
    with client_of(open_settings(settings) | closing, profile="production") as client:
        assert ask(client).status_code in (401, 403), "it starts, for it is not open"


def test_production_starts_open_only_where_that_is_said(settings: dict[str, str]) -> None:
    with (
        pytest.raises(ConfigurationError, match="ALLOW_ANONYMOUS"),
        client_of(open_settings(settings), profile="production"),
    ):
        pass
    allowed = open_settings(settings) | {"ALLOW_ANONYMOUS": "true"}
    with client_of(allowed, profile="production") as client:
        assert ask(client).status_code == 200


def test_production_starts_with_a_key_and_stays_closed(settings: dict[str, str]) -> None:
    with running_app(open_settings(settings)) as app:
        key = make_key(app, "a")
    with client_of(open_settings(settings), profile="production") as client:
        assert ask(client).status_code == 401
        assert ask(client, headers=key).status_code == 200


def test_production_that_cannot_ask_its_database_is_closed(settings: dict[str, str]) -> None:
    silent = open_settings(settings) | {"DATABASE_URL": "postgresql://u@127.0.0.1:1/x"}
    with client_of(silent, profile="production") as client:
        answer = ask(client)
        assert (answer.status_code, slug_of(answer)) == (401, "unauthorized")
        assert client.get("/health").status_code == 200


def test_openness_is_told_in_the_log(settings: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with client_of(open_settings(settings)):
        assert "Everyone may use this service" in capsys.readouterr().err
    with client_of(settings):
        assert "Everyone may use this service" not in capsys.readouterr().err
