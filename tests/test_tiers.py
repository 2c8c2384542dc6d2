"""One instance as the provider of another: a front that caches, and real renderers behind it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support import answers
from tests.support.access import make_key, sqlite_url
from tests.support.answers import Answer
from tests.support.pages import GREEN, PageServer, colour_at, running_pages
from tests.support.pictures import picture
from tests.support.service import TARGET, client_of, running_app, running_service, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.host_patterns import parse_host_pattern
from thumbnailer.keys import Scope

VENDORS = ("snapsharp", "snapapi")
#: The settings of a provider's key and address.
SETTINGS = {"snapsharp": ("SNAPSHARP_API_KEY", "SNAPSHARP_BASE"), "snapapi": ("SNAPAPI_KEY", "SNAPAPI_BASE")}


@dataclass(frozen=True)
class Renderer:
    """A closed instance under gunicorn, and its keys by what they are for."""

    url: str
    keys: dict[str, str]
    behind: Upstream

    def front(self, vendor: str, key: str = "all", **more: str) -> Any:
        """A test client of an instance that has this one as its provider."""
        key_name, url_name = SETTINGS[vendor]
        settings = {"PROVIDERS": vendor, key_name: self.keys[key], url_name: self.url}
        return client_of({**settings, "RATELIMIT_ENABLED": "false", "LOG_LEVEL": "warning", **more})


@pytest.fixture(scope="module")
def renderer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Renderer]:
    folder = tmp_path_factory.mktemp("renderer")
    with Upstream() as behind:
        environ = snapapi_environment(
            behind.url,
            DATABASE_URL=sqlite_url(folder),
            LIMIT_SCREENSHOT="1000 per minute",
            UPSTREAM_TIMEOUT="8",
            BREAKER_FAILURES="1000",
            WEB_CONCURRENCY="1",
        )
        here = (parse_host_pattern("93.184.216.35"),)
        with running_app(environ) as app:
            keys = {
                "all": make_key(app, "all", Scope.RENDER, Scope.SCRIPT),
                "elsewhere": make_key(app, "elsewhere", targets=here),
                "purge": make_key(app, "purge", Scope.PURGE),
                "slow": make_key(app, "slow", limits={"screenshot": "1 per hour"}),
                "poor": make_key(app, "poor", daily_captures=0),
            }
        found = {name: header["X-API-Key"] for name, header in keys.items()} | {"wrong": "tn_wrong"}
        with running_service(folder, environ) as service:
            yield Renderer(service.url, found, behind)


@pytest.fixture
def behind(renderer: Renderer) -> Upstream:
    """What the renderer has for its provider; well again for each test."""
    renderer.behind.behave(answers.image("png"))
    return renderer.behind


OPTIONS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "scalars": {
        "width": 1000,
        "height": 900,
        "format": "jpeg",
        "quality": 61,
        "delay": 40,
        "wait_until": "networkidle",
        "wait_for": "#a",
        "dark_mode": True,
        "block_ads": True,
        "user_agent": "Bot/1.0 (+http://example.com/?a=b&c)",
    },
    "a whole page": {"full_page": True, "device_scale_factor": 2, "format": "webp"},
    "a device": {"device": "iPhone 14"},
    "a device and a size": {"device": "iPad", "width": 900, "height": 700},
    "a rectangle": {"clip": "5,6,70,80"},
    "selectors": {"hide_selectors": [".a", "#b > c"]},
    "programs": {"css": "a {\n color: red }", "js": "await 1;\n2"},
    "secrets": {"headers": {"X-A": "b", "Accept-Language": "de"}, "cookies": {"c": "d", "e": "f"}},
    "a pdf": {"format": "pdf"},
}
MORE_OPTIONS: dict[str, dict[str, Any]] = {
    "an element": {"selector": "#main", "reduced_motion": True, "block_cookie_banners": True},
    "a place": {"locale": "de-AT", "timezone": "Europe/Vienna", "geolocation": "48.2,16.37"},
    "a fine scale": {"device_scale_factor": 1.5},
    "error pages": {"fail_on_status": "none"},
}
CASES = [
    *(
        pytest.param(vendor, options, id=f"{vendor} {name}")
        for vendor in VENDORS
        for name, options in OPTIONS.items()
    ),
    *(pytest.param("snapapi", options, id=f"snapapi {name}") for name, options in MORE_OPTIONS.items()),
]


@pytest.mark.parametrize(("vendor", "options"), CASES)
def test_options_come_through_two_instances_as_through_one(
    renderer: Renderer, behind: Upstream, vendor: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    image_format = options.get("format", "png")
    behind.behave(answers.image(image_format))
    body = {"url": f"{TARGET}?{request.node.name.replace(' ', '-')}", **options}
    before = len(behind.requests)
    with client_of(snapapi_environment(behind.url)) as alone:
        assert alone.post("/screenshot", json=body).status_code == 200
    with renderer.front(vendor) as front:
        response = front.post("/screenshot", json=body)
        assert response.status_code == 200, response.text
        assert response.data == picture(image_format)
        assert front.post("/screenshot", json=body).headers["X-Cache"] == "HIT"
    by_one, by_two = (each.json for each in behind.requests[before:])
    if "hide_selectors" in options and vendor == "snapsharp":
        by_one["hideSelectors"] = [",".join(by_one["hideSelectors"])]  # a list of selectors is one, too
    assert by_two == by_one


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize("path", ["/thumb", "/screenshot", "/screenshot/stream"])
def test_a_picture_comes_all_the_way_by_every_door(
    renderer: Renderer, behind: Upstream, vendor: str, path: str
) -> None:
    with renderer.front(vendor) as front:
        response = front.get(path, query_string={"url": f"{TARGET}?{vendor}{path}"}, buffered=True)
        assert (response.status_code, response.data) == (200, picture("png")), response.text


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("key", "slug", "status", "said"),
    [
        pytest.param("wrong", "upstream-auth", 502, "refuses this service", id="a wrong key"),
        pytest.param("purge", "upstream-auth", 502, "refuses this service", id="a key for something else"),
        pytest.param(
            "elsewhere",
            "option-unsupported",
            422,
            "This key is not for targets of that host.",
            id="forbidden",
        ),
    ],
)
def test_what_the_renderer_refuses_is_told_as_what_it_is(
    renderer: Renderer, behind: Upstream, vendor: str, key: str, slug: str, status: int, said: str
) -> None:
    with renderer.front(vendor, key) as front:
        response = front.get("/screenshot", query_string={"url": f"{TARGET}?{vendor}{key}"})
    assert_problem(response, slug, status)
    assert said in response.get_json()["detail"]


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_key_without_the_scope_is_the_operators_fault(
    renderer: Renderer, behind: Upstream, vendor: str
) -> None:
    with renderer.front(vendor, "elsewhere") as front:
        response = front.get("/screenshot", query_string={"url": "http://93.184.216.35/", "js": "1"})
    assert_problem(response, "upstream-auth", 502)


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_renderers_limit_is_a_busy_upstream_with_a_time_to_wait(
    renderer: Renderer, behind: Upstream, vendor: str
) -> None:
    with renderer.front(vendor, "slow") as front:
        told = [front.get("/screenshot", query_string={"url": f"{TARGET}?{vendor}{n}"}) for n in range(2)]
    assert_problem(told[1], "upstream-busy", 503)
    assert 1800 < int(told[1].headers["Retry-After"]) <= 3600


@pytest.mark.parametrize(("vendor", "slug"), [("snapsharp", "upstream-busy"), ("snapapi", "upstream-quota")])
def test_a_budget_that_is_used_up_is_told_with_its_end(
    renderer: Renderer, behind: Upstream, vendor: str, slug: str
) -> None:
    with renderer.front(vendor, "poor") as front:
        response = front.get("/screenshot", query_string={"url": f"{TARGET}?{vendor}poor"})
    assert_problem(response, slug, 503)
    assert 1 <= int(response.headers["Retry-After"]) <= 86_400


FAULTS = [
    pytest.param(answers.snapapi_error(404, "NOT_FOUND", "x"), "target-unreachable", 422, id="gone"),
    pytest.param(
        answers.snapapi_error(422, "X", "No element matches."), "option-unsupported", 422, id="refused"
    ),
    pytest.param(answers.snapapi_error(504, "TIMEOUT", "x"), "upstream-timeout", 504, id="too slow"),
    pytest.param(answers.snapapi_error(401, "INVALID_API_KEY", "x"), "upstream-failed", 502, id="a key"),
    pytest.param(answers.html_as_png(), "upstream-failed", 502, id="no picture"),
    pytest.param(answers.oversized(), "option-unsupported", 422, id="too many pixels"),
]


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(("behaviour", "slug", "status"), FAULTS)
def test_what_goes_wrong_behind_the_renderer_arrives_as_what_it_is(
    renderer: Renderer,
    behind: Upstream,
    vendor: str,
    behaviour: Answer,
    slug: str,
    status: int,
    request: pytest.FixtureRequest,
) -> None:
    behind.behave(behaviour)
    target = f"http://93.184.216.34/{request.node.callspec.id.replace(' ', '-')}"
    with renderer.front(vendor, UPSTREAM_TIMEOUT="6") as front:
        assert_problem(front.get("/screenshot", query_string={"url": target}), slug, status)


@pytest.mark.parametrize("vendor", VENDORS)
def test_pages_at_fault_do_not_close_the_road_to_the_renderer(
    renderer: Renderer, behind: Upstream, vendor: str
) -> None:
    with renderer.front(vendor, BREAKER_FAILURES="2") as front:
        behind.behave(answers.oversized())
        for number in range(4):
            response = ask(front, f"large/{vendor}/{number}")
            assert_problem(response, "option-unsupported", 422)
        behind.behave(answers.image("png"))
        assert ask(front, f"sound/{vendor}").status_code == 200


#: A real browser behind the renderer, and pages on this machine.
LOOPBACK = {"ALLOWED_PRIVATE_TARGETS": "127.0.0.0/8", "REFUSE_BLANK": "false"}


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with running_pages() as pages:
        yield pages


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("browser")
    environ = {"PROVIDERS": "chromium", "WEB_CONCURRENCY": "1", "RATELIMIT_ENABLED": "false"}
    with running_service(folder, environ | LOOPBACK) as service:
        yield service.url


@pytest.mark.parametrize("vendor", VENDORS)
@pytest.mark.parametrize(
    ("options", "check"),
    [
        pytest.param({}, "innerWidth === 1280 && innerHeight === 720", id="nothing"),
        pytest.param({"width": 900, "height": 500}, "innerWidth === 900", id="a viewport"),
        pytest.param({"device_scale_factor": 2}, "devicePixelRatio === 2", id="a dense screen"),
        pytest.param({"device": "iPhone 14"}, "navigator.maxTouchPoints > 0", id="a phone"),
        pytest.param({"dark_mode": True}, "matchMedia('(prefers-color-scheme: dark)').matches", id="dark"),
        pytest.param({"user_agent": "Bot/1"}, "navigator.userAgent === 'Bot/1'", id="a user agent"),
        pytest.param({"cookies": {"a": "b"}}, "document.cookie === 'a=b'", id="a cookie"),
    ],
)
def test_options_of_the_fronts_callers_reach_the_page(
    pages: PageServer, browser: str, vendor: str, options: dict[str, Any], check: str
) -> None:
    key_name, url_name = SETTINGS[vendor]
    settings = {"PROVIDERS": vendor, key_name: "sk_live_any", url_name: browser, "LOG_LEVEL": "warning"}
    with client_of(settings | LOOPBACK) as front:
        response = front.post("/screenshot", json={"url": pages.check(check), **options})
        assert response.status_code == 200, response.text
        assert colour_at(response.data, 20, 20) == GREEN


def ask(front: FlaskClient, page: str) -> Any:
    return front.get("/screenshot", query_string={"url": f"http://93.184.216.34/{page}"}, buffered=True)


def assert_problem(response: Any, slug: str, status: int) -> None:
    assert response.status_code == status, response.text
    assert response.get_json()["type"] == f"/problems/{slug}", response.text
    assert "tn_" not in response.text
    assert "127.0.0.1" not in response.text
