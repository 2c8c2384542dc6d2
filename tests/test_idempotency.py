"""``Idempotency-Key`` on every ``POST`` that makes something: sent twice, done once."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import pytest
import redis
from flask.testing import FlaskClient

from blueprints.services import EXTENSION
from tests.support import answers
from tests.support.answers import Answer, Received
from tests.support.service import TARGET, client_of, running_app, snapapi_environment
from tests.support.upstream import Upstream

KEY = {"Idempotency-Key": "order-4711"}
DAY_SECONDS = 86_400


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def settings(upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    return snapapi_environment(upstream.url, MEDIA_DIR=str(tmp_path / "media"), RATELIMIT_ENABLED="false")


@pytest.fixture
def client(settings: dict[str, str]) -> Iterator[FlaskClient]:
    with client_of(settings) as client:
        yield client


def _is_replay(response: Any) -> bool:
    return bool(response.headers.get("Idempotency-Replayed") == "true")


def _assert_problem(response: Any, status: int, slug: str) -> None:
    assert (response.status_code, response.get_json()["type"]) == (status, f"/problems/{slug}")


def test_the_same_request_again_gets_the_first_answer_again(client: FlaskClient, upstream: Upstream) -> None:
    first = client.post("/persist", json={"url": TARGET, "force": True}, headers=KEY)
    second = client.post("/persist", json={"url": TARGET, "force": True}, headers=KEY)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.data == first.data
    for name in ("Location", "Content-Type", "Cache-Control"):
        assert second.headers[name] == first.headers[name]
    assert (_is_replay(first), _is_replay(second)) == (False, True)
    assert second.headers["X-Request-ID"] != first.headers["X-Request-ID"]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("path", "base_url", "status"),
    [
        pytest.param("/screenshots", "http://localhost", 202, id="another route"),
        pytest.param(
            "/persist", "http://other.example", 200, id="another host, whose URLs an answer may hold"
        ),
    ],
)
def test_the_same_key_elsewhere_is_another(
    client: FlaskClient, path: str, base_url: str, status: int
) -> None:
    assert client.post("/persist", json={"url": TARGET}, headers=KEY).status_code == 201
    other = client.post(path, json={"url": TARGET}, headers=KEY, base_url=base_url)
    assert (other.status_code, _is_replay(other)) == (status, False)


CREATING: dict[str, dict[str, Any]] = {
    "/persist": {"url": TARGET},
    "/screenshots": {"url": TARGET},
    "/screenshots/batch": {"urls": [TARGET], "async": True},
    "/pages": {"url": TARGET},
}

#: Those that are accepted by the database, which remembers them by itself.
ORDERING = [path for path in CREATING if path != "/persist"]


@pytest.mark.parametrize("path", CREATING)
def test_every_post_that_makes_something_makes_it_once(client: FlaskClient, path: str) -> None:
    first = client.post(path, json=CREATING[path], headers=KEY)
    again = client.post(path, json=CREATING[path], headers=KEY)
    assert first.status_code < 300
    assert (again.status_code, again.data, _is_replay(again)) == (first.status_code, first.data, True)
    other = client.post(path, json=CREATING[path] | {"width": 999}, headers=KEY)
    _assert_problem(other, 422, "idempotency-mismatch")


def test_every_such_post_documents_the_key(client: FlaskClient) -> None:
    paths = client.get("/openapi.json").get_json()["paths"]
    documented = {
        path
        for path, methods in paths.items()
        for parameter in (*methods.get("parameters", []), *methods.get("post", {}).get("parameters", []))
        if parameter["name"] == "Idempotency-Key"
    }
    assert documented == {*CREATING, "/webhooks/deliveries/{delivery_id}/redeliver"}


def test_a_request_without_a_key_is_done_each_time(client: FlaskClient, upstream: Upstream) -> None:
    first = client.post("/persist", json={"url": TARGET, "force": True})
    second = client.post("/persist", json={"url": TARGET, "force": True})
    assert (first.status_code, second.status_code) == (201, 200)
    assert not _is_replay(second)
    assert len(upstream.requests) == 2


def test_a_key_that_comes_with_another_body_is_refused(client: FlaskClient, upstream: Upstream) -> None:
    client.post("/persist", json={"url": TARGET}, headers=KEY)
    refused = client.post("/persist", json={"url": TARGET, "dark_mode": True}, headers=KEY)
    _assert_problem(refused, 422, "idempotency-mismatch")
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({}, {"headers": {"Idempotency-Key": "order-4712"}}, id="another key"),
        pytest.param({}, {"environ_base": {"REMOTE_ADDR": "198.51.100.7"}}, id="another caller"),
    ],
)
def test_keys_stand_alone(
    client: FlaskClient, upstream: Upstream, one: dict[str, Any], other: dict[str, Any]
) -> None:
    for more in (one, other):
        response = client.post("/persist", json={"url": TARGET, "force": True}, **({"headers": KEY} | more))
        assert not _is_replay(response)
    assert len(upstream.requests) == 2


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("k" * 256, id="too long"),
        pytest.param("schlüssel", id="not ASCII"),
        pytest.param("tab\tbed", id="a control character"),
    ],
)
def test_a_key_that_is_none_is_refused(client: FlaskClient, upstream: Upstream, key: str) -> None:
    response = client.post("/persist", json={"url": TARGET}, headers={"Idempotency-Key": key})
    _assert_problem(response, 400, "invalid-parameters")
    assert list(response.get_json()["errors"]) == ["Idempotency-Key"]
    assert upstream.requests == ()


def test_the_longest_key_is_a_key(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": " ~" + "k" * 253}
    first = client.post("/persist", json={"url": TARGET}, headers=headers)
    second = client.post("/persist", json={"url": TARGET}, headers=headers)
    assert (first.status_code, _is_replay(second)) == (201, True)


def test_an_error_is_not_kept(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(answers.json_error(500, {"error": "broken"}))
    assert client.post("/persist", json={"url": TARGET}, headers=KEY).status_code == 502
    assert client.post("/persist", json={"url": TARGET, "width": 1}, headers=KEY).status_code == 400
    upstream.behave(answers.image("png"))
    again = client.post("/persist", json={"url": TARGET}, headers=KEY)
    assert again.status_code == 201
    assert not _is_replay(again)


def test_the_second_of_two_at_once_is_told_to_come_back(settings: dict[str, str], upstream: Upstream) -> None:
    called, go_on = threading.Event(), threading.Event()

    def hesitate(_received: Received) -> Answer:
        called.set()
        go_on.wait(20)
        return answers.image("png")

    upstream.behave(hesitate)
    statuses: list[int] = []
    with running_app(settings) as app:

        def persist() -> None:
            response = app.test_client().post("/persist", json={"url": TARGET}, headers=KEY)
            statuses.append(response.status_code)

        first = threading.Thread(target=persist)
        first.start()
        try:
            assert called.wait(20)
            client = app.test_client()
            second = client.post("/persist", json={"url": TARGET}, headers=KEY)
            other_body = client.post("/persist", json={"url": f"{TARGET}?2"}, headers=KEY)
        finally:
            go_on.set()
            first.join()
        third = client.post("/persist", json={"url": TARGET}, headers=KEY)
    _assert_problem(second, 409, "idempotency-conflict")
    assert second.get_json()["retryable"] is True
    assert int(second.headers["Retry-After"]) >= 1
    _assert_problem(other_body, 422, "idempotency-mismatch")
    assert statuses == [201]
    assert (third.status_code, _is_replay(third)) == (201, True)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(TimeoutError, 409, id="another holds the key for too long"),
        pytest.param(OSError, 201, id="there is no lock to be had"),
    ],
)
def test_a_key_that_cannot_be_locked(
    settings: dict[str, str], monkeypatch: pytest.MonkeyPatch, error: type[OSError], status: int
) -> None:
    class NoLocks:
        def hold(self, _key: str, _deadline: object) -> object:
            raise error

    with running_app(settings) as app:
        monkeypatch.setattr(app.extensions[EXTENSION].idempotency, "_locks", NoLocks())
        answer = app.test_client().post("/persist", json={"url": TARGET}, headers=KEY)
    assert answer.status_code == status


def test_of_many_at_once_one_is_done(settings: dict[str, str], upstream: Upstream) -> None:
    statuses: list[int] = []
    with running_app(settings) as app:
        everybody = threading.Barrier(8)

        def persist() -> None:
            client = app.test_client()
            everybody.wait()
            response = client.post("/persist", json={"url": TARGET, "force": True}, headers=KEY)
            statuses.append(response.status_code)

        threads = [threading.Thread(target=persist) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert set(statuses) <= {201, 409}
    assert 201 in statuses
    assert len(upstream.requests) == 1


class TestOnRedis:
    @pytest.fixture
    def prefix(self) -> str:
        return f"idempotency-{secrets.token_hex(4)}:"

    @pytest.fixture
    def shared(self, settings: dict[str, str], redis_url: str, prefix: str) -> dict[str, str]:
        return settings | {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": prefix}

    @pytest.fixture
    def store(self, redis_url: str) -> Iterator[redis.Redis]:
        with redis.Redis.from_url(redis_url) as store:
            yield store

    def _notes(self, store: redis.Redis, prefix: str) -> list[bytes]:
        return [key for key in store.scan_iter(f"{prefix}idempotency:*") if b"lock" not in key]

    def test_every_instance_knows_the_key(self, shared: dict[str, str], upstream: Upstream) -> None:
        with client_of(shared) as one:
            first = one.post("/persist", json={"url": TARGET}, headers=KEY)
        with client_of(shared) as other:
            second = other.post("/persist", json={"url": TARGET}, headers=KEY)
        assert (first.status_code, second.status_code) == (201, 201)
        assert _is_replay(second)
        assert len(upstream.requests) == 1

    def test_an_answer_is_kept_for_a_day(
        self, shared: dict[str, str], store: redis.Redis, prefix: str
    ) -> None:
        with client_of(shared) as client:
            client.post("/persist", json={"url": TARGET}, headers=KEY)
            (note,) = self._notes(store, prefix)
            assert DAY_SECONDS - 60 < int(store.ttl(note)) <= DAY_SECONDS  # type: ignore[arg-type]  # redis-py's types cover its async client too
            store.delete(note)
            assert not _is_replay(client.post("/persist", json={"url": TARGET}, headers=KEY))

    def test_the_claim_of_a_process_that_was_killed_ends_by_itself(
        self, shared: dict[str, str], store: redis.Redis, prefix: str, upstream: Upstream
    ) -> None:
        claimed_seconds: list[int] = []

        def look(_received: Received) -> Answer:
            (note,) = self._notes(store, prefix)
            claimed_seconds.append(int(store.ttl(note)))  # type: ignore[arg-type]  # redis-py's types cover its async client too
            return answers.image("png")

        upstream.behave(look)
        with client_of(shared | {"UPSTREAM_TIMEOUT": "20"}) as client:
            assert client.post("/persist", json={"url": TARGET}, headers=KEY).status_code == 201
        assert 20 < claimed_seconds[0] <= 80

    def test_a_note_that_cannot_be_read_is_none(
        self, shared: dict[str, str], store: redis.Redis, prefix: str
    ) -> None:
        with client_of(shared) as client:
            client.post("/persist", json={"url": TARGET}, headers=KEY)
            for damage in (b"rubbish", b"tnb1", b"tnb1[1]", b'tnb1{"body_digest": "x", "answer": {"a": 1}}'):
                (note,) = self._notes(store, prefix)
                store.set(note, damage)
                response = client.post("/persist", json={"url": TARGET}, headers=KEY)
                assert (response.status_code, _is_replay(response)) == (200, False), damage

    @pytest.mark.parametrize("path", ORDERING)
    def test_an_order_whose_process_was_killed_before_it_could_answer_is_found_again(
        self, shared: dict[str, str], store: redis.Redis, prefix: str, path: str, tmp_path: Path
    ) -> None:
        shared = shared | {"DATABASE_URL": f"sqlite:///{tmp_path}/orders.sqlite3"}
        with client_of(shared) as client:
            first = client.post(path, json=CREATING[path], headers=KEY)
            (note,) = self._notes(store, prefix)
            content = cast(bytes, store.get(note))
            claim = {**json.loads(content[content.index(b"{") :]), "answer": None}
            store.set(note, content[: content.index(b"{")] + json.dumps(claim).encode())
        with client_of(shared) as client:
            again = client.post(path, json=CREATING[path], headers=KEY)
            assert again.headers["Location"] == first.headers["Location"]
            assert _is_replay(client.post(path, json=CREATING[path], headers=KEY))

    @pytest.mark.parametrize("path", ORDERING)
    def test_a_cache_that_has_lost_its_notes_makes_no_second_order(
        self, shared: dict[str, str], store: redis.Redis, prefix: str, path: str
    ) -> None:
        with client_of(shared) as client:
            first = client.post(path, json=CREATING[path], headers=KEY)
            store.delete(*self._notes(store, prefix))
            _assert_problem(
                client.post(path, json=CREATING[path] | {"width": 999}, headers=KEY),
                422,
                "idempotency-mismatch",
            )
            again = client.post(path, json=CREATING[path], headers=KEY)
        assert again.status_code < 300
        assert again.headers["Location"] == first.headers["Location"]


@pytest.mark.parametrize("path", ORDERING)
def test_without_a_cache_an_order_is_still_accepted_once(settings: dict[str, str], path: str) -> None:
    everybody = threading.Barrier(4)
    with running_app(settings | {"REDIS_URL": answers.refusing_url().replace("http", "redis")}) as app:

        def accept(_number: int) -> str:
            everybody.wait()
            return app.test_client().post(path, json=CREATING[path], headers=KEY).headers["Location"]

        with ThreadPoolExecutor(4) as callers:
            assert len(set(callers.map(accept, range(4)))) == 1


def test_without_a_cache_every_request_is_done_and_the_log_says_so(
    settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    with client_of(settings | {"REDIS_URL": answers.refusing_url().replace("http", "redis")}) as client:
        first = client.post("/persist", json={"url": TARGET}, headers=KEY)
        second = client.post("/persist", json={"url": TARGET}, headers=KEY)
    assert (first.status_code, second.status_code) == (201, 200)
    assert not _is_replay(second)
    assert "idempotency_unavailable" in capsys.readouterr().err


def test_a_replay_counts_as_an_answer_and_not_as_a_capture(
    settings: dict[str, str], upstream: Upstream
) -> None:
    limits = {"RATELIMIT_ENABLED": "true", "LIMIT_PERSIST": "1 per hour", "LIMIT_CACHED": "3 per hour"}
    with client_of(settings | limits) as client:
        statuses = [
            client.post("/persist", json={"url": TARGET, "force": True}, headers=KEY).status_code
            for _ in range(4)
        ]
    assert statuses == [201, 201, 201, 429]
    assert len(upstream.requests) == 1
