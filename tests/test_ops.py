"""What operators and probes see: health, readiness, and the pages that explain."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import redis
from flask.testing import FlaskClient

from blueprints.problems import PROBLEMS
from blueprints.services import EXTENSION
from tests.support.answers import refusing_url
from tests.support.processes import free_port, running_redis
from tests.support.s3 import Fault, forget_aws_settings, refusing_s3, small_s3
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.stores import silent_server
from tests.support.upstream import Upstream

WORKING = {"cache": "ok", "database": "ok", "jobs": "ok", "limiter": "ok", "provider": "ok", "storage": "ok"}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return snapapi_environment(upstream.url, MEDIA_DIR=str(tmp_path / "media"))


@pytest.fixture
def client(settings: dict[str, str]) -> Iterator[FlaskClient]:
    with client_of(settings) as client:
        yield client


def _assert_ready(client: FlaskClient, status: str, **differently: str) -> None:
    response = client.get("/ready")
    document = response.get_json()
    assert document.keys() == {"status", "parts", "providers", "jobs"}
    assert (document["status"], document["parts"]) == (status, WORKING | differently)
    assert response.status_code == (503 if status == "down" else 200)
    assert response.headers["Cache-Control"] == "no-store"


def test_health_says_that_the_process_lives(client: FlaskClient) -> None:
    response = client.get("/health")
    assert (response.status_code, response.get_json()) == (200, {"ok": True})


def test_parts_are_tried_at_the_same_time(client: FlaskClient) -> None:
    """A probe waits for the slowest of those that are silent, not for one after the other."""
    checks: Any = client.application.extensions[EXTENSION].checks
    all_tried = threading.Barrier(len(checks))
    for name in checks:
        checks[name] = lambda: all_tried.wait(20) >= 0
    _assert_ready(client, "ready")


def test_parts_are_tried_once_for_all_who_ask_within_a_second_and_anew_for_who_comes_later(
    settings: dict[str, str],
) -> None:
    with small_s3() as s3:
        bucket = {"S3_BUCKET": "thumbs", "S3_ENDPOINT_URL": s3.endpoint_url, "READY_SECONDS": "60"}
        keys = {"S3_ACCESS_KEY_ID": "key", "S3_SECRET_ACCESS_KEY": "secret"}
        with client_of(settings | bucket | keys) as client:
            first = client.get("/ready").get_json()
            tried = len(s3.requests)
            assert tried
            for path in ("/ready", "/metrics", "/ready"):
                assert client.get(path).status_code == 200
            assert client.get("/ready").get_json() == first
            assert len(s3.requests) == tried
        with client_of(settings | bucket | keys | {"READY_SECONDS": "0"}) as client:
            for _ in range(3):
                client.get("/ready")
            assert len(s3.requests) == 4 * tried


def test_health_touches_nothing(settings: dict[str, str], upstream: Upstream) -> None:
    with (
        silent_server() as (url, connections),
        small_s3() as s3,
        client_of(
            settings | {"REDIS_URL": url, "S3_BUCKET": "thumbs", "S3_ENDPOINT_URL": s3.endpoint_url}
        ) as client,
    ):
        for _ in range(3):
            assert client.get("/health").status_code == 200
        assert connections == []
        assert s3.requests == []
    assert upstream.requests == ()


def test_ready_names_every_part_and_calls_no_upstream(client: FlaskClient, upstream: Upstream) -> None:
    _assert_ready(client, "ready")
    assert upstream.requests == ()


def test_where_no_job_waits_the_oldest_has_waited_for_no_time_at_all(client: FlaskClient) -> None:
    assert client.get("/ready").get_json()["jobs"]["oldest_seconds"] == 0


def test_ready_with_redis(settings: dict[str, str], redis_url: str) -> None:
    with client_of(settings | {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": "ops:"}) as client:
        _assert_ready(client, "ready")


def test_a_connection_to_redis_looks_for_no_package(
    settings: dict[str, str], redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """redis-py would tell Redis its own version, which takes it 5 ms to find, for each connection."""
    monkeypatch.setattr("redis.utils.get_lib_version", lambda: pytest.fail("the version was looked for"))
    with client_of(settings | {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": "package:"}) as client:
        _assert_ready(client, "ready")
        assert client.get("/thumb", query_string={"url": TARGET}).status_code == 200


@pytest.mark.parametrize("limiter_apart", [True, False])
def test_without_its_redis_it_is_degraded_and_not_down(settings: dict[str, str], limiter_apart: bool) -> None:
    dead = refusing_url().replace("http", "redis")
    name = "LIMITER_REDIS_URL" if limiter_apart else "REDIS_URL"
    with client_of(settings | {name: dead}) as client:
        parts = {"limiter": "down"} if limiter_apart else {"limiter": "down", "cache": "down"}
        _assert_ready(client, "degraded", **parts)


@pytest.mark.parametrize("trouble", ["full", "a replica"])
def test_a_redis_that_takes_nothing_is_found_out(
    settings: dict[str, str], tmp_path: Path, trouble: str
) -> None:
    with (
        running_redis(tmp_path) as url,
        redis.Redis.from_url(url) as server,
        client_of(settings | {"REDIS_URL": url}) as client,
    ):
        _assert_ready(client, "ready")
        if trouble == "full":
            server.config_set("maxmemory", 1)
        else:
            server.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        _assert_ready(client, "degraded", cache="down", limiter="down")
        assert client.get("/thumb", query_string={"url": TARGET}).status_code == 200
        server.config_set("maxmemory", 0)
        server.execute_command("REPLICAOF", "NO", "ONE")
        _assert_ready(client, "ready")


def test_a_silent_redis_is_found_out(settings: dict[str, str]) -> None:
    with silent_server() as (url, _), client_of(settings | {"REDIS_URL": url}) as client:
        _assert_ready(client, "degraded", cache="down", limiter="down")


def test_a_media_folder_that_cannot_be_written_is_found_out(client: FlaskClient, tmp_path: Path) -> None:
    (tmp_path / "media").write_text("a file where the folder should be")
    _assert_ready(client, "degraded", storage="down")


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(refusing_s3, id="refuses connections"),
        pytest.param(lambda: small_s3(Fault.ACCESS_DENIED), id="refuses our key"),
        pytest.param(lambda: small_s3(Fault.NO_SUCH_BUCKET), id="knows no such bucket"),
    ],
)
def test_a_bucket_out_of_reach_is_found_out(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, broken: object
) -> None:
    forget_aws_settings(monkeypatch)
    assert callable(broken)
    with broken() as s3:
        bucket = {
            "S3_BUCKET": "thumbs",
            "S3_ENDPOINT_URL": s3.endpoint_url,
            "S3_ADDRESSING_STYLE": "path",
            "S3_ACCESS_KEY_ID": "AKIDOFTHETESTS",
            "S3_SECRET_ACCESS_KEY": "secret-of-the-tests",
        }
        with client_of(settings | bucket) as client:
            _assert_ready(client, "degraded", storage="down")


@pytest.fixture
def browser(tmp_path: Path) -> Path:
    path = tmp_path / "browser"
    path.touch(mode=0o700)
    return path


def test_without_a_browser_it_is_down(settings: dict[str, str], browser: Path) -> None:
    with client_of(settings | {"PROVIDERS": "chromium", "CHROMIUM_PATH": str(browser)}) as client:
        _assert_ready(client, "ready")
        browser.unlink()
        _assert_ready(client, "down", provider="down")
        assert client.get("/health").status_code == 200


def test_one_working_provider_is_enough(settings: dict[str, str], browser: Path) -> None:
    with client_of(settings | {"PROVIDERS": "chromium,snapapi", "CHROMIUM_PATH": str(browser)}) as client:
        browser.unlink()
        _assert_ready(client, "ready")


class _Links(HTMLParser):
    """Collects what a page refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "data-document")]
        self.scripts += [name for name, _ in attrs if name.startswith("on") or name == "style"]

    def handle_data(self, data: str) -> None:
        if self.get_starttag_text() == "<script>" and data.strip():
            self.scripts.append(data)


@pytest.mark.parametrize("path", ["/docs", *(f"/problems/{slug}" for slug in sorted(PROBLEMS))])
def test_a_page_loads_nothing_from_elsewhere_and_its_links_lead_somewhere(
    client: FlaskClient, path: str
) -> None:
    page = client.get(path)
    assert page.status_code == 200
    assert page.content_type == "text/html; charset=utf-8"
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'self'; ")
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    links = _Links(page.text)
    assert links.found
    assert links.scripts == [], "the policy forbids scripts within the page"
    for link in links.found:
        assert re.match(r"[a-z.][^:]*$", link), "relative, so that it works below a prefix"
        assert client.get(urljoin(path, link), buffered=True).status_code == 200, link


@pytest.mark.parametrize("slug", ["nothing", "..%2f..", "<script>alert(1)</script>", "INTERNAL"])
def test_a_problem_that_does_not_exist_has_no_page(client: FlaskClient, slug: str) -> None:
    response = client.get(f"/problems/{slug}")
    assert response.status_code == 404
    assert response.content_type == "application/problem+json"
    assert "<script>" not in response.text


def test_swagger_ui_is_told_where_the_document_is_and_asks_nobody_else(client: FlaskClient) -> None:
    script = client.get("/static/docs.js", buffered=True).text
    assert "http" not in script
    assert "validatorUrl: null" in script
    assert 'data-document="openapi.json"' in client.get("/docs").text


@pytest.mark.parametrize("path", ["/health", "/ready", "/docs", "/", "/openapi.json"])
def test_head_is_answered_too(client: FlaskClient, path: str) -> None:
    response = client.head(path)
    assert (response.status_code, response.data) == (200, b"")


@pytest.mark.parametrize("path", ["/health", "/ready", "/docs", "/", "/openapi.json", "/problems/internal"])
def test_probes_and_pages_are_not_limited(settings: dict[str, str], path: str) -> None:
    with client_of(settings | {"LIMIT_CACHED": "1 per hour"}) as client:
        assert [client.get(path).status_code for _ in range(3)] == [200, 200, 200]
