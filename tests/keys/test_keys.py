"""API keys: made, kept, found, rotated and revoked."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from sqlalchemy import event, select

from settings.values import database_url_of
from tests.support.access import sqlite_url
from tests.support.clocks import NOON, Clock
from tests.support.keys import Ticks
from tests.support.processes import wait_until
from tests.support.service import TARGET, running_service, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.access_tables import api_keys
from thumbnailer.database import Database
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.host_patterns import parse_host_pattern
from thumbnailer.key_store import KeyStore
from thumbnailer.keyring import READINGS_FOR_STRANGERS, Keyring
from thumbnailer.keys import KeyTerms, Scope, check_name, digest_of, id_of, new_id, new_token
from thumbnailer.schema import upgrade

FULL = KeyTerms(
    scopes=frozenset({Scope.RENDER, Scope.SCRIPT}),
    plan="pro",
    limits={"thumb": "120 per minute"},
    daily_captures=5000,
    targets=(parse_host_pattern("example.com"), parse_host_pattern("*.bücher.example")),
    referrers=(parse_host_pattern("shop.example.com"),),
    expires_at=NOON + 3600,
)


def test_a_key_is_kept_with_its_terms_and_without_its_secret(store: KeyStore, database: Database) -> None:
    key, token = store.create("shop", FULL)
    store.create("idle", replace(FULL, daily_captures=0))
    idle, kept = sorted(store.load(), key=lambda each: each.name)
    assert kept == key
    assert (kept.terms, idle.terms) == (FULL, replace(FULL, daily_captures=0))
    with database.reading() as connection:
        row = str(connection.execute(select(api_keys).where(api_keys.c.id == key.id)).one())
    assert token not in row
    assert token.split("_", 2)[2] not in row  # the secret may hold more of these
    assert digest_of(token) in row


def test_names_are_given_once(store: KeyStore) -> None:
    store.create("shop", KeyTerms())
    with pytest.raises(ValueError, match="taken"):
        store.create("shop", KeyTerms())


@pytest.mark.parametrize(
    "name", ["", "a\nb", "x" * 101, "-a", "ключ", "tn_abcdefghijkm_" + "A" * 43, "abcdefghijkm"]
)
def test_names_that_could_be_taken_for_something_else_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must be|looks like"):
        check_name(name)


def test_tokens_are_256_random_bits_behind_a_public_id() -> None:
    tokens = {new_token(new_id()) for _ in range(200)}
    assert len(tokens) == 200
    for token in tokens:
        assert id_of(token) is not None
        assert len(token.split("_", 2)[2]) == 43


def ring(store: KeyStore, **more: Any) -> Keyring:
    return Keyring(store, **more)


def test_a_key_is_found_by_its_token_and_by_no_other(store: KeyStore) -> None:
    key, token = store.create("shop", FULL)
    _, other = store.create("other", KeyTerms())
    keyring = ring(store)
    assert keyring.find(token, NOON) == key
    mixed = f"tn_{key.id}_{other.split('_', 2)[2]}"
    for wrong in (mixed, token[:-1], token + "A", token.upper(), key.id, "", "tn__", "x" * 10_000):
        assert keyring.find(wrong, NOON) is None, wrong


def test_a_key_ends_when_it_said(store: KeyStore) -> None:
    _, token = store.create("shop", FULL)
    assert ring(store).find(token, NOON + 3599) is not None
    assert ring(store).find(token, NOON + 3600) is None


def test_rotation_leaves_the_old_secret_for_a_while(store: KeyStore, clock: Clock) -> None:
    key, old = store.create("shop", KeyTerms())
    rotated, new = store.rotate("shop", overlap_seconds=60)
    assert (rotated.id, rotated.terms) == (key.id, key.terms)
    for now, expected in ((NOON, {old, new}), (NOON + 59, {old, new}), (NOON + 60, {new})):
        assert {token for token in (old, new) if ring(store).find(token, now)} == expected
    _, third = store.rotate(key.id, overlap_seconds=0)
    assert {token for token in (old, new, third) if ring(store).find(token, NOON)} == {third}


def test_what_is_revoked_stays_revoked(store: KeyStore) -> None:
    key, token = store.create("shop", KeyTerms())
    assert store.revoke(key.id).revoked_at == NOON
    assert ring(store).find(token, NOON) is None
    for change in (lambda: store.revoke("shop"), lambda: store.rotate("shop", overlap_seconds=60)):
        with pytest.raises(LookupError):
            change()


@pytest.fixture
def queries(database: Database) -> list[str]:
    """What the database is asked for from now on."""
    asked: list[str] = []
    event.listen(database.open(), "before_cursor_execute", lambda *arguments: asked.append(str(arguments[2])))
    return asked


def test_neither_right_nor_wrong_keys_cost_a_query_each(store: KeyStore, queries: list[str]) -> None:
    _, token = store.create("shop", KeyTerms())
    queries.clear()
    known = ring(store, clock=Ticks())
    for _ in range(100):
        assert known.find(token, NOON) is not None
    assert len([query for query in queries if "api_keys" in query]) == 1
    queries.clear()
    keyring = ring(store, clock=Ticks())
    for _ in range(10_000):
        assert keyring.find(new_token("abcdefghijkm"), NOON) is None
    for _ in range(100):
        assert keyring.find(token, NOON) is not None
    assert len([query for query in queries if "api_keys" in query]) <= 1 + READINGS_FOR_STRANGERS


def test_a_new_key_is_known_at_once_and_a_revoked_one_within_seconds(store: KeyStore) -> None:
    ticks = Ticks()
    keyring = ring(store, clock=ticks)
    assert keyring.is_empty()
    _, token = store.create("shop", KeyTerms())
    assert keyring.find(token, NOON) is not None
    store.revoke("shop")
    ticks.now += 2.1
    assert keyring.find(token, NOON) is None
    assert not keyring.is_empty(), "a revoked key was made all the same"


def test_what_is_done_for_a_key_ends_with_it(store: KeyStore) -> None:
    (passing, _), (shop, _) = store.create("passing", FULL), store.create("shop", KeyTerms())
    ticks = Ticks()
    keyring = ring(store, clock=ticks)
    live = [[keyring.is_live(key.id, now) for key in (passing, shop)] for now in (NOON, NOON + 3601)]
    assert keyring.is_live(store.create("new", KeyTerms())[0].id, NOON)
    assert live == [[True, True], [False, True]]
    store.revoke("shop")
    ticks.now += 2.1
    assert not keyring.is_live(shop.id, NOON)
    assert not keyring.is_live("neverwas", NOON)


def test_keys_go_on_while_the_database_is_out_of_reach(url: str) -> None:
    is_down = False

    class Flaky(KeyStore):
        def load(self) -> Any:
            if is_down:
                raise DatabaseUnavailable("down")
            return super().load()

    ticks = Ticks()
    with closing(Database(url, upgrade=upgrade)) as database:
        store = Flaky(database)
        _, token = store.create("shop", KeyTerms())
        keyring = Keyring(store, clock=ticks)
        assert keyring.find(token, NOON) is not None
        is_down = True
        ticks.now += 60
        assert keyring.find(token, NOON) is not None
        assert keyring.find(new_token(new_id()), NOON) is None
        with pytest.raises(DatabaseUnavailable):
            Keyring(store).find(token, NOON)
        with pytest.raises(DatabaseUnavailable):
            Keyring(store).is_empty()
        assert Keyring(store).is_live("whoever", NOON), "where nobody can say, work goes on"


def test_while_one_reads_the_keys_the_others_go_on_with_what_they_have(database: Database) -> None:
    is_read, may_go_on = threading.Event(), threading.Event()

    class Slow(KeyStore):
        def load(self) -> Any:
            is_read.set()
            assert may_go_on.wait(20)
            return super().load()

    ticks, (_, token) = Ticks(), KeyStore(database).create("shop", KeyTerms())
    may_go_on.set()
    keyring = Keyring(Slow(database), clock=ticks)
    with ThreadPoolExecutor(2) as pool:
        assert keyring.find(token, NOON) is not None
        is_read.clear()
        may_go_on.clear()
        ticks.now += 60
        reading = pool.submit(keyring.find, token, NOON)
        try:
            assert is_read.wait(20)
            assert pool.submit(keyring.find, token, NOON).result(timeout=10) is not None
        finally:
            may_go_on.set()
        assert reading.result() is not None


def test_all_workers_know_a_new_and_a_revoked_key_within_seconds(tmp_path: Path) -> None:
    with Upstream() as upstream:
        environ = snapapi_environment(upstream.url, DATABASE_URL=sqlite_url(tmp_path), WEB_CONCURRENCY="3")
        with (
            running_service(tmp_path, environ, profile="testing") as service,
            closing(Database(database_url_of(sqlite_url(tmp_path)), upgrade=upgrade)) as database,
        ):
            store = KeyStore(database)
            _, token = store.create("shop", KeyTerms())

            def statuses(headers: dict[str, str]) -> set[int]:
                answers = [
                    requests.get(f"{service.url}/thumb", params={"url": TARGET}, headers=headers, timeout=30)
                    for _ in range(12)  # a new connection each: any worker may take it
                ]
                return {answer.status_code for answer in answers}

            wait_until(lambda: statuses({}) == {401}, what="the end of openness")
            assert statuses({"X-API-Key": token}) == {200}
            store.revoke("shop")
            wait_until(lambda: statuses({"X-API-Key": token}) == {401}, what="the key's end")
