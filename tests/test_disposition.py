"""What a picture is called when it is saved, as RFC 6266 and RFC 8187 write it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote

import pytest
from flask import Response
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_options_header

from blueprints.disposition import name_file
from blueprints.schemas import CaptureQuery
from tests.support.pictures import picture
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream


@pytest.fixture(scope="module")
def client() -> Iterator[FlaskClient]:
    with (
        Upstream() as upstream,
        client_of(snapapi_environment(upstream.url, RATELIMIT_ENABLED="false")) as client,
    ):
        yield client


def _disposition(download: str | None, *, url: str = TARGET, content_type: str = "image/png") -> str:
    response = Response(content_type=content_type)
    name_file(response, url, download)
    return response.headers["Content-Disposition"]


@pytest.mark.parametrize(
    ("download", "expected"),
    [
        pytest.param("page", "attachment; filename=page.png", id="the ending is added"),
        pytest.param("page.png", "attachment; filename=page.png", id="the ending is there"),
        pytest.param("page.PNG", "attachment; filename=page.png", id="the ending in capitals"),
        pytest.param("page.jpeg", "attachment; filename=page.png", id="the ending of another format"),
        pytest.param("page.html", "attachment; filename=page.html.png", id="the ending of a program's file"),
        pytest.param("v1.2", "attachment; filename=v1.2.png", id="a dot that begins no ending"),
        pytest.param("my page", 'attachment; filename="my page.png"', id="a space"),
        pytest.param(" .page. ", "attachment; filename=page.png", id="spaces and dots around it"),
        pytest.param("...", "attachment; filename=page.png", id="dots alone"),
        pytest.param(".png", "attachment; filename=png.png", id="an ending alone"),
        pytest.param(
            "Übersicht Köln",
            "attachment; filename=\"Ubersicht Koln.png\"; filename*=UTF-8''%C3%9Cbersicht%20K%C3%B6ln.png",
            id="umlauts",
        ),
        pytest.param(
            "日本", "attachment; filename=page.png; filename*=UTF-8''%E6%97%A5%E6%9C%AC.png", id="no Latin"
        ),
        pytest.param(
            'say "hi"',
            "attachment; filename=\"say _hi_.png\"; filename*=UTF-8''say%20%22hi%22.png",
            id="quotes, which programs unescape differently",
        ),
        pytest.param(
            "50%41",
            "attachment; filename=50_41.png; filename*=UTF-8''50%2541.png",
            id="what some would decode",
        ),
        pytest.param(
            "a;b*c:d|e",
            "attachment; filename=a_b_c_d_e.png; filename*=UTF-8''a%3Bb%2Ac%3Ad|e.png",
            id="what Windows refuses",
        ),
    ],
)
def test_a_picture_is_saved_under_the_name_asked_for(download: str, expected: str) -> None:
    assert _disposition(download) == expected


@pytest.mark.parametrize(
    ("url", "content_type", "expected"),
    [
        pytest.param("http://example.com/a/b", "image/webp", "inline; filename=example.com.webp", id="name"),
        pytest.param("http://example.com:81/", "image/jpeg", "inline; filename=example.com.jpg", id="port"),
        pytest.param("http://93.184.216.34/", "image/avif", "inline; filename=93.184.216.34.avif", id="IPv4"),
        pytest.param("http://[2606:2800::1]/", "image/png", "inline; filename=2606-2800--1.png", id="IPv6"),
        pytest.param("http://xn--bcher-kva.example/", "application/pdf", None, id="an international name"),
    ],
)
def test_a_picture_that_is_shown_is_named_for_its_page(
    url: str, content_type: str, expected: str | None
) -> None:
    shown = expected or "inline; filename=xn--bcher-kva.example.pdf"
    assert _disposition(None, url=url, content_type=content_type) == shown


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100))
def test_every_name_makes_one_safe_header(name: str) -> None:
    if CaptureQuery().validate({"url": TARGET, "download": name}):
        return
    value = _disposition(name)
    assert value.isascii()
    assert value.isprintable()
    kind, options = parse_options_header(value)
    assert kind == "attachment"
    for shown in (options["filename"], unquote(re.sub(r".*''", "", value)) if "*=" in value else "x.png"):
        assert shown.endswith(".png")
        assert not shown.startswith(".")
        assert not re.search(r"[/\\\x00-\x1f\x7f\u202e]", shown)
    plain = re.search(r'filename=("[^"\\]*"|[^\s;"]+)', value)
    assert plain, "nothing in it needs an escape"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="nothing"),
        pytest.param("../../etc/passwd", id="a path"),
        pytest.param("C:\\autoexec", id="a path of Windows"),
        pytest.param("a\r\nSet-Cookie: b=c", id="a header"),
        pytest.param("a\x00.exe", id="the end of a C string"),
        pytest.param("a\x85b", id="a control character of ISO 8859-1"),
        pytest.param("photo\u202egnp.exe", id="what is written backwards"),
        pytest.param("n" * 101, id="too long"),
    ],
)
def test_a_name_that_is_none_is_refused(client: FlaskClient, name: str) -> None:
    for response in (
        client.get("/thumb", query_string={"url": TARGET, "download": name}),
        client.post("/screenshot", json={"url": TARGET, "download": name}),
    ):
        assert response.status_code == 400
        assert list(response.get_json()["errors"]) == ["download"]


def test_half_a_surrogate_pair_is_refused(client: FlaskClient) -> None:
    body = f'{{"url": "{TARGET}", "download": "a\\ud83d"}}'
    response = client.post("/screenshot", data=body, content_type="application/json")
    assert list(response.get_json()["errors"]) == ["download"]


@pytest.mark.parametrize("path", ["/thumb", "/screenshot", "/screenshot/stream"])
def test_every_route_of_pictures_can_be_saved(client: FlaskClient, path: str) -> None:
    query = {"url": f"{TARGET}?{path}", "format": "webp"}
    shown = client.get(path, query_string=query, buffered=True)
    assert shown.headers["Content-Disposition"] == "inline; filename=93.184.216.34.webp"
    saved = client.get(path, query_string=query | {"download": "Straße"}, buffered=True)
    assert saved.headers["Content-Disposition"].startswith("attachment; filename=Strae.webp; filename*=")
    assert saved.data == shown.data == picture("webp")


def test_the_name_follows_the_bytes_and_not_the_request(client: FlaskClient) -> None:
    query = {"url": f"{TARGET}?auto", "format": "auto", "download": "a.png"}
    saved = client.get("/thumb", query_string=query, headers={"Accept": "image/webp"})
    assert saved.headers["Content-Disposition"] == "attachment; filename=a.webp"
    posted = client.post("/screenshot", json={"url": TARGET, "format": "pdf", "download": "a.png"})
    assert posted.headers["Content-Disposition"] == "attachment; filename=a.pdf"
