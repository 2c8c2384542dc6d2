"""The OpenAPI document says which options there are and what they may be: held against what is validated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema
import pytest
from flask.testing import FlaskClient

from tests.support.openapi import BODIES, usual
from tests.support.service import TARGET
from thumbnailer.devices import DEVICES

#: Type, least, greatest and default value of the options that are numbers: the contract with the callers.
NUMBERS = {
    "width": ("integer", 320, 3840, 1280),
    "height": ("integer", 240, 2160, 720),
    "device_scale_factor": ("number", 1, 3, 1),
    "quality": ("integer", 1, 100, None),
    "thumb_width": ("integer", 16, 2000, None),
    "thumb_height": ("integer", 16, 2000, None),
    "dpr": ("number", 1, 3, 1),
    "delay": ("integer", 0, 10_000, 0),
    "ttl": ("integer", 60, 2_592_000, 86_400),
}
FLAGS = ("fresh", "retina", "full_page", "dark_mode", "reduced_motion", "block_ads", "block_cookie_banners")
CHOICES = {
    "format": {"png", "jpeg", "webp", "avif", "auto"},
    "fit": {"inside", "cover", "contain"},
    "wait_until": {"load", "domcontentloaded", "networkidle"},
    "device": set(DEVICES),
}
TEXTS = ("selector", "clip", "wait_for", "hide_selectors", "user_agent", "locale", "timezone", "geolocation")
OPTIONS = {"url", "fail_on_status", "preset", "css", "js", *NUMBERS, *FLAGS, *CHOICES, *TEXTS}


def _parameters(document: Mapping[str, Any], path: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document["paths"][path]["get"]["parameters"]}


def test_thumb_documents_every_option_and_no_other(document: dict[str, Any]) -> None:
    more = {"on_error", "download", "wait", "sig", "exp", "kid"}
    assert set(_parameters(document, "/thumb")) == OPTIONS | more
    assert all(one["description"] for one in _parameters(document, "/thumb").values())


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_is_documented_as_it_is_validated(
    client: FlaskClient, document: dict[str, Any], name: str
) -> None:
    kind, least, greatest, default = NUMBERS[name]
    schema = _parameters(document, "/thumb")[name]["schema"]
    assert (schema["type"], schema["minimum"], schema["maximum"]) == (kind, least, greatest)
    told = usual(_parameters(document, "/thumb")[name])
    assert told == (None if default is None else str(default))
    query = {"url": TARGET, "format": "jpeg", "thumb_width": "64"}
    for value, status in ((least, 200), (greatest, 200), (least - 1, 400), (greatest + 1, 400)):
        assert client.get("/thumb", query_string=query | {name: str(value)}).status_code == status, value


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_is_documented_as_it_is_validated(
    client: FlaskClient, document: dict[str, Any], name: str
) -> None:
    assert _parameters(document, "/thumb")[name]["schema"]["type"] == "boolean"
    for value, status in (("true", 200), ("false", 200), ("yes", 400), ("", 400), ("True", 400)):
        assert client.get("/thumb", query_string={"url": TARGET, name: value}).status_code == status, value


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_is_documented_as_it_is_validated(
    client: FlaskClient, document: dict[str, Any], name: str
) -> None:
    assert set(_parameters(document, "/thumb")[name]["schema"]["enum"]) == CHOICES[name]
    for value in CHOICES[name]:
        query = {"url": TARGET, "thumb_width": "64", name: value}
        assert client.get("/thumb", query_string=query).status_code == 200, value
    assert client.get("/thumb", query_string={"url": TARGET, name: "other"}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        *("/thumb", "/screenshot", "/v1/screenshot"),
        *("/api/screenshot", "/api/screenshot/cached", "/api/screenshot/stream"),
    ],
)
def test_the_documented_defaults_are_those_that_apply(
    client: FlaskClient, document: dict[str, Any], path: str
) -> None:
    defaults = {
        name: told
        for name, one in _parameters(document, path).items()
        if (told := usual(one)) and name != "stream"
    }
    assert {"width", "height", "format", "block_ads"} <= defaults.keys()
    target = {"url": f"{TARGET}?{path}"}
    plain = client.get(path, query_string=target, buffered=True)
    spelled = client.get(path, query_string=target | defaults)
    assert (plain.status_code, plain.headers["X-Cache"]) == (200, "MISS")
    assert (spelled.status_code, spelled.headers["X-Cache"]) == (200, "HIT"), spelled.text


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("full_page", "Must be true or false."),
        ("thumb_width", "Must be a whole number."),
        ("dpr", "Must be a number."),
    ],
)
def test_what_an_option_has_to_be_is_told_where_it_is_something_else(
    client: FlaskClient, name: str, told: str
) -> None:
    for answer in (
        client.get("/screenshot", query_string={"url": TARGET, name: "yes"}),
        client.post("/screenshot", json={"url": TARGET, name: "yes"}),
    ):
        assert answer.get_json()["errors"] == {name: [told]}


def test_json_bodies_hold_the_same_options_and_refuse_others(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name, more in BODIES.items():
        assert set(schemas[name]["properties"]) == OPTIONS | more
        assert schemas[name]["additionalProperties"] is False
        assert schemas[name]["required"] == ["url"]


@pytest.mark.parametrize(
    ("name", "secrets", "is_good"),
    [
        pytest.param("ScreenshotBody", {"headers": {"X-A": "b"}, "cookies": {"a": "b"}}, True, id="both"),
        pytest.param("SnapApiBody", {"extraHeaders": {"X-A": "b"}}, True, id="by another name"),
        pytest.param("SnapApiBody", {"extraHeaders": None, "cookies": None}, True, id="neither"),
        pytest.param("SnapApiBody", {"extraHeaders": {}, "cookies": []}, True, id="none of either"),
        pytest.param("SnapApiBody", {"proxy": "", "pdfOptions": {}, "css": ""}, True, id="empty ones"),
        pytest.param("SnapApiBody", {"proxy": "a"}, False, id="what cannot be done"),
        pytest.param("ScreenshotBody", {"headers": {"Host": "b"}}, False, id="a header of the browser's"),
        pytest.param("ScreenshotBody", {"headers": {"X-A": 1}}, False, id="a number"),
        pytest.param("ScreenshotBody", {"cookies": {"a b": "c"}}, False, id="no name of a cookie"),
    ],
)
def test_headers_and_cookies_are_documented_as_they_are_validated(
    client: FlaskClient, document: dict[str, Any], name: str, secrets: dict[str, Any], is_good: bool
) -> None:
    body = {"url": TARGET, **secrets}
    judge = jsonschema.Draft202012Validator(document["components"]["schemas"][name])
    assert judge.is_valid(body) is is_good
    path = "/v1/screenshot" if name == "SnapApiBody" else "/screenshot"
    assert (client.post(path, json=body).status_code == 200) is is_good


@pytest.mark.parametrize(
    ("options", "field"),
    [
        pytest.param('"user_agent": "Bot\\n"', "user_agent", id="a line feed after a text"),
        pytest.param('"locale": "de-AT\\n"', "locale", id="a line feed after a language"),
        pytest.param('"clip": "0,0,9,9\\n"', "clip", id="a line feed after a rectangle"),
        pytest.param('"geolocation": "1,1\\n"', "geolocation", id="a line feed after a place"),
        pytest.param('"geolocation": "90.1,1"', "geolocation", id="beyond the pole"),
        pytest.param('"fail_on_status": "404\\n"', "fail_on_status", id="a line feed after a status"),
        pytest.param('"selector": "\\ud800"', "selector", id="half a character"),
        pytest.param('"hide_selectors": ["\\udfff"]', "hide_selectors", id="half a character in a list"),
        pytest.param('"clip": "\\u0660,\\u0660,\\u0669,\\u0669"', "clip", id="digits of another script"),
        pytest.param('"device_scale_factor": "2"', "device_scale_factor", id="a number in quotes"),
        pytest.param('"device_scale_factor": true', "device_scale_factor", id="a flag for a number"),
        pytest.param('"device_scale_factor": NaN', "device_scale_factor", id="no number"),
        pytest.param('"width": 1e400', "width", id="a number beyond all bounds"),
        pytest.param('"width": null', "width", id="null"),
    ],
)
def test_what_only_looks_like_an_option_is_refused(client: FlaskClient, options: str, field: str) -> None:
    body = f'{{"url": "{TARGET}", {options}}}'.encode()
    response = client.post("/screenshot", data=body, content_type="application/json")
    assert response.status_code == 400
    assert list(response.get_json()["errors"]) == [field]


@pytest.mark.parametrize("options", ['"width": 800.0', '"width": 8e2', '"device_scale_factor": 2'])
def test_json_may_spell_a_number_as_it_likes(client: FlaskClient, options: str) -> None:
    body = f'{{"url": "{TARGET}", {options}}}'.encode()
    assert client.post("/screenshot", data=body, content_type="application/json").status_code == 200
