"""Nothing that one caller sends changes what another gets, and nothing leads anybody elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.service import TARGET, client_of, running_app, running_service, snapapi_environment
from tests.support.upstream import Upstream

EVIL = "evil.example"

#: What belongs to one answer and not to the picture.
OF_THE_REQUEST = {"X-Request-ID", "Date", "Age", "Server-Timing", "X-Cache", "Cache-Status"}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return snapapi_environment(upstream.url, RATELIMIT_ENABLED="false", MEDIA_DIR=str(tmp_path / "media"))


@pytest.fixture
def client(settings: dict[str, str]) -> Iterator[FlaskClient]:
    with client_of(settings) as client:
        yield client


def picture_headers(response: TestResponse) -> dict[str, str]:
    return {name: text for name, text in response.headers.items() if name not in OF_THE_REQUEST}


#: Headers of a caller that are no part of what is asked for.
UNKEYED = {
    "Accept": "image/avif",
    "Accept-Encoding": "gzip, br",
    "Accept-Language": "xx",
    "User-Agent": "Mozilla/5.0 (iPhone) <script>",
    "Cookie": "session=evil; theme=dark",
    "Host": EVIL,
    "X-Forwarded-Host": EVIL,
    "X-Forwarded-Server": EVIL,
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Port": "1337",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-For": "127.0.0.1, 10.0.0.1",
    "X-Real-IP": "127.0.0.1",
    "Forwarded": f"for=127.0.0.1;host={EVIL};proto=gopher",
    "X-Original-URL": "/media/evil",
    "X-Rewrite-URL": "/media/evil",
    "X-HTTP-Method-Override": "DELETE",
    "X-Host": EVIL,
    "Origin": f"https://{EVIL}",
    "Referer": f"https://{EVIL}/",
    "Cache-Control": "no-store, max-age=0",
    "Pragma": "no-cache",
    "Range": "bytes=0-3",
    "If-None-Match": '"evil"',
    "If-Modified-Since": "Wed, 01 Jan 2020 00:00:00 GMT",
    "Prefer": "wait=1",
    "DPR": "3",
    "Save-Data": "on",
    "Via": "1.1 evil",
    "Content-Type": "text/html",
    "X-Request-ID": "evil-request-id",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


@pytest.mark.parametrize("name", UNKEYED)
@pytest.mark.parametrize(
    "path", ["/thumb", "/screenshot", "/screenshot/stream", "/api/screenshot", "/v1/screenshot"]
)
def test_no_header_of_the_first_caller_changes_what_the_next_one_gets(
    client: FlaskClient, upstream: Upstream, path: str, name: str
) -> None:
    def ask(page: str, headers: dict[str, str]) -> TestResponse:
        return client.get(path, query_string={"url": f"{TARGET}?{page}"}, headers=headers, buffered=True)

    ask("control", {})
    ask("attacked", {name: UNKEYED[name]})
    control, attacked = upstream.requests
    assert attacked.json == control.json | {"url": f"{TARGET}?attacked"}
    told = {key.lower(): text for key, text in attacked.headers} | {"content-length": "", "host": ""}
    assert told == {key.lower(): text for key, text in control.headers} | {"content-length": "", "host": ""}

    expected, got = ask("control", {}), ask("attacked", {})
    assert got.headers["X-Cache"] == "HIT"
    assert got.data == expected.data
    varying = {"Last-Modified"}
    headers = {key: text for key, text in picture_headers(got).items() if key not in varying}
    assert headers == {key: text for key, text in picture_headers(expected).items() if key not in varying}
    assert len(upstream.requests) == 2


def test_where_accept_decides_each_has_its_own(client: FlaskClient, upstream: Upstream) -> None:
    kinds = {"image/avif,*/*": "image/avif", "image/webp,*/*": "image/webp", "*/*": "image/png"}
    for accept, expected in (*kinds.items(), *reversed(kinds.items())):
        response = client.get(
            "/thumb",
            query_string={"url": TARGET, "format": "auto"},
            headers={"Accept": accept},
            buffered=True,
        )
        assert response.content_type in (expected, "image/jpeg")
        assert (response.content_type == expected) or accept == "*/*"
        assert "Accept" in response.headers["Vary"]
    assert len(upstream.requests) == 1


#: One picture in other words: each has to be the same as ``url=<TARGET>/a/b``.
SAME = {
    "the scheme in capitals": "url=HTTP://93.184.216.34/page/a/b",
    "the default port": "url=http://93.184.216.34:80/page/a/b",
    "dots in the path": "url=http://93.184.216.34/page/./x/../a/b",
    "encoded dots in the path": "url=http://93.184.216.34/page/%252e/x/%252E%252e/a/b",
    "an encoded query": "url=" + quote("http://93.184.216.34/page/a/b", safe=""),
    "a letter encoded needlessly": "%75rl=http%3A//93.184.216.34/p%61ge/a/b",
    "a default written out": "url=http://93.184.216.34/page/a/b&width=1280&height=720",
    "a default in another order": "format=png&width=1280&url=http://93.184.216.34/page/a/b",
    "a flag as a number": "url=http://93.184.216.34/page/a/b&full_page=0",
    "an empty parameter between": "url=http://93.184.216.34/page/a/b&&",
    "another time to live": "url=http://93.184.216.34/page/a/b&ttl=3600",
}


@pytest.mark.parametrize("query", SAME.values(), ids=SAME.keys())
def test_equal_wishes_share_one_capture(client: FlaskClient, upstream: Upstream, query: str) -> None:
    assert client.get(f"/thumb?url={TARGET}/a/b").headers["X-Cache"] == "MISS"
    assert client.get(f"/thumb?{query}").headers["X-Cache"] == "HIT"
    assert client.head(f"/thumb?{query}").headers["X-Cache"] == "HIT"
    assert len(upstream.requests) == 1


NAMES = {
    "capitals": "http://EXAMPLE.com/",
    "a final dot": "http://example.com./",
    "no path": "http://example.com",
    "a default port": "http://example.com:80/",
    "full width": "http://\uff45\uff58\uff41\uff4d\uff50\uff4c\uff45.com/",
}


@pytest.mark.parametrize("url", NAMES.values(), ids=NAMES.keys())
def test_equal_names_are_one_target(client: FlaskClient, url: str) -> None:
    guard = client.application.extensions["thumbnailer"].guard
    assert guard.parse(url) == guard.parse("http://example.com/")


#: Other pictures: none may be taken for that of ``url=<TARGET>/a/b?x=1&y=2``.
OTHER = {
    "another path's case": f"{TARGET}/A/b?x=1&y=2",
    "a slash at the end": f"{TARGET}/a/b/?x=1&y=2",
    "a double slash": f"{TARGET}//a/b?x=1&y=2",
    "an encoded slash": f"{TARGET}/a%2Fb?x=1&y=2",
    "another order of the query": f"{TARGET}/a/b?y=2&x=1",
    "an encoded ampersand": f"{TARGET}/a/b?x=1%26y=2",
    "a fragment": f"{TARGET}/a/b?x=1&y=2#top",
    "https": f"{TARGET.replace('http:', 'https:')}/a/b?x=1&y=2",
    "another port": f"{TARGET.replace('.34/', '.34:443/')}/a/b?x=1&y=2",
    "no query": f"{TARGET}/a/b",
    "an empty query": f"{TARGET}/a/b?",
}


@pytest.mark.parametrize("url", OTHER.values(), ids=OTHER.keys())
def test_other_targets_never_share_a_capture(client: FlaskClient, upstream: Upstream, url: str) -> None:
    for target in (f"{TARGET}/a/b?x=1&y=2", url):
        assert client.get("/thumb", query_string={"url": target}).headers["X-Cache"] == "MISS"
    assert len({request.json["url"] for request in upstream.requests}) == 2


POLLUTED = {
    "twice": f"url={TARGET}&url=http://{EVIL}/",
    "twice, once encoded": f"url={TARGET}&%75rl=http://{EVIL}/",
    "in capitals": f"url={TARGET}&URL=http://{EVIL}/",
    "as a list": f"url={TARGET}&url[]=http://{EVIL}/",
    "by semicolon": f"width=800;url=http://{EVIL}/&url={TARGET}",
    "with a space": f"url={TARGET}&url%20=http://{EVIL}/",
    "with a NUL": f"url={TARGET}&url%00=http://{EVIL}/",
    "in another Unicode form": f"url={TARGET}&\uff55\uff52\uff4c=http://{EVIL}/",
    "as a key of the cache": f"url={TARGET}&capture_key=x",
    "of tracking": f"url={TARGET}&utm_source=x",
    "without a name": f"url={TARGET}&=x",
}


@pytest.mark.parametrize("query", POLLUTED.values(), ids=POLLUTED.keys())
def test_no_parameter_can_be_smuggled(client: FlaskClient, upstream: Upstream, query: str) -> None:
    assert client.get(f"/thumb?{query}").status_code == 400
    assert upstream.requests == ()


# --- Hosts and redirects -----------------------------------------------------------------------


def _persist(client: FlaskClient, host: str, **headers: str) -> TestResponse:
    return client.post("/persist", json={"url": TARGET}, headers={"Host": host} | headers)


def test_the_operators_address_wins_over_every_host(settings: dict[str, str]) -> None:
    with client_of(settings | {"PUBLIC_BASE_URL": "https://thumbs.example.com/x"}) as client:
        response = _persist(client, EVIL, **{"X-Forwarded-Host": EVIL, "Forwarded": f"host={EVIL}"})
        described = client.post("/api/screenshots", json={"url": TARGET}, headers={"Host": EVIL})
    assert response.headers["Location"].startswith("https://thumbs.example.com/x/media/")
    assert described.get_json()["image_url"].startswith("https://thumbs.example.com/x/api/screenshot?")
    assert EVIL not in response.text + described.text


def test_a_claimed_host_is_kept_nowhere(client: FlaskClient) -> None:
    first = _persist(client, EVIL, **{"Idempotency-Key": "key-of-both"})
    assert first.headers["Location"].startswith(f"http://{EVIL}/media/")  # who claims it, gets it
    for headers in ({}, {"Idempotency-Key": "key-of-both"}):
        response = _persist(client, "thumbs.example.com", **headers)
        assert response.headers["Location"].startswith("http://thumbs.example.com/media/")
        assert EVIL not in response.text + str(response.headers)
    for path in ("/openapi.json", "/docs", "/problems/internal"):
        assert EVIL not in client.get(path, headers={"Host": EVIL}).text


HOSTILE = (
    f"//{EVIL}",
    f"/\\{EVIL}",
    f"https://{EVIL}",
    f"https:{EVIL}",
    f"%2F%2F{EVIL}",
    f"x%0d%0aLocation:%20https://{EVIL}",
    f"..%2F..%2F{EVIL}",
    f"@{EVIL}",
)
NAMES_OF_REDIRECTS = ("next", "url", "redirect", "redirect_uri", "return_to", "continue", "dest", "target")


def _walks(app: Flask) -> Iterator[tuple[str, str]]:
    """Every method of every route, with hostile parts in path and query."""
    for rule in app.url_map.iter_rules():
        for method, hostile in product(sorted(rule.methods or ()), HOSTILE):
            path = rule.rule
            for name in rule.arguments:
                path = "/".join(hostile if f"{name}>" in part else part for part in path.split("/"))
            yield method, path
            yield method, "/" + path  # a slash too many
            yield method, path + "/"
            yield method, path + "?" + "&".join(f"{name}={hostile}" for name in NAMES_OF_REDIRECTS)


def test_no_route_leads_elsewhere(settings: dict[str, str]) -> None:
    asked = set()
    with running_app(settings) as app:
        client = app.test_client()
        for method, path in _walks(app):
            response = client.open(
                path, method=method, headers={"Host": "thumbs.example.com"}, json=None, buffered=True
            )
            asked.add((method, path))
            assert not 300 <= response.status_code < 400, (method, path)
            assert "Location" not in response.headers, (method, path)
            assert "Refresh" not in response.headers
            assert "Set-Cookie" not in response.headers
    assert len(asked) > 500


# --- The same under gunicorn -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "scheme"), [("", "http"), ("10.0.0.0/8", "http"), ("127.0.0.1", "https")]
)
def test_only_a_trusted_proxy_says_how_the_client_came(
    upstream: Upstream, tmp_path: Path, trusted: str, scheme: str
) -> None:
    claims = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": EVIL,
        "Forwarded": f"host={EVIL};proto=https",
        "SCRIPT_NAME": "/evil",
        "Script-Name": "/evil",
        "Path-Info": "/evil",
        "X-Forwarded-Prefix": "/evil",
    }
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="1", TRUSTED_PROXIES=trusted)
    with running_service(tmp_path, settings) as service:
        answer = requests.post(
            f"{service.url}/persist", json={"url": TARGET}, headers=claims, timeout=30, allow_redirects=False
        )
    location = urlsplit(answer.headers["Location"])
    assert (location.scheme, location.netloc) == (scheme, urlsplit(service.url).netloc)
    assert location.path.startswith("/media/")
    assert "evil" not in answer.text + str(answer.headers)


#: Every kind of answer there is, by how it is asked for.
ANSWERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a picture": ("GET", f"/thumb?url={TARGET}", {}),
    "a stream": ("GET", f"/screenshot/stream?url={TARGET}?s", {}),
    "a thumbnail": ("GET", f"/thumb?url={TARGET}&thumb_width=100", {}),
    "a placeholder": ("GET", "/thumb?url=http://127.0.0.1/&on_error=placeholder", {}),
    "a problem": ("GET", "/thumb?url=http://127.0.0.1/", {}),
    "a vendor's error": ("GET", "/api/screenshot?url=http://127.0.0.1/", {}),
    "another vendor's error": ("GET", "/v1/screenshot?url=http://127.0.0.1/", {}),
    "a picture as text": ("POST", "/v1/screenshot", {"json": {"url": TARGET, "responseType": "base64"}}),
    "a description": ("POST", "/persist", {"json": {"url": TARGET}}),
    "nothing there": ("GET", "/nowhere", {}),
    "no such image": ("GET", "/media/nothing.png", {}),
    "no such method": ("DELETE", "/thumb", {}),
    "no such file": ("GET", "/docs/assets/nothing.js", {}),
    "a file": ("GET", "/docs/assets/swagger-ui.css", {}),
    "a page": ("GET", "/docs", {}),
    "the playground": ("GET", "/", {}),
    "its script": ("GET", "/static/playground.js", {}),
    "a page about a problem": ("GET", "/problems/internal", {}),
    "health": ("GET", "/health", {}),
    "readiness": ("GET", "/ready", {}),
    "the document": ("GET", "/openapi.json", {}),
    "a body too large": ("POST", "/persist", {"data": b" " * 1_100_000}),
    "an odd host": ("GET", "/health", {"headers": {"Host": "a/b"}}),
}


@pytest.mark.parametrize(("method", "path", "more"), ANSWERS.values(), ids=ANSWERS.keys())
def test_every_answer_is_safe_in_a_browser(
    client: FlaskClient, method: str, path: str, more: dict[str, Any]
) -> None:
    response = client.open(path, method=method, buffered=True, **more)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    policy = response.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy or ("default-src 'self'" in policy and "frame-ancestors" in policy)
    assert response.headers["Cross-Origin-Resource-Policy"] in ("same-origin", "cross-origin")
    is_shown_elsewhere = response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
    assert is_shown_elsewhere == response.content_type.startswith("image/")
    assert len(response.headers.getlist("Content-Security-Policy")) == 1


def test_a_stored_image_is_safe_in_a_browser(client: FlaskClient) -> None:
    path = urlsplit(client.post("/persist", json={"url": TARGET}).headers["Location"]).path
    response = client.get(path, buffered=True)
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Content-Security-Policy"] == "default-src 'none'"
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
