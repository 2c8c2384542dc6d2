"""The OpenAPI document says what the service does: held against its routes, its schemas and its answers."""

from __future__ import annotations

import base64
import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import openapi_spec_validator
import pytest
import schemathesis
import schemathesis.engine
from flask import Flask
from flask.testing import FlaskClient
from schemathesis.engine import events

from blueprints.problems import PROBLEMS
from tests.support.service import TARGET, running_app, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.devices import DEVICES

#: The document itself and the files of its pages.
UNDOCUMENTED = {"/openapi.json", "/docs/assets/{name}", "/static/{filename}"}
#: What Flask answers by itself for every route.
IMPLIED_METHODS = {"HEAD", "OPTIONS"}

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
    "ttl": ("integer", 60, 2_592_000, None),
}
FLAGS = ("fresh", "retina", "full_page", "dark_mode", "reduced_motion", "block_ads", "block_cookie_banners")
CHOICES = {
    "format": {"png", "jpeg", "webp", "avif", "auto"},
    "fit": {"inside", "cover", "contain"},
    "wait_until": {"load", "domcontentloaded", "networkidle"},
    "device": set(DEVICES),
}
TEXTS = ("selector", "clip", "wait_for", "hide_selectors", "user_agent", "locale", "timezone", "geolocation")
SECRETS = {"headers", "cookies"}
OPTIONS = {"url", "fail_on_status", "preset", "css", "js", *NUMBERS, *FLAGS, *CHOICES, *TEXTS}

#: The JSON bodies, and what each takes beside the options.
BODIES: dict[str, set[str]] = {
    "ScreenshotBody": {"download", *SECRETS},
    "PersistBody": {"force", "presign", *SECRETS},
    "HermesforgeOptions": {"viewport"},
    "JobBody": {"persist", "webhook_url", "wait", *SECRETS},
}

#: Options that contradict others, which no schema can say; tests of their own hold what happens then.
CONTRADICTORY = {
    "selector",
    "clip",
    "quality",
    "retina",
    "viewport",
    "full_page",
    "thumb_width",
    "thumb_height",
    "preset",
    "dpr",
    "fit",
    *("fullPage", "clipX", "clipY", "clipWidth", "clipHeight", "isMobile", "hasTouch", "blockTrackers"),
}

#: The JSON bodies of other APIs that are spoken here.
VENDOR_BODIES = ("SnapSharpBody", "SnapApiBody")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    media = tmp_path_factory.mktemp("media")
    with Upstream() as upstream:
        settings = snapapi_environment(
            upstream.url,
            RATELIMIT_ENABLED="false",
            MEDIA_DIR=str(media),
            DATABASE_URL=f"sqlite:///{media}/jobs.sqlite3",
            WEBHOOK_SECRET=f"whsec_{base64.b64encode(bytes(32)).decode()}",
            LOG_LEVEL="critical",
        )
        with running_app(settings) as app:
            yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return found


def _parameters(document: Mapping[str, Any], path: str) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in document["paths"][path]["get"]["parameters"]}


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method != "parameters":
                yield path, method.upper(), operation


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
    documented = {(path, method) for path, method, _ in _operations(document)}
    assert {(path, method) for path, method in routes if path not in UNDOCUMENTED} == documented


def test_every_route_says_what_it_does(document: dict[str, Any]) -> None:
    for path, method, operation in _operations(document):
        assert operation["summary"].endswith("."), f"{method} {path}"
        assert any(status.startswith("2") for status in operation["responses"]), f"{method} {path}"
        assert "default" not in operation["responses"], f"{method} {path} may answer anything"


def test_every_operation_has_a_name_of_its_own_for_generated_clients(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in _operations(document)]
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
    for path, method, operation in _operations(document):
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
    for path, method, operation in _operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        named = [one["value"] for one in body.get("examples", {}).values()]
        for example in [*named, *([body["example"]] if "example" in body else [])]:
            yield f"{method} {path}", body["schema"], example


def test_every_body_has_an_example_that_is_good(document: dict[str, Any]) -> None:
    """Swagger UI would else make one of all there is in the schema, which contradicts itself."""
    taking = {f"{m} {p}" for p, m, operation in _operations(document) if "requestBody" in operation}
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
    assert schema.get("default") == default
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
        name: str(one["schema"]["default"]).lower()
        for name, one in _parameters(document, path).items()
        if "default" in one["schema"] and name != "stream"
    }
    target = {"url": f"{TARGET}?{path}"}
    plain = client.get(path, query_string=target, buffered=True)
    spelled = client.get(path, query_string=target | defaults)
    assert (plain.status_code, plain.headers["X-Cache"]) == (200, "MISS")
    assert (spelled.status_code, spelled.headers["X-Cache"]) == (200, "HIT"), spelled.text


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
    for path, _, operation in _operations(document):
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
    for path, _, operation in _operations(document):
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


def _tame_purge(purge: dict[str, Any]) -> None:
    purge["anyOf"] = [  # which marshmallow cannot say
        {"required": ["targets"]},
        {"required": ["everything"], "properties": {"everything": {"const": True}}},
    ]
    purge["properties"]["targets"]["items"] = {"enum": [TARGET, f"{TARGET}?a=b"]}
    del purge["properties"]["hosts"]


def _tame_batch(batch: dict[str, Any]) -> None:
    batch["urls"] = {"enum": [[TARGET], [TARGET, f"{TARGET}?a=b"]]}
    for needing_async in ("persist", "webhook_url"):
        del batch[needing_async]


def _tamed(document: dict[str, Any]) -> dict[str, Any]:
    """The document for a machine that knows no more than what it says: one target, nothing contradictory."""
    tamed = copy.deepcopy(document)
    bodies = [*BODIES, *VENDOR_BODIES, "BatchBody", "SignBody"]
    options = [tamed["components"]["schemas"][name]["properties"] for name in bodies]
    del tamed["servers"]  # it is asked within this process
    for _, _, operation in _operations(tamed):
        for body in operation.get("requestBody", {}).get("content", {}).values():
            body.pop("example", None)
            body.pop("examples", None)
        kept = [one for one in operation.get("parameters", []) if one["name"] not in CONTRADICTORY]
        operation["parameters"] = kept
        options.append({one["name"]: one["schema"] for one in kept})
    _tame_purge(tamed["components"]["schemas"]["PurgeBody"])
    for schemas in options:
        for name in CONTRADICTORY & schemas.keys():
            del schemas[name]
        for name, values in (
            ("url", [TARGET, f"{TARGET}?a=b"]),
            ("webhook_url", [TARGET]),
            ("wait", [0]),
            ("timezone", ["UTC", "Asia/Tokyo"]),
            ("fail_on_status", ["400-599", "none"]),
            ("timeout", [600_000]),
        ):
            if name in schemas:
                nothing = [None] if "null" in schemas[name].get("type", "") else []
                schemas[name].clear()
                schemas[name]["enum"] = values + nothing
    for name in VENDOR_BODIES:  # a cookie's domain has to be the target's host, and its name its own
        cookies = tamed["components"]["schemas"][name]["properties"]["cookies"]
        cookies["maxItems"] = 1
        del cookies["items"]["properties"]["domain"]
    _tame_batch(tamed["components"]["schemas"]["BatchBody"]["properties"])
    for page_body in ("PageBody", "PageChanges"):
        properties = tamed["components"]["schemas"][page_body]["properties"]
        for name in CONTRADICTORY & properties.keys():
            del properties[name]
        properties["url"] = {"enum": [TARGET]}
        properties["webhook_url"] = {"enum": [TARGET, None]}
        nothing = [None] if page_body == "PageChanges" else []
        properties["timezone"] = {"enum": ["UTC", *nothing]}
        properties["fail_on_status"] = {"enum": ["none", *nothing]}
    return tamed


def _faults(
    app: Flask, document: dict[str, Any], *, phases: set[str], paths: list[str], examples: int
) -> list[str]:
    """What schemathesis, with every check it has, finds wrong with the answers of ``paths``."""
    schema = schemathesis.openapi.from_dict(_tamed(document)).include(path=paths)
    schema.app = app
    config = schema.config
    for phase in ("examples", "coverage", "fuzzing", "stateful"):
        getattr(config.phases, phase).enabled = phase in phases
    config.generation.max_examples = examples
    config.generation.deterministic = True
    config.generation.database = "none"
    # An Idempotency-Key that comes with another body is refused, as documented.
    # A stored image is where a job leads once the cache has lost its picture, such as by a purge.
    # An answer's URL that is tried as a target is one of this very service's, which it does not visit.
    config.checks.positive_data_acceptance.expected_statuses = ["2xx", "302", "403", "404", "422"]
    faults, cases = [], 0
    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            faults.append(str(event))
        if isinstance(event, events.ScenarioFinished):
            cases += len(event.recorder.interactions)
            faults += [
                f"{event.recorder.label}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                for checks in event.recorder.checks.values()
                for check in checks
                if check.failure_info
            ]
    assert cases >= len(paths)
    return faults


@pytest.mark.parametrize(
    "path",
    [
        "/thumb",
        "/persist",
        "/api/screenshots",
        "/v1/screenshot",
        "/v1/usage",
        "/media/{key}",
        "/cache",
        "/cache/purge",
        "/problems/{slug}",
        "/ready",
        "/health",
        "/docs",
        "/",
    ],
)
def test_values_at_and_beyond_every_documented_bound_are_answered_as_documented(
    app: Flask, document: dict[str, Any], path: str
) -> None:
    assert _faults(app, document, phases={"coverage"}, paths=[path], examples=1) == []


@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("ignore:Generating overly large repr")  # of a strategy, by Hypothesis itself
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # nor does this; schemathesis does
@pytest.mark.parametrize("part", range(3))
def test_any_request_is_answered_as_documented(app: Flask, document: dict[str, Any], part: int) -> None:
    paths = list(document["paths"])[part::3]
    assert _faults(app, document, phases={"fuzzing"}, paths=paths, examples=6) == []


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


def test_swagger_ui_comes_from_here(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]
    assert "//" not in re.sub(r"<!doctype html>", "", page.text), "the page names another host"
    references = re.findall(r'(?:src|href|data-document)="([^"]+)"', page.text)
    assert len(references) == 5
    for reference in references:
        assert not reference.startswith("/"), "the page works below a prefix as well"
        with client.get(f"/{reference}") as answer:
            assert answer.status_code == 200, reference


def test_swagger_uis_files_stay_in_their_folder(client: FlaskClient) -> None:
    for name in ("../__init__.py", "..%2f__init__.py", "%2e%2e/__init__.py", str(Path(__file__).resolve())):
        answer = client.get(f"/docs/assets/{name}", follow_redirects=True)
        assert answer.status_code == 404, name
