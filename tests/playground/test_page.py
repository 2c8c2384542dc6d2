"""The playground as it is sent: its options are those of the service, and it is safe to open."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from flask.testing import FlaskClient

from blueprints.playground import PLAYGROUND_POLICY
from blueprints.playground_options import NOT_OFFERED, OFFERED, STARTS
from blueprints.schemas import ThumbQuery
from tests.support.access import folder_environment, make_key
from tests.support.openapi import usual
from tests.support.service import PROJECT, TARGET, client_of, running_app, snapapi_environment
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS

PROVIDERS = {
    "hermesforge": {"PROVIDERS": "hermesforge"},
    "snapsharp": {"PROVIDERS": "snapsharp", "SNAPSHARP_API_KEY": "k"},
    "snapapi": {"PROVIDERS": "snapapi", "SNAPAPI_KEY": "k"},
    "two": {"PROVIDERS": "hermesforge,snapsharp", "SNAPSHARP_API_KEY": "k"},
}


@dataclass
class Control:
    """One control of the form: its attributes, its values where it has some, and what is said of it."""

    attributes: dict[str, str]
    values: dict[str, dict[str, str]] = field(default_factory=dict)
    about: str = ""

    @property
    def is_available(self) -> bool:
        return "disabled" not in self.attributes


class Form(HTMLParser):
    """Reads the playground."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.controls: dict[str, Control] = {}
        self.links: list[str] = []
        self.inline: list[str] = []
        self.ids: list[str] = []
        self.starts: list[dict[str, str]] = []
        self._current, self._about = "", ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.links += [attributes[name] for name in ("src", "href", "action") if name in attributes]
        self.inline += [name for name in attributes if name == "style" or name.startswith("on")]
        self.inline += [tag] if tag == "style" or (tag == "script" and "src" not in attributes) else []
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.starts += [dict(parse_qsl(attributes["data-start"]))] if "data-start" in attributes else []
        if "data-kind" in attributes:
            self._current = attributes["name"]
            self.controls[self._current] = Control(attributes)
        elif tag == "option" and self._current:
            self.controls[self._current].values[attributes["value"]] = attributes
        self._about = attributes.get("id", "").partition("about-")[2] if tag == "p" else self._about

    def handle_endtag(self, tag: str) -> None:
        self._about = "" if tag == "p" else self._about
        self._current = "" if tag == "select" else self._current

    def handle_data(self, data: str) -> None:
        if self._about in self.controls:
            self.controls[self._about].about += data


def form_of(client: FlaskClient) -> Form:
    answer = client.get("/")
    assert answer.status_code == 200
    return Form(answer.text)


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return folder_environment(upstream.url, tmp_path, RATELIMIT_ENABLED="false")


@pytest.fixture
def client(settings: dict[str, str]) -> Iterator[FlaskClient]:
    with client_of(settings) as client:
        yield client


def test_every_option_of_a_thumbnail_is_offered_or_left_out_on_purpose(client: FlaskClient) -> None:
    offered = [name for _, _, offers in OFFERED for name in offers]
    assert sorted([*offered, *NOT_OFFERED]) == sorted(ThumbQuery().fields)
    assert list(form_of(client).controls) == offered


def test_ranges_values_and_defaults_are_those_that_are_validated(client: FlaskClient) -> None:
    document: dict[str, Any] = client.get("/openapi.json").get_json()
    parameters = {one["name"]: one for one in document["paths"]["/thumb"]["get"]["parameters"]}
    for name, control in form_of(client).controls.items():
        schema, attributes = parameters[name]["schema"], control.attributes
        for bound, attribute in (("minimum", "min"), ("maximum", "max"), ("maxLength", "maxlength")):
            if bound in schema:
                assert float(attributes[attribute]) == schema[bound], name
        if "maximum" in schema:
            assert f"{int(schema['minimum']):,}\N{EN DASH}{int(schema['maximum']):,}" in control.about, name
        assert set(schema.get("enum", [])) == set(control.values) - {""}, name
        told = parameters[name]["description"].partition(" Default: ")[0]
        assert attributes["data-default"] == ("86400" if name == "ttl" else usual(parameters[name]) or ""), (
            name
        )
        assert told in control.about, name


def test_the_operators_choices_are_shown(settings: dict[str, str]) -> None:
    chosen = "thumb_width=400,format=webp,block_ads=false,clip=0,0,640,480,retina=true,css=a{color:red}"
    more = {"THUMB_DEFAULTS": chosen, "TTL_MIN": "600", "TTL_MAX": "7200"}
    with client_of(settings | more) as client:
        page, controls = client.get("/").text, form_of(client).controls
    assert {name: controls[name].attributes["data-default"] for name in ("thumb_width", "format")} == {
        "thumb_width": "400",
        "format": "webp",
    }
    assert controls["thumb_width"].attributes["placeholder"] == "400"
    assert "Default: 400, chosen by the operator." in controls["thumb_width"].about
    assert "selected" in controls["format"].values["webp"]
    assert "checked" not in controls["block_ads"].attributes
    assert "Default: off, chosen by the operator." in controls["block_ads"].about
    assert "checked" in controls["block_cookie_banners"].attributes
    assert controls["clip"].attributes["data-default"] == "0,0,640,480"
    assert controls["device_scale_factor"].attributes["data-default"] == "2"
    ttl = controls["ttl"].attributes
    assert (ttl["min"], ttl["max"], ttl["data-default"]) == ("600", "7200", "7200")
    assert "a{color:red}" not in page, "a program is nobody else's business"
    assert "The operator has chosen one." in controls["css"].about


def _refusal(client: FlaskClient, options: Mapping[str, str]) -> str | None:
    """The option that no provider can honour."""
    query = {"url": TARGET, "on_error": "status", **options}
    answer = client.get("/thumb", query_string=query, buffered=True)
    return next(iter(answer.get_json()["errors"])) if answer.status_code == 422 else None


@pytest.mark.parametrize("environ", PROVIDERS.values(), ids=PROVIDERS.keys())
def test_what_no_provider_can_do_is_said_and_nothing_else(
    environ: dict[str, str], upstream: Upstream, tmp_path: Path
) -> None:
    folders = folder_environment(upstream.url, tmp_path, RATELIMIT_ENABLED="false")
    bases = {f"{name.upper()}_API_BASE": upstream.url for name in ("hermesforge", "snapsharp")}
    with client_of(folders | bases | environ) as client:
        controls = form_of(client).controls
        examples = {name: offer.example for _, _, offers in OFFERED for name, offer in offers.items()}
        for name, control in controls.items():
            if name in ("preset", "fit", "dpr"):
                continue  # they depend on others, and no provider hears of them
            good = [value for value, said in control.values.items() if value and "disabled" not in said]
            text = next(iter(good or control.values), "") or examples[name] or "true"
            options = {name: text} | ({"format": "jpeg"} if name == "quality" else {})
            is_honoured = _refusal(client, options) is None
            is_for_sizes = "Only with a width or height" in control.about
            assert is_honoured == (control.is_available and not is_for_sizes), name
            assert ("Not available" in control.about) != control.is_available, name
            assert control.is_available or "checked" not in control.attributes, name
            if is_for_sizes:
                assert _refusal(client, options | {"thumb_width": "400"}) is None, name


@pytest.mark.parametrize("environ", PROVIDERS.values(), ids=PROVIDERS.keys())
def test_starts_are_those_that_a_provider_can_do(
    environ: dict[str, str], upstream: Upstream, tmp_path: Path
) -> None:
    folders = folder_environment(upstream.url, tmp_path, RATELIMIT_ENABLED="false")
    bases = {f"{name.upper()}_API_BASE": upstream.url for name in ("hermesforge", "snapsharp")}
    with client_of(folders | bases | environ) as client:
        offered = form_of(client).starts
        assert offered == [each for each in STARTS.values() if _refusal(client, each) is None]
        assert offered


def test_it_loads_and_asks_nobody_else_and_nobody_frames_it(client: FlaskClient) -> None:
    answer = client.get("/")
    assert answer.content_type == "text/html; charset=utf-8"
    assert answer.headers["Content-Security-Policy"] == PLAYGROUND_POLICY
    assert "default-src 'none'" in PLAYGROUND_POLICY
    assert "frame-ancestors 'none'" in PLAYGROUND_POLICY
    assert "unsafe" not in PLAYGROUND_POLICY
    docs = client.get("/docs")
    for name in ("X-Content-Type-Options", "Cross-Origin-Resource-Policy", "Referrer-Policy"):
        assert answer.headers[name] == docs.headers[name]
    form = Form(answer.text)
    assert form.inline == [], "the policy forbids what is written within the page"
    assert len(set(form.ids)) == len(form.ids)
    for link in form.links:
        assert re.match(r"[a-z#]", link), "relative, so that it works below a prefix"
        assert ":" not in link
        if not link.startswith("#") and link != "thumb":
            assert client.get(f"/{link}", buffered=True).status_code == 200, link


@pytest.mark.parametrize("name", sorted(one.name for one in (PROJECT / "blueprints/static").iterdir()))
def test_its_files_are_checked_again_each_time_and_run_nothing_by_themselves(
    client: FlaskClient, name: str
) -> None:
    answer = client.get(f"/static/{name}", buffered=True)
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    again = client.get(f"/static/{name}", headers={"If-None-Match": answer.headers["ETag"]}, buffered=True)
    assert (again.status_code, again.data) == (304, b"")
    missing = client.get(f"/static/not-{name}")
    assert (missing.status_code, missing.content_type) == (404, "application/problem+json")
    text = (PROJECT / "blueprints/static" / name).read_text(encoding="utf-8")
    assert not re.search(r"https?://(?!www\.w3\.org/|example\.com/|\$\{written\})", text)


def test_a_browser_that_has_it_is_told_so(client: FlaskClient) -> None:
    first = client.get("/")
    assert first.headers["Cache-Control"] == "no-cache"
    again = client.get("/", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Content-Security-Policy"] == PLAYGROUND_POLICY
    assert client.get("/", headers={"If-None-Match": '"other"'}).status_code == 200
    head = client.head("/")
    assert (head.status_code, head.data, head.headers["ETag"]) == (200, b"", first.headers["ETag"])


def test_it_is_another_page_once_the_service_closes(settings: dict[str, str]) -> None:
    with running_app(settings) as app:
        client = app.test_client()
        opened = client.get("/")
        assert 'data-closed="false"' in opened.text
        make_key(app, "first")
        give_up_at = time.monotonic() + 20
        while client.get("/", headers={"If-None-Match": opened.headers["ETag"]}).status_code == 304:
            assert time.monotonic() < give_up_at, "it notices its first key within seconds"
            time.sleep(0.05)
        assert 'data-closed="true"' in client.get("/").text


def test_a_closed_service_shows_it_to_everybody_and_tells_nothing_that_a_key_is_for(
    settings: dict[str, str],
) -> None:
    secrets = {"SIGNING_KEYS": SIGNING_KEYS, "PRESETS": "card:thumb_width=400;concealed:width=1920"}
    with client_of(settings | secrets) as client:
        page = client.get("/").text
        assert 'data-closed="true"' in page
        assert 'id="sign"' in page
        for told in ("snapapi", "sk-test-secret", settings["SNAPAPI_BASE"], "concealed", '"card"'):
            assert told not in page
        for pair in SIGNING_KEYS.split(","):
            assert pair.partition(":")[2] not in page
        assert client.get("/", headers={"X-API-Key": "tn_wrong"}).status_code == 200
    with client_of(settings | secrets | {"PUBLIC_PRESETS": "card"}) as client:
        page = client.get("/").text
        assert '<option value="card">' in page
        assert "concealed" not in page
    with client_of(settings | {"PRESETS": secrets["PRESETS"]}) as client:
        page = client.get("/").text
        assert '<option value="concealed">' in page, "in an open service anybody may use it"
        assert 'id="sign"' not in page


def test_the_operators_address_is_that_of_the_snippets(settings: dict[str, str]) -> None:
    with client_of(settings | {"PUBLIC_BASE_URL": "https://cdn.example/thumbs"}) as client:
        assert 'data-base="https://cdn.example/thumbs"' in client.get("/").text


def test_what_it_accepts_is_a_picture_or_what_went_wrong(client: FlaskClient) -> None:
    """Where there is no https, browsers do not say by ``Sec-Fetch-Dest`` what they ask for."""
    script = (PROJECT / "blueprints/static/playground.js").read_text(encoding="utf-8")
    found = re.search(r'ACCEPT = "([^"]+)"', script)
    assert found
    headers = {"Accept": found[1]}
    failed = client.get("/thumb", query_string={"url": "http://10.0.0.1/"}, headers=headers)
    assert (failed.status_code, failed.content_type) == (403, "application/problem+json")
    best = client.get(
        "/thumb", query_string={"url": TARGET, "format": "auto"}, headers=headers, buffered=True
    )
    assert (best.status_code, best.content_type) == (200, "image/avif")


def test_nothing_of_a_request_is_repeated_in_it(client: FlaskClient) -> None:
    usual = client.get("/").text
    odd = client.get("/?url=<script>&key=tn_x", headers={"Host": "evil.example", "Referer": "http://evil/"})
    assert odd.text == usual


def test_while_nobody_can_say_which_keys_there_are_it_asks_for_one(upstream: Upstream) -> None:
    settings = snapapi_environment(
        upstream.url, DATABASE_URL="postgresql://127.0.0.1:9/none", LOG_LEVEL="critical"
    )
    with client_of(settings) as client:
        assert 'data-closed="true"' in client.get("/").text


def test_an_operator_can_switch_it_off(settings: dict[str, str]) -> None:
    with client_of(settings | {"PLAYGROUND_ENABLED": "false"}) as client:
        answer = client.get("/")
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
        assert answer.get_json()["type"] == "/problems/not-found"
        assert "/" not in client.get("/openapi.json").get_json()["paths"]
        for page in ("/docs", "/problems/not-found"):
            assert "layground" not in client.get(page).text, "nothing leads to it"
