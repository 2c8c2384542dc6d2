"""``/v1/``: which of the two APIs a request is written for, and what their clients do with the answers."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from blueprints.services import EXTENSION
from tests.support import answers
from tests.support.access import folder_environment, make_key
from tests.support.ageing import age_pictures
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.service import TARGET, client_of, running_app, running_service, snapapi_environment
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS
from tests.support.vendor_clients import (
    KeyRefused,
    PageTookTooLong,
    QuotaUsedUp,
    SnapApiClient,
    SnapSharpClient,
    TooManyRequests,
    VendorFailed,
)
from tests.support.vendors import play_vendors
from thumbnailer.keys import Scope

PATH = "/v1/screenshot"
BEARER = {"Authorization": "Bearer sk_live_a"}
BOTH = {"X-Api-Key": "sk_live_a", **BEARER}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


class TestWhichOfTheTwo:
    @pytest.fixture
    def client(self, upstream: Upstream) -> Iterator[FlaskClient]:
        with client_of(snapapi_environment(upstream.url, RATELIMIT_ENABLED="false")) as client:
            yield client

    @pytest.mark.parametrize(
        ("body", "headers", "path", "is_snapsharp"),
        [
            pytest.param({"full_page": False}, {}, PATH, True, id="a snake"),
            pytest.param({"fullPage": False}, {}, PATH, False, id="a camel"),
            pytest.param({"full_page": False}, BOTH, PATH, True, id="a snake with SnapAPI's headers"),
            pytest.param({"fullPage": False}, BEARER, PATH, False, id="a camel with SnapSharp's header"),
            pytest.param({"js": None}, BOTH, PATH, True, id="js"),
            pytest.param({"javascript": None}, BEARER, PATH, False, id="javascript"),
            pytest.param({"retina": False}, BOTH, PATH, True, id="retina"),
            pytest.param({"selector": None}, BEARER, PATH, False, id="selector"),
            pytest.param({}, BEARER, PATH, True, id="a target and a bearer"),
            pytest.param({}, BOTH, PATH, False, id="a target and both"),
            pytest.param({}, {"X-Api-Key": "sk_live_a"}, PATH, False, id="a target and a key"),
            pytest.param({}, {}, f"{PATH}?access_key=sk_live_a", False, id="a target and a key in the URL"),
            pytest.param({}, {}, PATH, False, id="a target alone"),
            pytest.param({"format": "png", "delay": 0, "css": None}, BEARER, PATH, True, id="names of both"),
            pytest.param(
                {"format": "png", "delay": 0, "css": None}, BOTH, PATH, False, id="and both headers"
            ),
        ],
    )
    def test_names_tell_and_else_the_headers(
        self,
        client: FlaskClient,
        upstream: Upstream,
        body: dict[str, Any],
        headers: dict[str, str],
        path: str,
        is_snapsharp: bool,
    ) -> None:
        response = client.post(path, json={"url": TARGET} | body, headers=headers, buffered=True)
        assert response.status_code == 200, response.text
        sent = upstream.requests[0].json
        assert (sent["height"], sent["failOnHttpError"]) == ((720, True) if is_snapsharp else (800, False))
        wrong = client.post(path, json={"url": TARGET, "width": "x"} | body, headers=headers)
        assert isinstance(wrong.get_json()["error"], str if is_snapsharp else dict)

    @pytest.mark.parametrize("headers", [BEARER, BOTH], ids=["bearer", "both"])
    def test_the_names_of_both_are_refused(self, client: FlaskClient, headers: dict[str, str]) -> None:
        response = client.post(
            PATH, json={"url": TARGET, "full_page": True, "darkMode": True}, headers=headers
        )
        assert response.status_code == 400
        message = response.get_json()["message"]
        assert "full_page is SnapSharp's name, and darkMode is SnapAPI's." in message
        assert isinstance(response.get_json()["error"], str if headers is BEARER else dict)

    def test_a_get_is_snapsharps_whatever_its_headers(self, client: FlaskClient) -> None:
        response = client.get(PATH, query_string={"url": "nonsense"}, headers=BOTH)
        assert response.get_json()["error"] == "validation_error"


@dataclass(frozen=True)
class Closed:
    """A service that knows keys, one with a budget of one capture a day, and a page of its own."""

    url: str
    key: str
    budgeted: str
    page: str
    log: Path

    def snapsharp(self, key: str | None = None) -> SnapSharpClient:
        return SnapSharpClient(key or self.key, self.url)

    def snapapi(self, key: str | None = None) -> SnapApiClient:
        return SnapApiClient(key or self.key, self.url)


@pytest.fixture(scope="module")
def vendor() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def each_closed(vendor: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Closed]]:
    """One service; for each test it is closed by keys that no other test has used."""
    folder = tmp_path_factory.mktemp("closed")
    environ = folder_environment(
        vendor.url,
        folder,
        WEB_CONCURRENCY="1",
        LIMIT_SCREENSHOT="2 per hour",
        UPSTREAM_TIMEOUT="5",
        LOG_LEVEL="debug",
    )
    budget: dict[str, Any] = {"daily_captures": 1, "limits": {"screenshot": "9 per hour"}}
    with running_app(environ) as app:
        keys = [
            (
                make_key(app, f"a{number}", Scope.SCRIPT, Scope.RENDER)["X-API-Key"],
                make_key(app, f"b{number}", **budget)["X-API-Key"],
            )
            for number in range(12)
        ]
    with running_service(folder, environ) as service:
        yield (
            Closed(service.url, *pair, f"{TARGET}/{number}", service.log) for number, pair in enumerate(keys)
        )


@pytest.fixture
def closed(each_closed: Iterator[Closed], vendor: Upstream) -> Closed:
    vendor.behave(play_vendors)
    return next(each_closed)


class TestTheirClients:
    """Programs in the style of the official ones, over real HTTP."""

    def test_snapsharps_gets_pictures(self, closed: Closed, vendor: Upstream) -> None:
        client = closed.snapsharp()
        assert client.screenshot(closed.page, format="webp", full_page=True, stealth=None) == picture("webp")
        sent = vendor.requests[0].json
        assert (sent["format"], sent["fullPage"], sent["height"]) == ("webp", True, 720)
        assert client.screenshot(closed.page, js="1", cookies=[{"name": "a", "value": "b"}]) == picture("png")
        assert vendor.requests[1].json["javascript"] == "1"

    def test_snapapis_gets_pictures(self, closed: Closed, vendor: Upstream) -> None:
        client = closed.snapapi()
        assert client.screenshot(closed.page, format="webp", fullPage=True) == picture("webp")
        assert client.screenshot(closed.page, javascript="1", extraHeaders={"X-A": "b"}) == picture("png")
        assert vendor.requests[1].json["extraHeaders"] == {"x-a": "b"}

    def test_a_wrong_key_is_a_refused_key(self, closed: Closed) -> None:
        for client in (closed.snapsharp("tn_wrong"), closed.snapapi("tn_wrong")):
            with pytest.raises(KeyRefused, match="unknown, revoked or expired") as refused:
                client.screenshot(closed.page)
            assert refused.value.code in ("unauthorized", "INVALID_API_KEY")

    def test_a_key_without_the_scope_is_on_another_plan(self, closed: Closed) -> None:
        with pytest.raises(VendorFailed, match=r"^js needs a key with the scope script") as snapsharp:
            closed.snapsharp(closed.budgeted).screenshot(closed.page, js="1")
        assert (snapsharp.value.status, snapsharp.value.code) == (403, "plan_required")
        with pytest.raises(VendorFailed, match=r"^javascript needs a key with the scope script") as snapapi:
            closed.snapapi(closed.budgeted).screenshot(closed.page, javascript="1")
        assert (snapapi.value.status, snapapi.value.code) == (403, "FORBIDDEN")

    def test_too_much_is_told_with_the_time_to_wait(self, closed: Closed) -> None:
        for number in range(2):
            closed.snapsharp().screenshot(f"{closed.page}?{number}")
        for client in (closed.snapsharp(), closed.snapapi()):
            with pytest.raises(TooManyRequests, match="No more than 2 captures by /screenshot") as refused:
                client.screenshot(f"{closed.page}?refused")
            assert 1 <= refused.value.retry_after <= 3600

    def test_a_budget_that_is_used_up_is_a_quota_to_snapapis(self, closed: Closed) -> None:
        client = closed.snapapi(closed.budgeted)
        client.screenshot(closed.page)
        with pytest.raises(QuotaUsedUp, match="All 1 captures of this key for today") as used_up:
            client.screenshot(f"{closed.page}?2")
        assert used_up.value.code == "QUOTA_EXCEEDED"
        with pytest.raises(TooManyRequests, match="All 1 captures"):
            closed.snapsharp(closed.budgeted).screenshot(f"{closed.page}?2")
        usage = client.usage()
        assert (usage["used"], usage["limit"], usage["remaining"]) == (1, 1, 0)
        assert closed.snapsharp(closed.budgeted).usage()["usage"]["percentage"] == 100

    def test_a_page_that_takes_too_long_is_told_so(self, closed: Closed, vendor: Upstream) -> None:
        vendor.behave(answers.snapapi_error(504, "TIMEOUT", "too slow"))
        for client in (closed.snapsharp(), closed.snapapi()):
            with pytest.raises(PageTookTooLong):
                client.screenshot(closed.page)

    def test_a_key_in_the_url_is_taken_where_snapapis_give_it_and_written_nowhere(
        self, closed: Closed
    ) -> None:
        session = closed.snapapi().session
        query = {"access_key": closed.key}
        posted = session.post(closed.url + PATH, params=query, json={"url": closed.page, "fullPage": False})
        assert (posted.status_code, posted.content) == (200, picture("png"))
        assert session.get(f"{closed.url}/v1/usage", params=query).json()["used"] == 1
        for path in (PATH, "/screenshot", "/usage", "/thumb"):
            refused = session.get(closed.url + path, params=query | {"url": closed.page})
            assert refused.status_code == 401, path
        bad = session.post(closed.url + PATH, params={"access_key": "tn_wrong"}, json={"url": closed.page})
        assert (bad.status_code, bad.json()["error"]["code"]) == (401, "INVALID_API_KEY")
        more = session.post(closed.url + PATH, params=query | {"width": 400}, json={"url": closed.page})
        assert (more.status_code, more.json()["message"]) == (400, "width: Belongs into the JSON body.")
        two = session.post(
            closed.url + PATH, params=query, json={"url": closed.page}, headers={"X-Api-Key": "tn_b"}
        )
        assert (two.status_code, two.json()["message"]) == (401, "Two different keys are given.")
        wait_until(lambda: '"path": "/v1/usage"' in closed.log.read_text(), what="the lines of the log")
        for secret in (closed.key, "tn_wrong", "access_key"):
            assert secret not in closed.log.read_text()


class TestWhatIsLeft:
    @pytest.fixture
    def app(self, upstream: Upstream, tmp_path: Path) -> Iterator[Flask]:
        limits = {"LIMIT_SCREENSHOT": "3 per hour", "SIGNING_KEYS": SIGNING_KEYS}
        with running_app(folder_environment(upstream.url, tmp_path, **limits)) as app:
            yield app

    def test_answers_say_what_is_left(self, app: Flask) -> None:
        client, key = app.test_client(), make_key(app, "a", daily_captures=2)
        first = client.post(PATH, json={"url": TARGET}, headers=key)
        assert (first.headers["X-RateLimit-Limit"], first.headers["X-RateLimit-Remaining"]) == ("3", "2")
        assert time.time() < int(first.headers["X-RateLimit-Reset"]) <= time.time() + 3601
        assert (first.headers["X-Quota-Used"], first.headers["X-Quota-Limit"]) == ("1", "2")
        assert int(first.headers["X-Quota-Reset"]) % 86_400 in (0, 1)
        again = client.post(PATH, json={"url": TARGET}, headers=key)
        assert "X-RateLimit-Limit" not in again.headers
        for number in range(2):
            last = client.get(PATH, query_string={"url": f"{TARGET}?{number}"}, headers=key)
        assert last.status_code == 429
        assert (last.headers["X-Quota-Used"], last.headers["X-Quota-Limit"]) == ("2", "2")
        usage = client.get("/v1/usage", headers=key)
        assert usage.headers["X-Quota-Used"] == "2"

    def test_a_limit_that_is_reached_says_when_it_ends(self, app: Flask) -> None:
        client, key = app.test_client(), make_key(app, "a")
        for number in range(4):
            last = client.post(PATH, json={"url": f"{TARGET}?{number}"}, headers=key)
        assert last.status_code == 429
        assert (last.headers["X-RateLimit-Limit"], last.headers["X-RateLimit-Remaining"]) == ("3", "0")
        seconds = last.get_json()["error"]["details"]["retryAfter"]
        assert abs(int(last.headers["X-RateLimit-Reset"]) - time.time() - seconds) <= 2

    def test_what_others_may_be_given_tells_nothing_of_this_caller(self, upstream: Upstream) -> None:
        with client_of(snapapi_environment(upstream.url)) as client:
            answer = client.get(PATH, query_string={"url": TARGET}, buffered=True)
            assert answer.headers["Cache-Control"].startswith("public")
            assert not [name for name, _ in answer.headers if name.startswith(("X-RateLimit", "X-Quota"))]
            assert client.get("/screenshot", query_string={"url": "x"}).status_code == 400


def test_metrics_and_figures_count_them_as_every_route(upstream: Upstream) -> None:
    with client_of(snapapi_environment(upstream.url)) as client:
        client.get(PATH, query_string={"url": TARGET}, buffered=True)
        client.post(PATH, json={"url": TARGET, "responseType": "json"})
        client.post(PATH, json={"url": TARGET, "responseType": "json"})
        (mine,) = client.get("/usage").get_json()["accounts"]
        metrics = client.get("/metrics").text
    counted = {name: mine["total"][name] for name in ("captures", "hits", "misses")}
    assert counted == {"captures": 2, "hits": 1, "misses": 2}
    for method, cache in (("GET", "miss"), ("POST", "hit")):
        assert re.search(
            rf'^thumbnailer_\w+\{{(?=[^}}]*cache="{cache}")(?=[^}}]*method="{method}")[^}}]*route="{PATH}"',
            metrics,
            re.MULTILINE,
        )


class TestUsage:
    @pytest.fixture
    def app(self, upstream: Upstream, tmp_path: Path) -> Iterator[Flask]:
        terms = {"PLANS": "free:daily_captures=5", "SIGNING_KEYS": SIGNING_KEYS}
        with running_app(folder_environment(upstream.url, tmp_path, **terms)) as app:
            yield app

    def test_it_is_the_calling_keys_and_of_this_day(self, app: Flask) -> None:
        client = app.test_client()
        admin, own = make_key(app, "a", Scope.ADMIN), make_key(app, "b", plan="free")
        for headers in (admin, own, own):
            assert client.post(PATH, json={"url": TARGET}, headers=headers).status_code == 200
        told = client.get("/v1/usage", headers=own)
        assert told.headers["Cache-Control"] == "no-store"
        document = told.get_json()
        period = document.pop("period")
        start, end = (datetime.fromisoformat(period[name]) for name in ("start", "end"))
        assert (end - start).total_seconds() == 86_400
        assert start.timestamp() <= time.time() < end.timestamp()
        assert document.pop("resetAt") == period["end"]
        assert document == {
            "used": 0,  # the admin's capture served them all
            "limit": 5,
            "remaining": 5,
            "plan": "free",
            "usage": {"requests": 0, "limit": 5, "remaining": 5, "percentage": 0},
            "breakdown": {"screenshot": 0},
            "cache_hit_rate": 1.0,
        }
        all_of_it = client.get("/v1/usage", headers=admin).get_json()
        assert (all_of_it["used"], all_of_it["limit"], all_of_it["remaining"]) == (1, None, None)
        assert (all_of_it["plan"], all_of_it["cache_hit_rate"]) == (None, 0.0)

    def test_it_knows_what_another_process_has_just_taken_of_the_budget(self, app: Flask) -> None:
        key, client = make_key(app, "a", plan="free"), app.test_client()
        assert client.get("/v1/usage", headers=key).get_json()["remaining"] == 5
        account = "key:" + key["X-API-Key"].split("_")[1]
        assert app.extensions[EXTENSION].accounts.budgets.spend(account)
        told = client.get("/v1/usage", headers=key)
        assert (told.get_json()["used"], told.get_json()["remaining"]) == (1, 4)
        assert (told.headers["X-Quota-Used"], told.headers["X-Quota-Limit"]) == ("1", "5")

    def test_it_needs_a_key(self, app: Flask) -> None:
        make_key(app, "a")
        client = app.test_client()
        assert client.get("/v1/usage").get_json()["error"] == "unauthorized"
        wrong = client.get("/v1/usage", headers={"X-API-Key": "tn_wrong"})
        assert (wrong.status_code, wrong.get_json()["error"]["code"]) == (401, "INVALID_API_KEY")
        assert wrong.headers["WWW-Authenticate"].startswith("Bearer")

    @pytest.mark.parametrize(
        ("query", "name", "fault"),
        [
            pytest.param("days=7", "days", "Unknown field.", id="unknown"),
            pytest.param("days=7&days=8", "days", "Must not be repeated.", id="repeated"),
            pytest.param(
                "access_key={key}&access_key={key}", "access_key", "Must not be repeated.", id="a key"
            ),
        ],
    )
    def test_it_takes_nothing_but_a_key(self, app: Flask, query: str, name: str, fault: str) -> None:
        key = make_key(app, "a")["X-API-Key"]
        client, url = app.test_client(), f"/v1/usage?{query.format(key=key)}"
        for headers in ({"Authorization": f"Bearer {key}"}, {"X-API-Key": key}):
            refused = client.get(url, headers=headers)
            assert (refused.status_code, refused.headers["X-Problem"]) == (400, "invalid-parameters")
            assert f"{name}: {fault}" in refused.get_json()["message"]
        assert refused.get_json()["error"]["details"][name] == fault
        assert client.get(f"/v1/usage?access_key={key}").status_code == 200


@pytest.mark.parametrize(
    ("path", "more"),
    [("/api/screenshots", {}), (PATH, {"responseType": "json"})],
    ids=["hermesforge", "SnapAPI"],
)
def test_an_old_picture_from_the_cache_is_told_as_cached(
    upstream: Upstream, tmp_path: Path, path: str, more: dict[str, str]
) -> None:
    with client_of(snapapi_environment(upstream.url, CACHE_DIR=str(tmp_path))) as client:
        taken = client.post(path, json={"url": TARGET, **more}).get_json()
        assert age_pictures(tmp_path, 7200) == 1
        old = client.post(path, json={"url": TARGET, **more}).get_json()
    assert (taken["cached"], old["cached"]) == (False, True)
