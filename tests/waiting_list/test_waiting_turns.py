"""What holds for those who were held, and whose turn it is to lead."""

from __future__ import annotations

import secrets
import time
from typing import cast

import pytest
from flask.testing import FlaskClient

from blueprints.request_log import BEGUN_AT
from tests.support.gates import Gate, new_page, thumb
from tests.support.service import running_app, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.signing import UrlSigner, parse_signing_keys
from wiring.fast_path import Key
from wiring.waiting_list import TRUSTED_SECONDS, WaitingList
from wiring.web_worker import Connection


def test_the_time_that_a_request_was_held_counts(upstream: Upstream, gate: Gate) -> None:
    def held(seconds: float) -> dict[str, float]:
        return {BEGUN_AT: time.monotonic() - seconds}

    with running_app(snapapi_environment(upstream.url, UPSTREAM_TIMEOUT="25")) as app:
        client: FlaskClient = app.test_client()
        late_page = thumb(new_page())
        late = client.get(late_page, environ_overrides=held(26))
        pending = client.get(thumb(new_page(), wait="20"), environ_overrides=held(21))
        gate.is_open = True
        again = client.get(late_page)
    assert late.get_json()["type"] == "/problems/upstream-timeout"
    assert again.status_code == 200, "nobody tried, so nothing is held against the page"
    assert pending.status_code == 202, "twenty seconds were over before it came here, its deadline was not"


def test_a_signature_that_was_good_when_the_request_came_is_honoured_though_it_was_held(
    upstream: Upstream, gate: Gate
) -> None:
    gate.is_open = True
    keys = "k1:" + secrets.token_hex(32)
    query = [("url", new_page())]
    url = UrlSigner(parse_signing_keys(keys)).sign(
        "/thumb", query, now=time.time() - 60, exp=int(time.time()) - 3
    )
    with running_app(snapapi_environment(upstream.url, SIGNING_KEYS=keys)) as app:
        client: FlaskClient = app.test_client()
        in_time = client.get(str(url), environ_overrides={BEGUN_AT: time.monotonic() - 10})
        late = client.get(str(url), environ_overrides={BEGUN_AT: time.monotonic() - 1})
    assert (in_time.status_code, late.status_code) == (200, 403)
    assert "max-age=0" in in_time.headers["Cache-Control"]


KEY: Key = (b"GET", b"/thumb", b"", b"", b"")


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _connections(count: int) -> list[Connection]:
    return [cast(Connection, object()) for _ in range(count)]


def test_the_first_leads_and_the_others_are_held_until_it_leaves() -> None:
    waiting = WaitingList(places=9)
    first, second, third = _connections(3)
    assert [waiting.join(KEY, each) for each in (first, second, third)] == [False, True, True]
    assert waiting.has_company(KEY, first)
    assert waiting.leave(KEY, second) == [], "it does not lead"
    assert waiting.leave(KEY, first) == [second, third]
    assert waiting.leave(KEY, first) == [], "once"
    assert not waiting.has_company(KEY, first)
    assert waiting.join(KEY, second) is False, "somebody has to lead"
    assert not waiting.has_company(KEY, second)


def test_the_next_leads_where_the_leader_takes_long() -> None:
    clock = _Clock()
    waiting = WaitingList(places=9, clock=clock)
    slow, second, third = _connections(3)
    for each in (slow, second, third):
        waiting.join(KEY, each)
    clock.now = TRUSTED_SECONDS - 0.1
    assert list(waiting.relieve()) == []
    clock.now = TRUSTED_SECONDS + 0.1
    assert list(waiting.relieve()) == [second]
    assert waiting.leave(KEY, slow) == [], "another leads by now"
    assert waiting.has_company(KEY, second)
    assert waiting.leave(KEY, second) == [third]


def test_who_led_before_leads_again_where_the_next_is_turned_away() -> None:
    clock = _Clock()
    waiting = WaitingList(places=9, clock=clock)
    slow, second, third, fourth = _connections(4)
    for each in (slow, second, third, fourth):
        waiting.join(KEY, each)
    clock.now = TRUSTED_SECONDS + 0.1
    assert list(waiting.relieve()) == [second]
    assert waiting.has_company(KEY, slow)
    assert waiting.step_back(KEY, second) == []
    assert list(waiting.relieve()) == [], "not at once"
    clock.now = 3 * TRUSTED_SECONDS + 0.2
    assert list(waiting.relieve()) == [third]
    assert waiting.leave(KEY, slow) == [], "it has its answer, the one who leads will have"
    assert waiting.step_back(KEY, third) == [fourth], "nobody is left who led before"


def test_a_crowd_takes_few_threads_however_long_its_capture_takes() -> None:
    clock = _Clock()
    waiting = WaitingList(places=99, clock=clock)
    for each in _connections(99):
        waiting.join(KEY, each)
    relieved_at = []
    while clock.now < 300:
        clock.now += 0.25
        relieved_at += [clock.now for _ in waiting.relieve()]
    assert len(relieved_at) == 7
    assert relieved_at[:3] == pytest.approx([2, 6, 14], abs=1)


def test_nobody_is_held_behind_a_leader_that_is_lost() -> None:
    clock = _Clock()
    waiting = WaitingList(places=9, clock=clock)
    lost, late = _connections(2)
    waiting.join(KEY, lost)
    clock.now = TRUSTED_SECONDS + 0.1
    assert list(waiting.relieve()) == []
    assert waiting.join(KEY, late) is False


def test_no_more_are_held_than_there_are_places() -> None:
    clock = _Clock()
    waiting = WaitingList(places=2, clock=clock)
    leader, second, third, fourth, fifth = _connections(5)
    others: Key = (b"GET", b"/screenshot", b"", b"", b"")
    assert waiting.join(others, fifth) is False
    assert [waiting.join(KEY, each) for each in (leader, second, third, fourth)] == [False, True, True, False]
    clock.now = TRUSTED_SECONDS + 0.1
    assert list(waiting.relieve()) == [second]
    assert waiting.join(KEY, fourth), "the one who leads now has left a place"
    assert waiting.leave(KEY, second) == [third, fourth]
    assert [waiting.join(KEY, each) for each in (leader, second, third)] == [False, True, True]
