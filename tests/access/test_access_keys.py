"""What a key opens: how it is given, its hosts, its jobs, and what it leaves behind."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from blueprints.job_answers import describe_job
from blueprints.services import EXTENSION
from tests.support.access import ask, key_store, make_key, slug_of
from tests.support.service import TARGET
from tests.support.upstream import Upstream
from thumbnailer.accounts import account_of_key
from thumbnailer.host_patterns import parse_host_pattern
from thumbnailer.keys import KeyTerms, Scope


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


def test_a_job_or_batch_is_its_keys_own(
    app: Flask, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other, cancelled = make_key(app, "one"), make_key(app, "other"), list[str]()
    monkeypatch.setattr(app.extensions[EXTENSION].jobs, "cancel", cancelled.append)
    job = "/jobs/" + client.post("/screenshots", json={"url": TARGET}, headers=one).get_json()["job_id"]
    order = {"urls": [TARGET], "async": True}
    batch = "/batches/" + client.post("/screenshots/batch", json=order, headers=one).get_json()["batch_id"]
    theirs = [
        ("GET", job),
        ("GET", f"{job}/image"),
        ("DELETE", job),
        ("GET", batch),
        ("GET", f"{batch}/download"),
    ]
    for method, path in theirs:
        found = client.open(path, method=method, headers=other)
        assert (found.status_code, slug_of(found)) == (404, "not-found")
    assert [client.get(path, headers=one).status_code for path in (job, batch)] == [200, 200]
    assert cancelled == []


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
