"""``GET /explain``: what it foretells is what happens, and nothing happens because of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.support.access import make_key, sqlite_url
from tests.support.answers import image, json_error
from tests.support.service import running_app, snapapi_environment
from tests.support.trips import TARGET as PAGE
from tests.support.trips import Journey, journey
from tests.support.upstream import Upstream
from thumbnailer.errors import TargetUnreachable as Unreachable
from thumbnailer.errors import ThumbnailerError, UpstreamFailed
from thumbnailer.explaining import Action, Explanation
from thumbnailer.host_patterns import parse_host_pattern
from thumbnailer.keys import Scope
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.pipeline import STALE_WHILE_REVALIDATE_SECONDS
from thumbnailer.sites import Site
from thumbnailer.terms import CacheStatus, StaleUse
from thumbnailer.thumbnails import ThumbnailRequest

REQUEST = CaptureRequest(url=PAGE)
HOUR, WEEK = 3600, STALE_WHILE_REVALIDATE_SECONDS
SECRET = "sk-test-secret"


@pytest.fixture
def trip(tmp_path: Path) -> Iterator[Journey]:
    trip = journey(tmp_path, forgets=True)
    yield trip
    trip.provider.may_finish.set()
    trip.refresher.close()


def _take(trip: Journey) -> None:
    trip.pipeline.fetch(REQUEST, trip.terms())


def _fail(trip: Journey) -> None:
    """The target fails, whatever is in the cache, and is still dead."""
    trip.provider.fails_with = Unreachable("gone")
    wants_new = replace(trip.terms(max_age_seconds=0), stale_use=StaleUse.WHERE_A_NEW_ONE_FAILS)
    try:
        trip.pipeline.fetch(REQUEST, wants_new)
    except Unreachable:
        return


def _break_provider(trip: Journey) -> None:
    for _ in range(5):
        trip.breakers.settle(trip.breakers.admit("scripted", Deadline.after(5)), UpstreamFailed("broken"))


def _purge(trip: Journey) -> None:
    trip.purger.purge([Site.of(PAGE).scope])
    trip.clock.turn(1)


Step = Callable[[Journey], None]


def _wait(seconds: float) -> Step:
    return lambda trip: trip.clock.turn(seconds)


SITUATIONS = [
    pytest.param([], Action.CAPTURE, id="nothing is known"),
    pytest.param([_take], Action.HIT, id="a new picture"),
    pytest.param([_take, _wait(HOUR + 1)], Action.STALE, id="a picture a little too old"),
    pytest.param([_take, _wait(HOUR + WEEK + 1)], Action.CAPTURE, id="a picture far too old"),
    pytest.param([_fail], Action.REFUSE, id="a dead page"),
    pytest.param([_fail, _wait(61)], Action.CAPTURE, id="a dead page whose pause is over"),
    pytest.param([_take, _wait(5), _fail], Action.HIT, id="a dead page and a new picture"),
    pytest.param([_take, _wait(HOUR + 1), _fail], Action.STALE, id="a dead page and an old picture"),
    pytest.param(
        [_take, _wait(HOUR + WEEK + 1), _fail], Action.STALE, id="a dead page and a very old picture"
    ),
    pytest.param([_take, _wait(1), _purge], Action.CAPTURE, id="a picture that was purged"),
    pytest.param([_fail, _wait(1), _purge], Action.CAPTURE, id="a failure that was purged"),
    pytest.param([_break_provider], Action.REFUSE, id="a provider that is left alone"),
    pytest.param([_take, _break_provider], Action.HIT, id="a new picture without a provider"),
    pytest.param(
        [_take, _wait(HOUR + WEEK + 1), _break_provider], Action.STALE, id="an old picture without a provider"
    ),
]


def _explain(trip: Journey, *, wants_new: bool = False, request: CaptureRequest = REQUEST) -> Explanation:
    return trip.explainer.explain(ThumbnailRequest(request), max_age_seconds=HOUR, wants_new=wants_new)


def _what_happens(trip: Journey, *, wants_new: bool) -> tuple[Action, str | None]:
    """The action in the words of an explanation, and the trouble that was told of."""
    terms = trip.terms()
    if wants_new:
        terms = replace(terms, stale_use=StaleUse.WHERE_A_NEW_ONE_FAILS)
    trip.provider.fails_with = None
    try:
        delivery = trip.pipeline.fetch(REQUEST, terms)
    except ThumbnailerError as error:
        return Action.REFUSE, type(error).__name__
    trouble = type(delivery.trouble).__name__ if delivery.trouble else None
    actions = {CacheStatus.HIT: Action.HIT, CacheStatus.STALE: Action.STALE, CacheStatus.MISS: Action.CAPTURE}
    return actions[delivery.cache_status], trouble


@pytest.mark.parametrize("wants_new", [False, True], ids=["takes an old one", "wants a new one"])
@pytest.mark.parametrize(("steps", "action"), SITUATIONS)
def test_what_is_foretold_happens(trip: Journey, steps: list[Step], action: Action, wants_new: bool) -> None:
    for step in steps:
        step(trip)
    calls, charged = trip.provider.calls, list(trip.charged)
    outcome = _explain(trip, wants_new=wants_new).outcome
    if not wants_new:
        assert outcome.action is action
    assert (trip.provider.calls, trip.charged) == (calls, charged), "an explanation takes no capture"
    trouble = type(outcome.trouble).__name__ if outcome.trouble else None
    assert (outcome.action, trouble) == _what_happens(trip, wants_new=wants_new)
    if outcome.refreshes:
        assert trip.charged == [*charged, "capture"], "who sets a refresh off pays for it"


def test_an_option_that_nobody_has_is_refused(trip: Journey) -> None:
    request = replace(REQUEST, selector="#a", asked=frozenset({"selector"}))
    explanation = _explain(trip, request=request)
    assert explanation.outcome.action is Action.REFUSE
    assert [(each.name, each.lacks) for each in explanation.candidates] == [("scripted", "selector")]


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(image("png", 640, 360)) as upstream:
        yield upstream


@pytest.fixture
def app(upstream: Upstream) -> Iterator[Flask]:
    with running_app(snapapi_environment(upstream.url, PRESETS="card:thumb_width=80,format=webp")) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def explain(client: FlaskClient, target: str = PAGE, **options: str) -> dict[str, Any]:
    response = client.get("/explain", query_string={"url": target, **options})
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    assert SECRET not in response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def test_a_picture_that_nobody_has_is_explained_and_not_taken(
    client: FlaskClient, upstream: Upstream
) -> None:
    answer = explain(client, "HTTP://93.184.216.34:80/page")
    assert answer["target"] == PAGE
    assert (answer["capture"], answer["rendition"], answer["failure"], answer["purges"]) == (
        None,
        None,
        None,
        [],
    )
    assert (answer["now"]["action"], answer["now"]["provider"]) == ("capture", "snapapi")
    assert answer["providers"] == [{"name": "snapapi", "lacks": None, "breaker": "closed", "ready": True}]
    assert upstream.requests == ()


def test_the_picture_in_the_cache_is_described(client: FlaskClient) -> None:
    taken = client.get("/thumb", query_string={"url": PAGE})
    answer = explain(client)
    assert answer["now"]["action"] == "hit"
    assert answer["capture"]["etag"] == taken.headers["ETag"].strip('"')
    assert answer["capture"]["size_bytes"] == len(taken.data)
    assert (answer["capture"]["provider"], answer["capture"]["width"]) == ("snapapi", 640)
    captured, fresh, stale = (
        answer["capture"][name] for name in ("captured_at", "fresh_until", "stale_until")
    )
    assert captured < fresh < stale
    assert answer["options"]["ttl"] == 86_400


def test_a_thumbnail_is_told_from_its_capture(client: FlaskClient) -> None:
    client.get("/thumb", query_string={"url": PAGE, "thumb_width": "64"})
    first = explain(client, thumb_width="64")
    assert first["now"]["action"] == "hit"
    assert (first["rendition"]["width"], first["capture"]["width"]) == (64, 640)
    other = explain(client, thumb_width="100")
    assert (other["now"]["action"], other["rendition"]) == ("render", None)
    assert other["capture_key"] == first["capture_key"]
    assert other["rendition_key"] != first["rendition_key"]


@pytest.mark.parametrize("route", ["thumb", "screenshot"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"preset": "card"}, id="a preset"),
        pytest.param({"device": "iPhone 14", "format": "jpeg"}, id="a device"),
        pytest.param({"clip": "0,0,50,60"}, id="a rectangle"),
        pytest.param({"fail_on_status": "none", "geolocation": "1.5,-2"}, id="no statuses and a place"),
        pytest.param(
            {"thumb_width": "80", "fit": "cover", "thumb_height": "70", "dpr": "2"}, id="a thumbnail"
        ),
    ],
)
def test_the_options_told_are_those_of_the_very_picture(
    client: FlaskClient, route: str, options: dict[str, str]
) -> None:
    answer = explain(client, route=route, **options)
    again = {name: _spelled(value) for name, value in answer["options"].items() if value not in (None, [])}
    neutral = {
        name: value for name, value in again.items() if not (name == "fit" and "thumb_width" not in again)
    }
    repeated = explain(client, route=route, **neutral)
    assert (repeated["capture_key"], repeated["rendition_key"]) == (
        answer["capture_key"],
        answer["rendition_key"],
    )
    assert client.get(f"/{route}", query_string={"url": PAGE, **options}).headers["X-Cache"] == "MISS"
    assert explain(client, route=route, **neutral)["now"]["action"] == "hit"


def _spelled(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, list) else str(value)


def test_statuses_are_told_as_they_are_asked_for(client: FlaskClient) -> None:
    answer = explain(client, fail_on_status="500-599,404")
    assert answer["options"]["fail_on_status"] == "404,500-599"
    assert (answer["now"]["action"], answer["now"]["problem"]) == ("refuse", "option-unsupported")
    assert answer["providers"][0]["lacks"] == "fail_on_status"


def test_the_routes_defaults_differ(client: FlaskClient) -> None:
    thumb, screenshot = explain(client, route="thumb"), explain(client, route="screenshot")
    assert (thumb["options"]["block_ads"], screenshot["options"]["block_ads"]) == (True, False)
    assert thumb["capture_key"] != screenshot["capture_key"]
    assert explain(client)["capture_key"] == thumb["capture_key"]


def test_a_failure_is_told_with_the_next_try(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(json_error(404, {"error": "sorry", "message": "no such page"}))
    client.get("/thumb", query_string={"url": PAGE})
    answer = explain(client)
    assert (answer["failure"]["problem"], answer["failure"]["count"]) == ("target-unreachable", 1)
    assert 50 <= answer["failure"]["retry_seconds"] <= 60
    assert (answer["now"]["action"], answer["now"]["problem"]) == ("refuse", "target-unreachable")
    assert len(upstream.requests) == 1


def test_purges_that_concern_the_page_are_told(client: FlaskClient) -> None:
    client.get("/thumb", query_string={"url": PAGE})
    client.delete("/cache", query_string={"url": PAGE})
    client.post("/cache/purge", json={"hosts": ["93.184.216.34", "example.com"]})
    answer = explain(client)
    scopes = [purge["scope"] for purge in answer["purges"]]
    assert scopes == ["host 93.184.216.34", "page 93.184.216.34"]
    assert answer["now"]["action"] == "capture"
    assert client.delete("/cache", query_string={"url": PAGE}).get_json()["tags"][0] in answer["tags"]


def test_no_name_is_looked_up(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def look_up(*_: object) -> None:
        raise AssertionError("a name was looked up")

    monkeypatch.setattr("thumbnailer.guard.Guard.check", look_up)
    assert explain(client, "http://intern.example.com/")["now"]["action"] == "capture"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        pytest.param({"url": "http://10.0.0.1/"}, 403, id="a private target"),
        pytest.param({"url": "nonsense"}, 400, id="no URL"),
        pytest.param({"url": PAGE, "width": "5"}, 400, id="an option out of range"),
        pytest.param({"url": PAGE, "route": "persist"}, 400, id="another route"),
        pytest.param({"url": PAGE, "format": "pdf"}, 400, id="a PDF of thumb"),
        pytest.param({"url": PAGE, "format": "pdf", "route": "screenshot"}, 200, id="a PDF"),
        pytest.param(
            {"url": PAGE, "stream": "true", "wait": "5", "on_error": "status"}, 200, id="what changes nothing"
        ),
    ],
)
def test_what_the_route_would_refuse_is_refused(
    client: FlaskClient, query: dict[str, str], status: int
) -> None:
    assert client.get("/explain", query_string=query).status_code == status


def test_explanations_are_limited(upstream: Upstream) -> None:
    with running_app(snapapi_environment(upstream.url, LIMIT_CACHED="2 per hour")) as app:
        client = app.test_client()
        statuses = [client.get("/explain", query_string={"url": PAGE}).status_code for _ in range(3)]
    assert statuses == [200, 200, 429]


def test_any_key_may_ask_for_the_targets_it_is_for(upstream: Upstream, tmp_path: Path) -> None:
    settings = snapapi_environment(upstream.url, DATABASE_URL=sqlite_url(tmp_path))
    with running_app(settings) as app:
        some = make_key(app, "some", Scope.PURGE, targets=(parse_host_pattern("example.com"),))
        every = make_key(app, "every", Scope.PERSIST)
    with running_app(settings) as app:
        statuses = [
            app.test_client().get("/explain", query_string={"url": PAGE}, headers=headers).status_code
            for headers in ({}, some, every)
        ]
    assert statuses == [401, 403, 200]
