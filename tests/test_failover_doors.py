"""Failover as callers and operators meet it: real upstreams that misbehave, through the doors."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests
from flask.testing import FlaskClient
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from tests.support import answers
from tests.support.answers import Answer, Behaviour
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.service import client_of, running_service
from tests.support.upstream import Upstream

KEYS = {
    "snapapi": "sk-snapapi-secret",
    "snapsharp": "sk_live_snapsharp-secret",
    "hermesforge": "hf-secret",
}
numbers = itertools.count()


@pytest.fixture
def first() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def second() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def environment(upstreams: Mapping[str, Upstream], **more: str) -> dict[str, str]:
    """Settings with these vendors as providers, in this order."""
    prefixes = {"snapapi": "SNAPAPI", "snapsharp": "SNAPSHARP_API", "hermesforge": "HERMESFORGE_API"}
    environ = {"PROVIDERS": ",".join(upstreams), "RATELIMIT_ENABLED": "false", "LOG_LEVEL": "warning"}
    for name, upstream in upstreams.items():
        environ[f"{prefixes[name]}_BASE"] = upstream.url
        environ[f"{prefixes[name]}_KEY"] = KEYS[name]
    return environ | more


@pytest.fixture
def pair(first: Upstream, second: Upstream) -> Iterator[FlaskClient]:
    """SnapSharp, then SnapAPI, with six seconds for both."""
    with client_of(
        environment({"snapsharp": first, "snapapi": second}, UPSTREAM_TIMEOUT="6", BREAKER_PAUSE="600")
    ) as client:
        yield client


def fresh_page() -> str:
    return f"http://93.184.216.34/{next(numbers)}"


def ask(
    client: FlaskClient, page: str | None = None, path: str = "/screenshot", **query: str
) -> TestResponse:
    return client.get(path, query_string={"url": page or fresh_page(), **query}, buffered=True)


def problem(response: TestResponse) -> tuple[int, str]:
    return response.status_code, response.get_json()["type"].removeprefix("/problems/")


def breaker_states(client: FlaskClient) -> dict[str, str]:
    return {each["name"]: each["breaker"] for each in client.get("/ready").get_json()["providers"]}


HANGING: dict[str, Behaviour] = {
    "silent": answers.silence(),
    "headers byte by byte": answers.slow_head(),
    "body byte by byte": answers.drip(),
}


@pytest.mark.parametrize("behaviour", HANGING.values(), ids=HANGING)
def test_a_provider_that_hangs_leaves_time_for_the_next(
    pair: FlaskClient, first: Upstream, second: Upstream, behaviour: Behaviour
) -> None:
    first.behave(behaviour)
    response = ask(pair)
    assert (response.status_code, response.data) == (200, picture())
    assert (len(first.requests), len(second.requests)) == (1, 1)


def test_a_stream_fails_over_too_while_no_byte_is_out(
    pair: FlaskClient, first: Upstream, second: Upstream
) -> None:
    first.behave(answers.silence())
    response = ask(pair, path="/screenshot/stream")
    assert (response.status_code, response.data) == (200, picture())
    assert len(second.requests) == 1


def test_a_stream_that_has_begun_may_take_longer_than_the_share_of_its_provider(
    first: Upstream, second: Upstream
) -> None:
    """Five seconds of ten: no other provider can take over any more."""
    settings = environment({"snapsharp": first, "snapapi": second}, UPSTREAM_TIMEOUT="10")
    body = picture(width=64, height=64)
    pieces = [body[at : at + len(body) // 5 + 1] for at in range(0, len(body), len(body) // 5 + 1)]
    first.behave(
        Answer(headers=(("Content-Type", "image/png"),), chunks=lambda: iter(pieces), body_pause=1.3)
    )
    with client_of(settings) as client:
        response = ask(client, path="/screenshot/stream")
        assert (response.status_code, response.data) == (200, body)
    assert len(second.requests) == 0


def test_nobody_waits_longer_than_the_deadline_and_a_second(first: Upstream, second: Upstream) -> None:
    first.behave(answers.silence())
    second.behave(answers.silence())
    with client_of(environment({"snapsharp": first, "snapapi": second}, UPSTREAM_TIMEOUT="2")) as client:
        started_at = time.monotonic()
        response = ask(client)
        assert problem(response) == (504, "upstream-timeout")
        assert time.monotonic() - started_at < 3.5, "a second more at most, and half a one for a busy machine"
    assert (len(first.requests), len(second.requests)) == (1, 1)


def test_an_answer_names_the_provider_that_took_the_picture(pair: FlaskClient, first: Upstream) -> None:
    assert "capture;dur=" in ask(pair).headers["Server-Timing"]
    assert ';desc="snapsharp"' in ask(pair).headers["Server-Timing"]
    first.behave(answers.json_error(402, {"message": "pay"}))
    assert ';desc="snapapi"' in ask(pair).headers["Server-Timing"]
    assert ';desc="snapapi"' in ask(pair, path="/screenshot/stream").headers["Server-Timing"]


def test_a_cached_answer_names_no_provider(pair: FlaskClient) -> None:
    page = fresh_page()
    ask(pair, page)
    assert "desc=" not in ask(pair, page).headers["Server-Timing"]


def test_an_open_breaker_passes_the_provider_over(
    pair: FlaskClient, first: Upstream, second: Upstream
) -> None:
    first.behave(answers.json_error(402, {"message": "pay"}))
    for _ in range(8):
        assert ask(pair).status_code == 200
    assert (len(first.requests), len(second.requests)) == (5, 8)


def test_ready_tells_of_breakers_and_of_who_is_in_charge(pair: FlaskClient, first: Upstream) -> None:
    assert pair.get("/ready").get_json()["providers"] == [
        {"name": name, "breaker": "closed", "ready": True, "in_charge": in_charge, "answered_at": None}
        for name, in_charge in (("snapsharp", True), ("snapapi", False))
    ]
    first.behave(answers.json_error(402, {"message": "pay"}))
    for _ in range(5):
        ask(pair)
    response = pair.get("/ready")
    assert response.status_code == 200
    document = response.get_json()
    assert document["status"] == "degraded"
    sharp, api = document["providers"]
    assert (sharp["breaker"], sharp["in_charge"], sharp["answered_at"]) == ("open", False, None)
    assert (api["breaker"], api["in_charge"]) == ("closed", True)
    assert api["answered_at"].startswith("20")


def test_after_the_pause_one_capture_tries_and_closes_it(first: Upstream, second: Upstream) -> None:
    settings = environment({"snapsharp": first, "snapapi": second}, BREAKER_PAUSE="0.2", BREAKER_FAILURES="1")
    first.behave(answers.json_error(402, {"message": "pay"}), answers.image())
    with client_of(settings) as client:
        ask(client)
        wait_until(lambda: breaker_states(client)["snapsharp"] == "half-open")
        assert ask(client).status_code == 200
        assert breaker_states(client) == {"snapsharp": "closed", "snapapi": "closed"}
    assert (len(first.requests), len(second.requests)) == (2, 1)


BROKEN = {
    "quota": (answers.json_error(402, {"message": "pay"}), 503, "upstream-quota"),
    "key": (answers.json_error(401, {"message": "who"}), 502, "upstream-auth"),
}


@pytest.mark.parametrize(("answer", "status", "slug"), BROKEN.values(), ids=BROKEN)
def test_with_all_breakers_open_the_honest_error_comes_at_once_and_says_when_to_come_back(
    first: Upstream, answer: Answer, status: int, slug: str
) -> None:
    first.behave(answer)
    with client_of(environment({"snapsharp": first}, BREAKER_FAILURES="2", BREAKER_PAUSE="40")) as client:
        for _ in range(6):
            response = ask(client)
            assert problem(response) == (status, slug)
        assert len(first.requests) == 2
        assert 1 <= int(response.headers["Retry-After"]) <= 40
        ready = client.get("/ready")
        assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")


def test_other_failures_open_it_as_well(first: Upstream) -> None:
    """What a connection that is refused, reset or silent looks like."""
    settings = environment({"snapsharp": first}, BREAKER_FAILURES="3", UPSTREAM_TIMEOUT="1")
    first.behave(answers.reset())
    with client_of(settings) as client:
        for _ in range(6):
            assert problem(ask(client)) == (502, "upstream-failed")
        assert len(first.requests) == 3


def test_all_workers_share_one_breaker_by_redis(first: Upstream, redis_url: str, tmp_path: Path) -> None:
    first.behave(answers.json_error(402, {"message": "pay"}))
    settings = environment({"snapsharp": first}, REDIS_URL=redis_url, WEB_CONCURRENCY="2")
    settings |= {"CACHE_KEY_PREFIX": f"{secrets.token_hex(4)}:", "BREAKER_PAUSE": "600"}
    with running_service(tmp_path, settings) as service:
        for _ in range(24):  # a new connection each time, which either worker may take
            response = requests.get(f"{service.url}/screenshot", {"url": fresh_page()}, timeout=20)
            assert response.status_code == 503
        states = [
            requests.get(f"{service.url}/ready", timeout=20).json()["providers"][0]["breaker"]
            for _ in range(12)
        ]
    assert states == ["open"] * 12
    assert len(first.requests) == 5


def test_a_refused_key_is_the_operators_fault_and_shown_to_nobody(first: Upstream) -> None:
    echo = answers.json_error(401, {"error": "unauthorized", "message": f"bad key {KEYS['snapsharp']}"})
    first.behave(echo)
    with client_of(environment({"snapsharp": first})) as client, capture_logs() as lines:
        response = ask(client)
    assert problem(response) == (502, "upstream-auth")
    assert len(first.requests) == 1
    fault = next(line for line in lines if line["event"] == "upstream_refuses_key_or_plan")
    assert (fault["log_level"], fault["provider"], fault["status"]) == ("error", "snapsharp", 401)
    assert KEYS["snapsharp"] not in response.text + repr(lines)


def with_pause(seconds: int) -> Answer:
    return answers.json_error(429, {"message": "slow down"}, ("Retry-After", str(seconds)))


def test_a_pause_that_fits_into_the_deadline_is_waited_for(
    pair: FlaskClient, first: Upstream, second: Upstream
) -> None:
    first.behave(with_pause(1), answers.image())
    started_at = time.monotonic()
    assert ask(pair).status_code == 200
    assert time.monotonic() - started_at >= 1
    assert (len(first.requests), len(second.requests)) == (2, 0)


def test_a_pause_beyond_the_deadline_leads_to_the_next_provider_at_once(
    pair: FlaskClient, first: Upstream, second: Upstream
) -> None:
    first.behave(with_pause(600))
    assert ask(pair).status_code == 200
    assert (len(first.requests), len(second.requests)) == (1, 1)


#: What upstreams say, by row of the table in docs/adding-a-provider.md: status and slug of ours, the
#: Retry-After that a caller sees (None: not looked at), and how many calls the upstream gets.
Row = tuple[Answer, int, str, str | None, range]
ONCE, TWICE, REPEATED = range(1, 2), range(2, 3), range(2, 4)
ROWS: dict[str, Row] = {
    "400": (answers.json_error(400, {"message": "bad url"}), 422, "option-unsupported", None, ONCE),
    "422": (answers.json_error(422, {"message": "bad option"}), 422, "option-unsupported", None, ONCE),
    "401": (answers.json_error(401, {"message": "who"}), 502, "upstream-auth", None, ONCE),
    "403": (answers.json_error(403, {"message": "plan"}), 502, "upstream-auth", None, ONCE),
    "402": (
        answers.json_error(402, {"message": "pay"}, ("Retry-After", "90")),
        503,
        "upstream-quota",
        "90",
        ONCE,
    ),
    "404": (answers.json_error(404, {"message": "gone"}), 422, "target-unreachable", None, ONCE),
    "410": (answers.json_error(410, {"message": "gone"}), 422, "target-unreachable", None, ONCE),
    "429": (with_pause(77), 503, "upstream-busy", "77", ONCE),
    "500": (answers.json_error(500, {"message": "oops"}), 502, "upstream-failed", None, REPEATED),
    "503": (answers.json_error(503, {"message": "queue"}), 502, "upstream-failed", None, REPEATED),
    "reset": (answers.reset(), 502, "upstream-failed", None, REPEATED),
    "silence": (answers.silence(), 504, "upstream-timeout", None, ONCE),
    "504": (answers.json_error(504, {"message": "slow page"}), 504, "upstream-timeout", None, ONCE),
    "html": (answers.html_as_png(), 502, "not-an-image", None, TWICE),
    "json": (
        answers.content(b'{"status": "queued"}' * 9, "application/json"),
        502,
        "not-an-image",
        None,
        TWICE,
    ),
    "empty": (answers.empty(), 502, "not-an-image", None, TWICE),
    "cut-off": (answers.cut_off(framing="close"), 502, "not-an-image", None, TWICE),
    "too-large": (answers.streamed(200_000), 502, "image-too-large", None, ONCE),
}


@pytest.fixture(scope="module", params=["hermesforge", "snapsharp", "snapapi"])
def alone(request: pytest.FixtureRequest) -> Iterator[tuple[FlaskClient, Upstream]]:
    """Each vendor as the only provider."""
    with Upstream() as upstream:
        settings = environment(
            {request.param: upstream},
            UPSTREAM_TIMEOUT="4",
            MAX_IMAGE_BYTES="100000",
            BREAKER_FAILURES="10000",
        )
        with client_of(settings) as client:
            yield client, upstream


@pytest.mark.parametrize(("answer", "status", "slug", "retry_after", "calls"), ROWS.values(), ids=ROWS)
def test_what_each_vendor_says_becomes_the_answer_that_it_means(
    alone: tuple[FlaskClient, Upstream],
    answer: Answer,
    status: int,
    slug: str,
    retry_after: str | None,
    calls: range,
) -> None:
    client, upstream = alone
    upstream.behave(answer)
    response = ask(client)
    assert problem(response) == (status, slug)
    assert len(upstream.requests) in calls
    if retry_after is not None:
        assert response.headers["Retry-After"] == retry_after
    assert not any(key in response.text for key in KEYS.values())
    assert response.headers["Cache-Control"] == "no-store"


NEXT_TRIED = {
    "401",
    "402",
    "403",
    "429",
    "500",
    "503",
    "reset",
    "silence",
    "504",
    "html",
    "empty",
    "too-large",
}


@pytest.mark.parametrize("row", sorted(NEXT_TRIED | {"400", "422", "404", "410"}))
def test_the_next_provider_is_tried_for_what_is_the_providers_fault_only(
    first: Upstream, second: Upstream, row: str
) -> None:
    first.behave(ROWS[row][0])
    settings = environment(
        {"hermesforge": first, "snapapi": second}, UPSTREAM_TIMEOUT="3", MAX_IMAGE_BYTES="100000"
    )
    with client_of(settings) as client:
        assert (ask(client).status_code == 200) == (row in NEXT_TRIED)
    assert len(second.requests) == (1 if row in NEXT_TRIED else 0)
