"""docs/api.md says what the service does: nothing is missing in it, and nothing in it is invented."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from blueprints import vendor_errors
from blueprints.answer_schemas import StoredImageAnswer
from blueprints.dialects import VIEWPORTS, HermesforgeError
from blueprints.error_problems import PAGE_FAULTS
from blueprints.explain_schemas import ExplainAnswer
from blueprints.problems import PROBLEMS
from blueprints.purge import PurgeAnswer, PurgeBody
from blueprints.schemas import Problem
from blueprints.vendor_fields import Unavailable
from blueprints.vendor_schemas import SnapApiBody, SnapSharpBody, SnapSharpQuery
from tests.support.markdown import Row, anchors, tables
from tests.support.openapi import usual
from tests.support.pictures import picture
from tests.support.service import PROJECT, TARGET, running_app, snapapi_environment
from tests.support.settings import load
from tests.support.upstream import Upstream
from thumbnailer.devices import DEVICES
from thumbnailer.guard import Guard
from thumbnailer.model import (
    DEFAULT_QUALITY,
    NEUTRAL_OPTIONS,
    CaptureRequest,
    Clip,
    Cookie,
    Format,
    Geolocation,
    StatusRange,
)
from thumbnailer.model import WaitUntil as Moment
from thumbnailer.providers import Provider
from thumbnailer.providers.chromium import ChromiumProvider, ChromiumSettings
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.hermesforge import HERMESFORGE
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.providers.snapsharp import SNAPSHARP

API = (PROJECT / "docs/api.md").read_text(encoding="utf-8")
PAGES = sorted([*PROJECT.glob("*.md"), *PROJECT.glob("docs/**/*.md")])


def section(title: str) -> str:
    """What stands below a heading, up to the next of the same rank."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^\1 |\Z)", API, re.MULTILINE | re.DOTALL)
    assert found, f"docs/api.md has no section {title}"
    return found[2]


def table(title: str, number: int = 0) -> list[Row]:
    return list(tables(section(title)))[number]


def names(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    media = str(tmp_path_factory.mktemp("media"))
    with (
        Upstream() as upstream,
        running_app(snapapi_environment(upstream.url, MEDIA_DIR=media, LIMIT_CACHED="1 per hour")) as app,
    ):
        yield app


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    found: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return found


def test_every_route_is_documented_and_no_other(app: Flask) -> None:
    routes = {
        f"{method} {re.sub(r'<[a-z]+:', '<', rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {names(row["route"])[0] for row in table("Routes")} == routes


def test_every_path_that_is_spoken_of_exists(app: Flask) -> None:
    paths = {re.sub(r"<[a-z]+:", "<", rule.rule) for rule in app.url_map.iter_rules()}
    for path in re.findall(r"`(?:GET |POST )?(/[a-z][^`\s…]*)`", API):
        found = re.sub(r"^/problems/[a-z].*", "/problems/<slug>", path.partition("?")[0])
        assert found in paths or f"{found}<key>" in paths, path


def _documented_options() -> dict[str, Row]:
    return {names(row["option"])[0]: row for row in table("Options")}


def test_every_option_is_documented_and_no_other(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert set(_documented_options()) == set(schemas["ScreenshotBody"]["properties"]) - {"download"}
    more = {(names(row["option"])[0], row["on"]) for row in table("Options", 1)}
    assert more == {
        ("stream", "`GET /screenshot`"),
        ("on_error", "`GET /thumb`, `GET /screenshot…`"),
        ("sig", "`GET /thumb`, `GET /screenshot…`"),
        ("force", "`POST /persist`"),
        ("presign", "`POST /persist`"),
        ("download", "`/thumb`, `/screenshot…`"),
        ("wait", "`GET /thumb`"),
        ("route", "`GET /explain`"),
        ("viewport", "`/api/screenshot…`"),
    }
    common = set(_documented_options())
    assert set(schemas["PersistBody"]["properties"]) - common == {"force", "presign"}
    assert set(schemas["HermesforgeOptions"]["properties"]) - common == {"viewport"}
    query = {one["name"] for one in document["paths"]["/screenshot"]["get"]["parameters"]}
    assert query - common == {"stream", "on_error", "download", "sig", "exp", "kid"}


def _schemas(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    bodies = document["components"]["schemas"]
    return bodies["PersistBody"]["properties"] | bodies["ScreenshotBody"]["properties"]  # type: ignore[no-any-return]  # JSON


def test_types_and_ranges_are_those_that_are_validated(document: dict[str, Any]) -> None:
    words = {"integer": "whole number", "number": "number", "boolean": "flag"}
    rows = _documented_options() | {names(row["option"])[0]: row for row in table("Options", 1)}
    for name, schema in _schemas(document).items():
        told = rows[name]["type and range"]
        if schema.get("type") in words:
            assert told.startswith(words[schema["type"]]), name
        if "maximum" in schema:
            least, greatest = re.findall(r"\d[\d,]*", told.partition(", ")[2])
            bounds = (int(least.replace(",", "")), int(greatest.replace(",", "")))
            assert bounds == (schema["minimum"], schema["maximum"]), name
        if "maxLength" in schema:
            assert f"up to {schema['maxLength']:,} characters" in told, name
        if "enum" in schema and name != "device":
            assert set(names(told)) - {"/thumb"} == set(schema["enum"]), name


def test_defaults_are_those_that_apply(document: dict[str, Any]) -> None:
    for name, schema in _schemas(document).items():
        if name in ("url", "force", "presign", "download"):
            continue
        told = _documented_options()[name]["default"]
        if usual(schema):
            assert usual(schema) in names(told), name
        elif name not in ("ttl", "quality"):  # which depend on the route and on the format
            assert names(told) == [], name
    thumb = {one["name"]: one for one in document["paths"]["/thumb"]["get"]["parameters"]}
    bodies = document["components"]["schemas"]
    for name in ("block_ads", "block_cookie_banners"):
        told = "`true` on `/thumb`, `/pages` and `/persist`, else `false`"
        assert _documented_options()[name]["default"] == told
        assert usual(thumb[name]) == "true"
        told_of = {
            body: usual(schema["properties"][name])
            for body, schema in bodies.items()
            if name in schema.get("properties", {})
        }
        assert {body for body, word in told_of.items() if word == "true"} == {"PageBody", "PersistBody"}
    assert _documented_options()["quality"]["default"] == f"`{DEFAULT_QUALITY}`"
    assert _documented_options()["ttl"]["default"] == "`86400` on `/thumb`, else `3600`"


def test_every_device_is_documented_with_its_size() -> None:
    documented = {
        name: (*map(int, re.findall(r"\d+", row["viewport"])), float(row["scale"]))
        for row in table("Devices")
        for name in names(row["device"])
    }
    assert documented == {
        name: (device.width, device.height, device.device_scale_factor) for name, device in DEVICES.items()
    }


#: A value of each option that is nobody's default.
WISHES: dict[str, Any] = {
    "width": 800,
    "height": 600,
    "device_scale_factor": 3.0,
    "device": "iPhone 14",
    "format": Format.WEBP,
    "quality": 50,
    "full_page": True,
    "selector": "#a",
    "clip": Clip(0, 0, 10, 10),
    "delay": 5,
    "wait_until": Moment.NETWORKIDLE,
    "wait_for": "#a",
    "dark_mode": True,
    "reduced_motion": True,
    "block_ads": True,
    "block_cookie_banners": True,
    "hide_selectors": (".a",),
    "user_agent": "a",
    "locale": "de",
    "timezone": "UTC",
    "geolocation": Geolocation(1, 1),
    "fail_on_status": (StatusRange(404, 404),),
    "css": "a {}",
    "js": "1",
    "headers": (("a", "b"),),
    "cookies": (Cookie("a", "b", "c"),),
}


def _supports(provider: Provider, **wish: Any) -> bool:
    encoding: dict[str, Any] = {"format": Format.JPEG} if "quality" in wish else {}
    request = CaptureRequest(url=TARGET, asked=frozenset(wish), **(encoding | wish))
    return provider.unsupported_option(request) is None


@pytest.fixture(scope="module")
def providers() -> dict[str, Provider]:
    chromium = ChromiumSettings(
        executable=None, concurrency=1, recycle_after=1, ad_filter_list=None, max_image_pixels=1
    )
    found: dict[str, Provider] = {"chromium": ChromiumProvider(chromium, Guard())}
    for vendor in (HERMESFORGE, SNAPSHARP, SNAPAPI):
        found[vendor.name] = RemoteProvider(vendor, UpstreamSession(), key="k", base_url="http://127.0.0.1:9")
    return found


def test_what_each_provider_can_do_is_told_truly(providers: dict[str, Provider]) -> None:
    rows = table("What each provider can do")
    told = {name for row in rows for name in names(row["option"])}
    assert told == set(WISHES) == set(NEUTRAL_OPTIONS)
    for row in rows:
        for name in names(row["option"]):
            for provider, part in providers.items():
                can = _supports(part, **{name: WISHES[name]})
                assert can == (row[provider] == "✓"), f"{name} of {provider}"
    for scale, expected in ((1.0, True), (2.0, True), (2.5, False)):
        assert _supports(providers["snapsharp"], device_scale_factor=scale) == expected
    assert _supports(providers["snapapi"], fail_on_status=())
    assert not _supports(providers["hermesforge"], fail_on_status=())


def test_the_headers_of_a_picture_are_those_it_has(app: Flask) -> None:
    client = app.test_client()
    answer = client.get(
        "/thumb", query_string={"url": TARGET}, environ_base={"REMOTE_ADDR": "198.51.100.9"}, buffered=True
    )
    documented = {names(row["header"])[0] for row in table("Answers", 1)}
    assert documented == set(dict(answer.headers)) - {"X-Request-ID", "Date", "RateLimit", "RateLimit-Policy"}
    stream = client.get(
        "/screenshot/stream",
        query_string={"url": f"{TARGET}?stream"},
        environ_base={"REMOTE_ADDR": "198.51.100.10"},
        buffered=True,
    )
    assert stream.data == picture()
    assert documented - set(dict(stream.headers)) == {"Age", "ETag", "Last-Modified"}


def test_the_members_of_answers_are_those_they_have() -> None:
    persist = [name for row in table("Persist") for name in names(row["member"])]
    assert persist == list(StoredImageAnswer().fields)
    purge = [name for row in table("Purge", 1) for name in names(row["member"])]
    assert purge == list(PurgeAnswer().fields)
    explain = [name for row in table("Explain") for name in names(row["member"])]
    assert sorted(explain) == sorted(ExplainAnswer().fields)
    assert [names(row["field"])[0] for row in table("Purge")] == list(PurgeBody().fields)
    problems = [name for row in table("Problems") for name in names(row["member"])]
    assert problems == list(Problem().fields)
    (errors,) = [row["here"] for row in table("The hermesforge dialect") if row[""] == "errors"]
    assert set(re.findall(r'"(\w+)"', errors)) == set(HermesforgeError().fields)


def test_every_problem_is_documented_with_its_status_and_no_other() -> None:
    documented = [(names(row["slug"])[0], int(row["status"])) for row in table("Problems", 1)]
    assert documented == [(kind.slug, kind.status) for kind in PROBLEMS.values()]


def test_the_dialect_differs_as_documented(document: dict[str, Any]) -> None:
    rows = {row[""].strip("`"): row for row in table("The hermesforge dialect")}
    here = document["components"]["schemas"]["HermesforgeOptions"]["properties"]
    elsewhere = dict(document["components"]["schemas"]["ScreenshotBody"]["properties"])
    for name in ("download", "headers", "cookies"):
        del elsewhere[name]
    for name in ("height", "format"):
        assert rows[name]["here"] == f"`{usual(here[name])}`"
        assert rows[name]["elsewhere"] == f"`{usual(elsewhere[name])}`"
    for name, (width, height) in VIEWPORTS.items():
        assert re.search(rf"`{name}` \({width} \S {height}\)", rows["viewport"]["here"]), name
    differing = {name for name in elsewhere if usual(here[name]) != usual(elsewhere[name])}
    assert differing == {"height", "format"}


VENDORS = "The SnapSharp and SnapAPI dialects"


def test_every_parameter_of_the_vendors_is_documented_and_no_other() -> None:
    rows = table(VENDORS, 2)
    for column, schemas in (
        ("SnapSharp", (SnapSharpQuery(), SnapSharpBody())),
        ("SnapAPI", (SnapApiBody(),)),
    ):
        told = [name for row in rows for name in names(row[column].partition(":")[0])]
        taken = {name for schema in schemas for name in schema.spellings().values()}
        assert sorted(told) == sorted(taken), column
        refused = set(names(rows[-1][column]))
        fields_of_all = {
            field.data_key or name: field for schema in schemas for name, field in schema.fields.items()
        }
        assert refused == {name for name, field in fields_of_all.items() if isinstance(field, Unavailable)}, (
            column
        )


def test_the_vendors_differ_as_documented(document: dict[str, Any]) -> None:
    rows = {row[""]: row for row in table(VENDORS, 1)}
    bodies = document["components"]["schemas"]
    for column, name in (("SnapSharp", "SnapSharpBody"), ("SnapAPI", "SnapApiBody")):
        sides = [int(usual(bodies[name]["properties"][side]) or 0) for side in ("width", "height")]
        assert list(map(int, re.findall(r"\d+", rows["viewport"][column]))) == sides


def test_every_problem_has_the_vendors_codes_that_are_documented() -> None:
    for column, dialect in (("SnapSharp", vendor_errors.SNAPSHARP), ("SnapAPI", vendor_errors.SNAPAPI)):
        told: dict[str, tuple[int, str]] = {}
        for row in table(VENDORS, 3):
            status, code = int(row[column][:3]), names(row[column])[0]
            told |= dict.fromkeys(names(row["problem"]), (status, code))
            for error in PAGE_FAULTS if not names(row["problem"]) else ():
                assert dialect.by_class[error] == vendor_errors.VendorError(status, code)
        assert told == {slug: (found.status, found.code) for slug, found in dialect.by_slug.items()}


def test_the_limits_are_those_of_the_settings() -> None:
    documented = {names(row["setting"])[0]: row["default"] for row in table("Limits")}
    limits = load().limits
    assert documented == {
        "LIMIT_THUMB": limits.thumb,
        "LIMIT_SCREENSHOT": limits.screenshot,
        "LIMIT_PERSIST": limits.persist,
        "LIMIT_JOBS": limits.jobs,
        "LIMIT_PURGE": limits.purge,
        "LIMIT_CACHED": limits.cached,
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_within_the_documentation_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        aim = (page.parent / name).resolve() if name else page
        assert aim.exists(), link
        if anchor:
            assert anchor in anchors(aim), link


NAMED_TESTS = re.findall(
    r"`(tests/[\w/]+\.py)::([\w:]+)`", (PROJECT / "docs/security.md").read_text(encoding="utf-8")
)


def test_every_promise_of_security_names_its_tests() -> None:
    text = (PROJECT / "docs/security.md").read_text(encoding="utf-8")
    promises = [row for rows in tables(text) for row in rows if "promise" in row]
    assert len(promises) > 20
    for row in promises:
        assert set(re.sub(r"`tests/[\w/]+\.py::[\w:]+`", "", row["held by"])) <= {" "}, row["held by"]
        assert row["held by"].strip(), row["promise"]


@pytest.mark.parametrize(("file", "name"), NAMED_TESTS, ids=[name for _, name in NAMED_TESTS])
def test_a_test_that_holds_a_promise_exists(file: str, name: str) -> None:
    body: list[ast.stmt] = ast.parse((PROJECT / file).read_text(encoding="utf-8")).body
    for part in name.split("::"):
        named = [one for one in body if isinstance(one, ast.FunctionDef | ast.ClassDef) and one.name == part]
        assert len(named) == 1, f"{file} has no {name}"
        body = named[0].body
