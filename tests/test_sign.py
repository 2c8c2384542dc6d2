"""POST /sign, POST /sign/debug and flask sign: what is signed is answered, what would be refused is not."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from blueprints.openapi import SIGN_DEBUG_PROBLEMS
from tests.support.access import make_key, sqlite_url
from tests.support.service import PROJECT, TARGET, client_of, running_app, snapapi_environment
from tests.support.upstream import Upstream
from tests.support.vectors import KEYS, SIGNING_KEYS, VECTORS
from thumbnailer.host_patterns import parse_host_pattern
from thumbnailer.keys import Scope
from thumbnailer.signing import UrlSigner, parse_signing_keys

AWKWARD = f"{TARGET}?q=a+b&x=100%25&Köln=🍕#top"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def closed(upstream: Upstream, folder: Path, **more: str) -> dict[str, str]:
    settings = {
        "DATABASE_URL": sqlite_url(folder),
        "RATELIMIT_ENABLED": "false",
        "SIGNING_KEYS": SIGNING_KEYS,
    }
    return snapapi_environment(upstream.url, **(settings | more))


@pytest.fixture
def app(upstream: Upstream, tmp_path: Path) -> Iterator[Flask]:
    presets = "card:thumb_width=400,format=webp"
    with running_app(closed(upstream, tmp_path, PRESETS=presets, TTL_MIN="120")) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def key(app: Flask) -> dict[str, str]:
    return make_key(app, "site")


def refused(answer: Any, slug: str) -> dict[str, Any]:
    document: dict[str, Any] = answer.get_json()
    assert document["type"] == f"/problems/{slug}", document
    return document


# --- POST /sign -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "query"),
    [
        pytest.param({}, {}, id="a target alone"),
        pytest.param(
            {"thumb_width": 400, "dpr": 2.0, "full_page": True, "dark_mode": False, "format": "auto"},
            {"thumb_width": "400", "dpr": "2", "full_page": "true", "dark_mode": "false", "format": "auto"},
            id="numbers and flags",
        ),
        pytest.param({"dpr": 1.5, "thumb_width": 300}, {"dpr": "1.5", "thumb_width": "300"}, id="a fraction"),
        pytest.param({"preset": "card"}, {"preset": "card"}, id="a preset"),
        pytest.param({"selector": "#a > .b + c"}, {"selector": "#a > .b + c"}, id="a selector"),
        pytest.param(
            {"wait": 5, "on_error": "status"}, {"wait": "5", "on_error": "status"}, id="options of the query"
        ),
        pytest.param({"fresh": True}, {"fresh": "true"}, id="a fresh one"),
        pytest.param({"path": "/screenshot", "format": "pdf"}, {"format": "pdf"}, id="a capture"),
        pytest.param({"path": "/screenshot/stream"}, {}, id="a stream"),
    ],
)
def test_what_is_signed_is_answered_to_anybody(
    client: FlaskClient, key: dict[str, str], upstream: Upstream, body: dict[str, Any], query: dict[str, str]
) -> None:
    signed = client.post("/sign", json={"url": AWKWARD, **body}, headers=key)
    assert signed.status_code == 200, signed.get_json()
    answer = signed.get_json()
    assert signed.headers["Cache-Control"] == "no-store"
    parts = urlsplit(answer["url"])
    assert (answer["path"], answer["kid"], answer["exp"]) == (body.get("path", "/thumb"), "k1", None)
    assert parse_qs(parts.query) == {
        name: [value] for name, value in ({"url": AWKWARD, "kid": "k1", "sig": answer["sig"]} | query).items()
    }
    seen = client.get(f"{parts.path}?{parts.query}", buffered=True)
    assert seen.status_code == 200, seen.get_json(silent=True)
    assert seen.headers["Cache-Control"].startswith("public")


def test_an_end_is_signed_and_told(client: FlaskClient, key: dict[str, str]) -> None:
    exp = int(time.time()) + 1000
    answer = client.post("/sign", json={"url": TARGET, "exp": exp}, headers=key).get_json()
    assert answer["exp"] == exp
    assert f"exp={exp}&kid=k1&url=" in answer["url"]


def test_every_url_ends_where_the_operator_wants_that(upstream: Upstream, tmp_path: Path) -> None:
    with running_app(closed(upstream, tmp_path, SIGNED_URL_MAX_SECONDS="3600")) as app:
        client, key = app.test_client(), make_key(app, "site")
        before = int(time.time())
        answer = client.post("/sign", json={"url": TARGET}, headers=key).get_json()
        assert before + 3600 <= answer["exp"] <= time.time() + 3600
        parts = urlsplit(answer["url"])
        assert client.get(f"{parts.path}?{parts.query}").status_code == 200
        later = client.post("/sign", json={"url": TARGET, "exp": before + 9999}, headers=key)
        assert set(refused(later, "invalid-parameters")["errors"]) == {"exp"}


@pytest.mark.parametrize(
    ("base", "start"),
    [
        pytest.param(
            "https://example.com/service/thumbs", "https://example.com/service/thumbs/thumb?", id="published"
        ),
        pytest.param(None, "http://localhost/thumb?", id="the caller's host"),
    ],
)
def test_the_url_starts_where_the_service_is_published(
    upstream: Upstream, tmp_path: Path, base: str | None, start: str
) -> None:
    more = {"PUBLIC_BASE_URL": base} if base else {}
    with running_app(closed(upstream, tmp_path, **more)) as app:
        client, key = app.test_client(), make_key(app, "site")
        url = client.post("/sign", json={"url": TARGET}, headers=key).get_json()["url"]
        assert url.startswith(start)
        assert client.get(f"/thumb?{urlsplit(url).query}").status_code == 200
        judged = client.post("/sign/debug", json={"url": url}, headers=key).get_json()
        assert judged["valid"]
        assert judged["string_to_sign"].startswith("v1\n/thumb?")


@pytest.mark.parametrize(
    ("body", "slug", "field"),
    [
        pytest.param({"url": None}, "invalid-parameters", "url", id="no target"),
        pytest.param(
            {"url": "ftp://example.com/"}, "target-forbidden", None, id="a scheme that is never visited"
        ),
        pytest.param({"url": "http://127.0.0.1/"}, "target-forbidden", None, id="a private address"),
        pytest.param({"colour": "red"}, "invalid-parameters", "colour", id="an unknown option"),
        pytest.param({"width": 5000}, "invalid-parameters", "width", id="an option out of range"),
        pytest.param({"width": "800"}, "invalid-parameters", "width", id="text for a number"),
        pytest.param({"fit": "cover"}, "invalid-parameters", "fit", id="options that do not go together"),
        pytest.param({"ttl": 60}, "invalid-parameters", "ttl", id="beyond the operator's bounds"),
        pytest.param({"preset": "none"}, "invalid-parameters", "preset", id="an unknown preset"),
        pytest.param({"format": "pdf"}, "invalid-parameters", "format", id="a format that the route has not"),
        pytest.param({"stream": True}, "invalid-parameters", "stream", id="an option of another route"),
        pytest.param(
            {"wait": 5, "path": "/screenshot"}, "invalid-parameters", "wait", id="an option of thumbnails"
        ),
        pytest.param({"hide_selectors": [".a"]}, "invalid-parameters", "hide_selectors", id="a list"),
        pytest.param({"fail_on_status": "404"}, "option-unsupported", "fail_on_status", id="no provider can"),
        pytest.param(
            {"path": "/persist"}, "invalid-parameters", "path", id="a route that takes no signature"
        ),
        pytest.param({"path": "thumb"}, "invalid-parameters", "path", id="no path"),
        pytest.param({"exp": 1}, "invalid-parameters", "exp", id="an end that is past"),
        pytest.param({"exp": "4102444800"}, "invalid-parameters", "exp", id="an end in text"),
        pytest.param({"exp": 4_102_444_800_000}, "invalid-parameters", "exp", id="an end in milliseconds"),
        pytest.param({"css": "a {}"}, "invalid-parameters", "css", id="an option that needs a key"),
        pytest.param({"js": "1"}, "invalid-parameters", "js", id="an option that needs a scope"),
        pytest.param({"sig": "a"}, "invalid-parameters", "sig", id="a signature"),
        pytest.param({"kid": "k2"}, "invalid-parameters", "kid", id="a key id"),
        pytest.param({"url": f"{TARGET}?{'🍕' * 1000}"}, "invalid-parameters", "url", id="too long a URL"),
    ],
)
def test_nothing_is_signed_that_would_be_refused(
    client: FlaskClient, key: dict[str, str], body: dict[str, Any], slug: str, field: str | None
) -> None:
    whole = {name: value for name, value in ({"url": TARGET} | body).items() if value is not None}
    document = refused(client.post("/sign", json=whole, headers=key), slug)
    if field:
        assert set(document["errors"]) == {field}


@pytest.mark.parametrize("path", ["/sign", "/sign/debug"])
def test_signing_takes_a_key_that_may_render(client: FlaskClient, app: Flask, path: str) -> None:
    other = make_key(app, "purger", Scope.PURGE)
    body = {"url": f"{TARGET}?a"}
    assert client.post(path, json=body).status_code == 401
    refused(client.post(path, json=body, headers=other), "scope-missing")
    signer = UrlSigner(parse_signing_keys(SIGNING_KEYS))
    signed = signer.sign(path, [("url", TARGET)], now=time.time())
    assert client.post(str(signed), json=body).status_code == 401, "a signature signs no further URLs"


def test_a_key_signs_for_its_own_hosts_only(client: FlaskClient, app: Flask) -> None:
    key = make_key(app, "narrow", targets=(parse_host_pattern("93.184.216.35"),))
    refused(client.post("/sign", json={"url": TARGET}, headers=key), "target-forbidden")
    assert client.post("/sign", json={"url": "http://93.184.216.35/"}, headers=key).status_code == 200


def test_signing_takes_no_picture_and_looks_nothing_up(
    client: FlaskClient, key: dict[str, str], upstream: Upstream
) -> None:
    assert client.post("/sign", json={"url": "http://page.example.com/"}, headers=key).status_code == 200
    assert upstream.requests == ()


@pytest.mark.parametrize("path", ["/sign", "/sign/debug"])
def test_a_service_without_signing_keys_says_so(upstream: Upstream, path: str) -> None:
    with client_of(snapapi_environment(upstream.url)) as client:
        answer = client.post(path, json={"url": "http://93.184.216.34/thumb"})
        assert "SIGNING_KEYS" in refused(answer, "not-found")["detail"]


# --- POST /sign/debug -------------------------------------------------------------------------


@pytest.mark.parametrize("vector", [one for one in VECTORS if one.path == "/thumb"], ids=lambda one: one.name)
def test_the_text_of_every_vector_is_told(client: FlaskClient, key: dict[str, str], vector: Any) -> None:
    url = vector.url.removeprefix(vector.base)
    answer = client.post("/sign/debug", json={"url": url}, headers=key).get_json()
    is_over = vector.exp is not None and vector.exp < time.time()
    assert answer["string_to_sign"] == vector.string_to_sign
    assert answer["valid"] is not is_over
    assert [one["code"] for one in answer["findings"]] == (["expired"] if is_over else [])


def test_what_is_wrong_is_told_and_the_right_signature_is_not(
    client: FlaskClient, key: dict[str, str]
) -> None:
    good = next(one for one in VECTORS if one.name == "options are sorted by name")
    query = urlsplit(good.url).query
    answer = client.post("/sign/debug", json={"url": f"/thumb?{query}&delay=5"}, headers=key)
    assert [one["code"] for one in answer.get_json()["findings"]] == ["parameter-added"]
    wrong = query.replace("thumb_width=400", "thumb_width=500")
    answer = client.post("/sign/debug", json={"url": f"/thumb?{wrong}"}, headers=key)
    document = answer.get_json()
    assert [one["code"] for one in document["findings"]] == ["unknown"]
    signer = UrlSigner(parse_signing_keys(f"k1:{KEYS['k1']}"))
    changed = [("url", "https://example.com/"), ("thumb_width", "500"), ("format", "auto")]
    right = signer.sign("/thumb", changed, now=0)
    assert document["string_to_sign"] == f"v1\n/thumb?{right.query}"
    assert right.sig not in answer.text
    assert not any(digits in answer.text for digits in KEYS.values())


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param("/thumb?url=%FF&sig=a", "UTF-8", id="bytes that are no UTF-8"),
        pytest.param("/th%FFumb?url=a&sig=a", "UTF-8", id="the same in the path"),
        pytest.param("https://thumbs.example.com?url=a&sig=a", "path", id="no path"),
        pytest.param("thumb?url=a&sig=a", "path", id="a relative path"),
        pytest.param("http://[::1/thumb?sig=a", "URL", id="no URL"),
        pytest.param(f"/thumb?url={'a' * 17000}", "16384", id="too long"),
        pytest.param(f"/thumb?sig=a{'&a=' * 100}", "100 parameters", id="too many parameters"),
    ],
)
def test_what_is_no_url_is_refused(client: FlaskClient, key: dict[str, str], url: str, message: str) -> None:
    document = refused(client.post("/sign/debug", json={"url": url}, headers=key), "invalid-parameters")
    assert message in document["errors"]["url"][0]


def test_a_path_that_takes_no_signature_is_named(client: FlaskClient, key: dict[str, str]) -> None:
    signed = UrlSigner(parse_signing_keys(SIGNING_KEYS)).sign("/persist", [("url", TARGET)], now=0)
    document = client.post("/sign/debug", json={"url": str(signed)}, headers=key).get_json()
    assert (document["valid"], [one["code"] for one in document["findings"]]) == (False, ["route"])


def test_the_problem_page_of_a_bad_signature_names_the_way_to_learn_more(client: FlaskClient) -> None:
    assert "/sign/debug" in client.get("/problems/signature-invalid").text
    assert "signature-invalid" not in SIGN_DEBUG_PROBLEMS


# --- flask sign -------------------------------------------------------------------------------


def test_the_command_signs_what_the_service_answers(app: Flask, client: FlaskClient) -> None:
    options = ["--path", "/screenshot", "--exp", "2h", "-o", "selector=a + b", "--option", "format=jpeg"]
    done = app.test_cli_runner().invoke(args=["sign", AWKWARD, *options])
    assert done.exit_code == 0, done.output
    parameters = parse_qs(urlsplit(done.output.strip()).query)
    assert (parameters["url"], parameters["selector"], parameters["format"]) == (
        [AWKWARD],
        ["a + b"],
        ["jpeg"],
    )
    assert 7100 < int(parameters["exp"][0]) - time.time() <= 7200
    answer = client.get(done.output.strip(), buffered=True)
    assert (answer.status_code, answer.content_type) == (200, "image/jpeg")


def test_the_command_writes_whole_urls_where_the_service_is_published(
    upstream: Upstream, tmp_path: Path
) -> None:
    with running_app(closed(upstream, tmp_path, PUBLIC_BASE_URL="https://example.com/t")) as app:
        done = app.test_cli_runner().invoke(args=["sign", TARGET, "--exp", "4102444800"])
        assert done.output.startswith("https://example.com/t/thumb?exp=4102444800&kid=k1&url=")


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param(["ftp://example.com/"], "http or https", id="a target that is forbidden"),
        pytest.param([TARGET, "-o", "colour=red"], "colour: Unknown field.", id="an unknown option"),
        pytest.param([TARGET, "-o", "width"], "such as thumb_width=400", id="no value"),
        pytest.param([TARGET, "-o", "width=800", "-o", "width=900"], "repeated", id="an option twice"),
        pytest.param([TARGET, "-o", "url=http://x/"], "repeated", id="the target twice"),
        pytest.param([TARGET, "-o", "sig=a"], "sig: Is set by signing itself.", id="a signature"),
        pytest.param(
            [TARGET, "--exp", "1000000000"], "exp: Must be later than now.", id="an end that is past"
        ),
        pytest.param([TARGET, "--exp", "soon"], "must be such as 30d", id="no time"),
        pytest.param([TARGET, "--path", "/persist"], "is not one of", id="a route that takes no signature"),
    ],
)
def test_the_command_says_what_is_wrong(app: Flask, arguments: list[str], fault: str) -> None:
    done = app.test_cli_runner().invoke(args=["sign", *arguments])
    assert done.exit_code != 0
    assert fault in done.output
    assert "Traceback" not in done.output


def test_the_command_says_that_keys_are_missing(upstream: Upstream) -> None:
    with running_app(snapapi_environment(upstream.url)) as app:
        done = app.test_cli_runner().invoke(args=["sign", TARGET])
        assert done.exit_code == 1
        assert "SIGNING_KEYS" in done.output


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


def test_every_finding_is_documented_and_no_other() -> None:
    mistakes = read("thumbnailer/signature_mistakes.py")
    sources = read("thumbnailer/signature_faults.py") + mistakes + read("blueprints/signing.py")
    told = set(re.findall(r'(?:Finding|Mistake)\(\s*"([a-z-]+)"', sources))
    told |= set(re.findall(r'^ {8}\("([a-z-]+)", "', mistakes, re.MULTILINE))
    section = read("docs/signing.md").partition("## Why a signature does not fit\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    assert told == {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)}
