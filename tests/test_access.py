"""Who may do what: every route for every kind of caller, and what a refusal does not cause."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from blueprints import access
from blueprints.access import Need, needs
from blueprints.job_answers import describe_job
from blueprints.services import EXTENSION
from config import ConfigurationError
from tests.support.access import folder_environment, key_store, make_key
from tests.support.markdown import tables
from tests.support.processes import wait_until
from tests.support.service import PROJECT, TARGET, client_of, running_app
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS
from tests.test_docs import names
from thumbnailer.accounts import account_of_key
from thumbnailer.host_patterns import parse_host_pattern
from thumbnailer.keys import KeyTerms, Scope
from thumbnailer.signing import UrlSigner, parse_signing_keys

ACCESS = (PROJECT / "docs/access.md").read_text(encoding="utf-8")
NAMED = "http://page.example.com/page"


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return folder_environment(
        upstream.url,
        tmp_path,
        RATELIMIT_ENABLED="false",
        SIGNING_KEYS=SIGNING_KEYS,
        PUBLIC_TARGETS="public.example.com,*.sites.example.com,93.184.216.35",
    )


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    with running_app(settings) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


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


REFUSALS = {"unauthorized", "scope-missing", "signature-required", "signature-invalid", "signature-expired"}


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


# --- keys --------------------------------------------------------------------------------------


def ask(client: FlaskClient, path: str = "/thumb", url: str = TARGET, **more: Any) -> Any:
    return client.get(path, query_string={"url": url}, buffered=True, **more)


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_a_key_may_be_given_as_a_bearer_token(app: Flask, client: FlaskClient, scheme: str) -> None:
    token = make_key(app, "a")["X-API-Key"]
    assert ask(client, headers={"Authorization": f"{scheme} {token}"}).status_code == 200


def test_a_key_may_be_given_twice_but_two_keys_may_not(app: Flask, client: FlaskClient) -> None:
    token, other = make_key(app, "a")["X-API-Key"], make_key(app, "b")["X-API-Key"]
    both = {"X-API-Key": token, "Authorization": f"Bearer {token}"}
    assert ask(client, headers=both).status_code == 200
    answer = ask(client, headers=both | {"X-API-Key": other})
    assert (answer.status_code, slug_of(answer)) == (401, "unauthorized")


def test_a_scheme_that_is_a_proxys_own_is_no_key(app: Flask, client: FlaskClient) -> None:
    headers = make_key(app, "a") | {"Authorization": "Basic dXNlcjpwYXNz"}
    assert ask(client, headers=headers).status_code == 200


def test_a_key_is_for_its_hosts_only(app: Flask, client: FlaskClient, upstream: Upstream) -> None:
    key = make_key(app, "a", Scope.ADMIN, targets=(parse_host_pattern("93.184.216.34"),))
    assert ask(client, headers=key).status_code == 200
    before = len(upstream.requests)
    for path in ("/thumb", "/screenshot", "/screenshot/stream", "/api/screenshot", "/v1/screenshot"):
        answer = ask(client, path, "http://93.184.216.35/", headers=key)
        if path.startswith("/v1/"):
            assert (answer.status_code, answer.headers["X-Problem"]) == (400, "target-forbidden")
            continue
        assert (answer.status_code, slug_of(answer)) == (403, "target-forbidden"), path
    for path in ("/screenshot", "/persist", "/api/screenshots"):
        answer = client.post(path, json={"url": "http://93.184.216.35/"}, headers=key)
        assert (answer.status_code, slug_of(answer)) == (403, "target-forbidden"), path
    assert len(upstream.requests) == before


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Referer": "https://shop.example.com/page?a=b"}, 200, id="its page"),
        pytest.param({"Origin": "https://shop.example.com"}, 200, id="its origin"),
        pytest.param({"Origin": "https://SHOP.example.com:8443"}, 200, id="another spelling"),
        pytest.param({}, 403, id="none"),
        pytest.param({"Referer": "https://example.com/"}, 403, id="the host above"),
        pytest.param({"Referer": "https://shop.example.com.evil.test/"}, 403, id="a host that starts alike"),
        pytest.param({"Origin": "null"}, 403, id="a sandbox"),
        pytest.param({"Referer": "https://[::1"}, 403, id="nonsense"),
        pytest.param({"Origin": "https://evil.test", "Referer": "https://shop.example.com/"}, 403, id="two"),
    ],
)
def test_a_key_may_be_for_some_pages_only(
    app: Flask, client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    key = make_key(app, "a", referrers=(parse_host_pattern("shop.example.com"),))
    answer = ask(client, headers=key | headers)
    assert answer.status_code == status
    if status == 403:
        assert slug_of(answer) == "scope-missing"


def test_an_image_that_is_refused_is_a_placeholder_with_the_honest_status(client: FlaskClient) -> None:
    answer = ask(client, headers={"Sec-Fetch-Dest": "image"})
    assert (answer.status_code, answer.headers["X-Problem"]) == (403, "signature-required")
    assert answer.content_type.startswith("image/")


def test_the_dialect_refuses_in_its_own_shape(client: FlaskClient) -> None:
    answer = ask(client, "/api/screenshot")
    assert answer.status_code == 401
    assert answer.get_json()["success"] is False
    assert "WWW-Authenticate" in answer.headers


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


def test_keys_are_not_in_the_log(app: Flask, client: FlaskClient, capfd: pytest.CaptureFixture[str]) -> None:
    token = make_key(app, "a")["X-API-Key"]
    ask(client, headers={"X-API-Key": token})
    ask(client, headers={"Authorization": f"Bearer {token}"})
    ask(client, headers={"X-API-Key": token + "x"})
    out = capfd.readouterr()
    assert token[20:] not in out.out + out.err


def test_terms_of_a_key_include_all_scopes_for_an_admin() -> None:
    assert all(KeyTerms(scopes=frozenset({Scope.ADMIN})).allow(scope) for scope in Scope)
    assert not KeyTerms(scopes=frozenset({Scope.RENDER})).allow(Scope.SCRIPT)


# --- jobs --------------------------------------------------------------------------------------


def test_a_job_is_its_keys_own(app: Flask, client: FlaskClient) -> None:
    one, other = make_key(app, "one"), make_key(app, "other")
    job_id = client.post("/screenshots", json={"url": TARGET}, headers=one).get_json()["job_id"]
    for method, path in (("GET", ""), ("GET", "/image"), ("DELETE", "")):
        found = client.open(f"/jobs/{job_id}{path}", method=method, headers=other)
        assert (found.status_code, slug_of(found)) == (404, "not-found")
    assert client.get(f"/jobs/{job_id}", headers=one).status_code == 200


def test_what_a_key_has_ordered_is_not_done_once_it_is_revoked(app: Flask, client: FlaskClient) -> None:
    jobs, live = app.extensions[EXTENSION].jobs, make_key(app, "live")
    job_id = client.post("/screenshots", json={"url": TARGET}, headers=live).get_json()["job_id"]
    revoked, _token = key_store(app).create("revoked", KeyTerms())
    key_store(app).revoke("revoked")
    job = jobs.wait(jobs.accept(jobs.find(job_id).order, account_of_key(revoked.id)), 20)
    assert describe_job(job, "")["error"] == "unauthorized"


@pytest.mark.parametrize("path", ["/screenshots", "/screenshots/batch"])
def test_a_job_that_stores_needs_the_scope_for_it(app: Flask, client: FlaskClient, path: str) -> None:
    target: dict[str, Any] = {"url": TARGET} if path == "/screenshots" else {"urls": [TARGET], "async": True}
    refused = client.post(path, json=target | {"persist": True}, headers=make_key(app, "a"))
    assert (refused.status_code, slug_of(refused)) == (403, "scope-missing")
    both = make_key(app, "b", Scope.RENDER, Scope.PERSIST)
    assert client.post(path, json=target | {"persist": True}, headers=both).status_code == 202


def test_a_job_is_for_the_keys_hosts_only(app: Flask, client: FlaskClient) -> None:
    key = make_key(app, "a", targets=(parse_host_pattern("example.com"),))
    refused = client.post("/screenshots", json={"url": TARGET}, headers=key)
    assert (refused.status_code, slug_of(refused)) == (403, "target-forbidden")


def test_a_key_for_some_hosts_purges_their_pages_only(app: Flask, client: FlaskClient) -> None:
    key = make_key(app, "a", Scope.PURGE, targets=(parse_host_pattern("example.com"),))
    own, others = "http://example.com/a", "http://example.org/a"
    assert client.delete("/cache", query_string={"url": own}, headers=key).status_code == 200
    assert client.delete("/cache", query_string={"url": others}, headers=key).status_code == 403
    bodies: list[dict[str, Any]] = [
        {"targets": [own, others]},
        {"hosts": ["example.com"]},
        {"everything": True},
    ]
    for body in bodies:
        answer = client.post("/cache/purge", json=body, headers=key)
        assert (answer.status_code, slug_of(answer)) == (403, "target-forbidden"), body
    assert client.post("/cache/purge", json={"targets": [own]}, headers=key).status_code == 200
