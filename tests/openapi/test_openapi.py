"""The OpenAPI document says what the service does: held against its routes and its problems."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import jsonschema
import openapi_spec_validator
import pytest
from flask import Flask
from flask.testing import FlaskClient

from blueprints.problems import PROBLEMS
from tests.support.openapi import operations, schemas_in, usual
from tests.support.service import TARGET, running_app, snapapi_environment

#: The document itself and the files of its pages.
UNDOCUMENTED = {"/openapi.json", "/docs/assets/{name}", "/static/{filename}"}
#: What Flask answers by itself for every route.
IMPLIED_METHODS = {"HEAD", "OPTIONS"}


def test_nothing_is_documented_until_somebody_asks() -> None:
    with running_app(snapapi_environment("http://127.0.0.1:9")) as app:
        api = app.extensions["flask-smorest"]["apis"][""]["ext_obj"]
        documented = api._spec.to_dict()
        assert not documented["paths"]
        assert not documented.get("components")
        asked = app.test_client().get("/openapi.json").get_json()
        assert asked["paths"]
        assert app.test_client().get("/openapi.json").get_json() == asked


def test_who_asks_again_and_again_gets_what_was_written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with running_app(snapapi_environment("http://127.0.0.1:9")) as app:
        first = app.test_client().get("/openapi.json")
        monkeypatch.delattr("apispec.APISpec.to_dict")
        again = app.test_client().get("/openapi.json")
    assert (again.status_code, again.content_type) == (200, first.content_type)
    assert again.data == first.data


def test_the_command_prints_the_same_document(app: Flask, document: dict[str, Any]) -> None:
    printed = app.test_cli_runner().invoke(args=["openapi", "print"])
    assert json.loads(printed.output) == document


def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    openapi_spec_validator.validate(document)
    assert document["openapi"] == "3.1.0"


def test_every_route_and_method_is_documented_and_no_other(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - IMPLIED_METHODS
    }
    documented = {(path, method) for path, method, _ in operations(document)}
    assert {(path, method) for path, method in routes if path not in UNDOCUMENTED} == documented


def test_every_route_says_what_it_does(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        assert operation["summary"].endswith("."), f"{method} {path}"
        assert any(status.startswith("2") for status in operation["responses"]), f"{method} {path}"
        assert "default" not in operation["responses"], f"{method} {path} may answer anything"


def test_every_operation_has_a_name_of_its_own_for_generated_clients(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names)
    assert {"thumb", "persist", "accept_job"} <= set(names)


def test_it_says_what_an_integrator_has_to_know_first(client: FlaskClient, document: dict[str, Any]) -> None:
    assert document["info"]["license"]["identifier"] == "MIT"
    for path in re.findall(r"\]\((.*?)\)", document["info"]["description"]):
        assert client.get(f"/{path}").status_code == 200
    assert all(scheme["description"] for scheme in document["components"]["securitySchemes"].values())
    for path, methods in document["paths"].items():
        everywhere = methods.get("parameters", [])
        assert len(everywhere) == path.count("{"), path
        assert all(one["description"].endswith(".") for one in everywhere), path


def test_a_key_can_be_refused_wherever_one_is_taken_and_nowhere_else(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        refusals = {"401", "403"} & operation["responses"].keys()
        assert refusals == ({"401", "403"} if operation["security"] else set()), f"{method} {path}"


@pytest.mark.parametrize("path", ["/pages", "/webhooks/deliveries", "/usage", "/v1/usage"])
def test_a_list_is_there_however_empty_it_is(
    client: FlaskClient, document: dict[str, Any], path: str
) -> None:
    assert client.get(path).status_code == 200
    assert "404" not in document["paths"][path]["get"]["responses"]


def _bodies(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Where a JSON body is taken, its schema, and each example of it."""
    for path, method, operation in operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        named = [one["value"] for one in body.get("examples", {}).values()]
        for example in [*named, *([body["example"]] if "example" in body else [])]:
            yield f"{method} {path}", body["schema"], example


def test_every_body_has_an_example_that_is_good(document: dict[str, Any]) -> None:
    """Swagger UI would else make one of all there is in the schema, which contradicts itself."""
    taking = {f"{m} {p}" for p, m, operation in operations(document) if "requestBody" in operation}
    assert {where for where, _, _ in _bodies(document)} == taking
    for where, schema, example in _bodies(document):
        judge = jsonschema.Draft202012Validator({**schema, "components": document["components"]})
        assert [fault.message for fault in judge.iter_errors(example)] == [], where


@pytest.mark.parametrize("path", ["/screenshot", "/persist", "/screenshots", "/api/screenshots", "/pages"])
def test_the_example_of_a_body_can_be_sent_as_it_is(
    client: FlaskClient, document: dict[str, Any], path: str
) -> None:
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    answer = client.post(path, json={**body, "url": TARGET})
    assert answer.status_code < 300, answer.text


def test_pictures_are_documented_by_their_types(document: dict[str, Any]) -> None:
    images = {"image/png", "image/jpeg", "image/webp", "image/avif"}
    assert set(document["paths"]["/thumb"]["get"]["responses"]["200"]["content"]) == images
    for path, method in (("/screenshot", "get"), ("/screenshot", "post"), ("/api/screenshot/stream", "get")):
        answered = document["paths"][path][method]["responses"]["200"]["content"]
        assert set(answered) == images | {"application/pdf"}


#: What hermesforge's clients would else take for their key's fault or the service's.
BLAMELESS = {
    "not-an-image": {422, 502},
    "image-too-large": {422, 502},
    "upstream-failed": {422, 502},
}


def test_every_documented_problem_exists_and_every_problem_is_documented(document: dict[str, Any]) -> None:
    named: set[str] = set()
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            slugs = re.findall(
                r"[a-z]+(?:-[a-z]+)+|internal|overloaded|unauthorized", response["description"]
            )
            if not response["description"].startswith(("A problem: ", "An error: ")):
                continue
            assert slugs, f"{path} {status}"
            moved = BLAMELESS if response["description"].startswith("An error: ") else {}
            told = {moved.get(slug, {PROBLEMS[slug].status}) >= {int(status)} for slug in slugs}
            assert told == {True}, f"{path} {status}"
            named |= set(slugs)
    assert set(PROBLEMS) - named == {"method-not-allowed"}, "that one is every route's"


def test_every_problem_is_shown_where_it_can_be_met(client: FlaskClient, document: dict[str, Any]) -> None:
    components = document["components"]
    judge = jsonschema.Draft202012Validator(components["schemas"]["Problem"])
    for slug, example in components["examples"].items():
        assert [fault.message for fault in judge.iter_errors(example["value"])] == [], slug
        assert client.get(example["value"]["type"]).status_code == 200
    for path, _, operation in operations(document):
        for status, response in operation["responses"].items():
            shown = response.get("content", {}).get("application/problem+json", {}).get("examples", {})
            assert {one["$ref"].rpartition("/")[2] for one in shown.values()} == shown.keys()
            assert {components["examples"][slug]["value"]["status"] for slug in shown} <= {int(status)}
            if response["description"].startswith("A problem: "):
                assert ", ".join(shown) == response["description"][len("A problem: ") : -1], (
                    f"{path} {status}"
                )
    shown_truly = client.get("/thumb", query_string={"url": "http://10.0.0.1/", "on_error": "status"})
    example = components["examples"]["target-forbidden"]["value"]
    told = shown_truly.get_json()
    assert {**told, "detail": "", "request_id": ""} == {**example, "detail": "", "request_id": ""}


def test_swagger_ui_comes_from_here(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "//" not in re.sub(r"<!doctype html>", "", page.text), "the page names another host"
    references = re.findall(r'(?:src|href|data-document)="([^"]+)"', page.text)
    assert len(references) == 8
    for reference in references:
        assert not reference.startswith("/"), "the page works below a prefix as well"
        with client.get(urljoin("/docs", reference)) as answer:
            assert answer.status_code == 200, reference


def test_swagger_uis_files_stay_in_their_folder(client: FlaskClient) -> None:
    for name in ("../__init__.py", "..%2f__init__.py", "%2e%2e/__init__.py", str(Path(__file__).resolve())):
        answer = client.get(f"/docs/assets/{name}", follow_redirects=True)
        assert answer.status_code == 404, name


def test_nothing_is_sent_that_the_caller_has_not_said(document: dict[str, Any]) -> None:
    """Swagger UI and generated clients send every ``default``, and so undo presets, devices and pages."""
    told = [one for part in ("paths", "components") for one in schemas_in(document[part])]
    assert [one for one in told if "default" in one and "description" in one] == []
    changes = document["components"]["schemas"]["PageChanges"]["properties"]
    assert {name for name, schema in changes.items() if usual(schema)} == set()


def test_generators_of_clients_can_make_a_name_of_every_value(document: dict[str, Any]) -> None:
    for schema in schemas_in(document["components"]["schemas"]):
        if isinstance(schema.get("enum"), list):
            values = [value for value in schema["enum"] if value is not None]
            assert len({type(value) for value in values}) == 1, values
            written = [re.sub(r"[\W_]", "", str(value)).lower() for value in values]
            assert sorted(set(written)) == sorted(written)


def test_generators_of_clients_know_bytes_from_text(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status, response in operation["responses"].items():
            for content_type, content in response.get("content", {}).items():
                if content_type.startswith("image/") or content_type in (
                    "application/pdf",
                    "application/zip",
                ):
                    expected = {"type": "string", "format": "binary"}
                    assert content["schema"] == expected, f"{method} {path} {status}"
                assert content["schema"], f"{method} {path} {status} {content_type}"
