"""API keys: made, kept, found, rotated and revoked."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import event, select

from settings.values import database_url_of
from tests.support.access import sqlite_url
from tests.support.processes import wait_until
from tests.support.service import PROJECT, TARGET, running_app, running_service, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.access_tables import api_keys
from thumbnailer.database import Database
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.host_patterns import parse_host_pattern
from thumbnailer.key_file import read_key_file
from thumbnailer.key_store import KeyStore
from thumbnailer.keyring import READINGS_FOR_STRANGERS, Keyring
from thumbnailer.keys import KeyTerms, Scope, check_name, digest_of, id_of, new_id, new_token
from thumbnailer.plans import Plan
from thumbnailer.schema import upgrade

NOON = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    found: str = (
        sqlite_url(tmp_path) if request.param == "sqlite" else request.getfixturevalue("postgres_url")
    )
    return database_url_of(found)


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(Database(url, upgrade=upgrade)) as database:
        yield database


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(database: Database, clock: Clock) -> KeyStore:
    return KeyStore(database, clock=clock)


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
    (kept,) = store.load()
    assert kept == key
    assert kept.terms == FULL
    with database.reading() as connection:
        row = str(connection.execute(select(api_keys)).one())
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


class Ticks:
    """A monotonic clock that a test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def queries(database: Database) -> list[str]:
    """What the database is asked for from now on."""
    asked: list[str] = []
    event.listen(database.open(), "before_cursor_execute", lambda *arguments: asked.append(str(arguments[2])))
    return asked


def test_neither_right_nor_wrong_keys_cost_a_query_each(store: KeyStore, queries: list[str]) -> None:
    _, token = store.create("shop", KeyTerms())
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
        assert Keyring(store).is_live("whoever", NOON), "where nobody can say, work goes on"


# --- the file ----------------------------------------------------------------------------------


def entry(token: str, name: str = "shop", more: str = "") -> str:
    return f'[[keys]]\nid = "{id_of(token)}"\nname = "{name}"\ndigest = "{digest_of(token)}"\n{more}\n'


def test_keys_of_a_file_count_beside_those_of_the_database(store: KeyStore, tmp_path: Path) -> None:
    path, ticks = tmp_path / "keys.toml", Ticks()
    token, other = new_token(new_id()), new_token(new_id())
    path.write_text(entry(token))
    keyring = Keyring(store, path, clock=ticks)
    _, stored = store.create("stored", KeyTerms())
    assert [bool(keyring.find(one, NOON)) for one in (token, stored, other)] == [True, True, False]
    (tmp_path / "new").write_text(entry(other))
    (tmp_path / "new").rename(path)
    ticks.now += 3
    assert [bool(keyring.find(one, NOON)) for one in (token, stored, other)] == [False, True, True]


def test_a_file_whose_last_key_is_taken_out_opens_nothing(store: KeyStore, tmp_path: Path) -> None:
    path, ticks = tmp_path / "keys.toml", Ticks()
    token = new_token(new_id())
    path.write_text(entry(token))
    keyring = Keyring(store, path, clock=ticks)
    assert keyring.find(token, NOON)
    path.write_text("")
    ticks.now += 3
    assert keyring.find(token, NOON) is None
    assert not keyring.is_empty()
    path.write_text("[[keys]\n")
    assert not Keyring(store, path).is_empty(), "nor does one that a new process cannot read"


def test_a_plan_that_is_gone_is_complained_of_once(store: KeyStore, caplog: pytest.LogCaptureFixture) -> None:
    ticks = Ticks()
    keyring = Keyring(store, clock=ticks, plans={"pro": Plan(daily_captures=7)})
    keys = [store.create(plan, KeyTerms(plan=plan))[0] for plan in ("pro", "gone", "lost")]
    for _ in range(3):
        assert [keyring.daily_captures(key.id) for key in keys] == [7, None, None]
        ticks.now += 3
    said = [record.getMessage() for record in caplog.records if record.name == "thumbnailer.keyring"]
    assert said == ["PLANS has no plan gone, lost; its keys have the usual limits."]


def test_a_file_that_becomes_faulty_leaves_its_keys_as_they_were(store: KeyStore, tmp_path: Path) -> None:
    path, ticks = tmp_path / "keys.toml", Ticks()
    token = new_token(new_id())
    path.write_text(entry(token))
    keyring = Keyring(store, path, clock=ticks)
    assert keyring.find(token, NOON)
    path.write_text("[[keys]\n")
    ticks.now += 3
    assert keyring.find(token, NOON)
    path.unlink()
    ticks.now += 3
    assert keyring.find(token, NOON)


def test_the_file_alone_needs_no_database(tmp_path: Path) -> None:
    token = new_token(new_id())
    (tmp_path / "keys.toml").write_text(entry(token))
    with closing(Database(database_url_of("postgresql://u@127.0.0.1:1/x"), upgrade=upgrade)) as database:
        keyring = Keyring(KeyStore(database), tmp_path / "keys.toml")
        assert keyring.find(token, NOON)
        assert not keyring.is_empty()


GOOD = entry("tn_abcdefghijkm_" + "A" * 43)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[keys]", "is no TOML"),
        ("a = 1", r"must hold \[\[keys\]\] tables"),
        ("keys = 1", r"must hold \[\[keys\]\] tables"),
        ("keys = [1]", "key 1: must be a table"),
        (GOOD + GOOD, "two keys the same id"),
        (GOOD.replace("abcdefghijkm", "SHORT"), "key 1: id is not as"),
        (GOOD.replace('"shop"', "7"), "key 1: name must be a text"),
        (re.sub(r'digest = "\w', 'digest = "Z', GOOD), "key 1: digest is not as"),
        (GOOD + 'scope = ["render"]', "key 1: scope is no member"),
        (GOOD + 'scopes = ["rendr"]', "key 1: scopes: must be of render, persist"),
        (GOOD + 'scopes = "render"', "key 1: scopes must be a list"),
        (GOOD + 'expires = "soon"', "key 1: expires must be a time"),
        (GOOD + 'plan = "Pro"', "key 1: plan must be a name"),
        (GOOD + "daily_captures = -1", "key 1: daily_captures must be"),
        (GOOD + "daily_captures = true", "key 1: daily_captures must be"),
        (GOOD + "targets = []", "key 1: targets names no host"),
        (GOOD + 'targets = ["a b"]', "key 1: targets: 'a b' is no host"),
        (GOOD + 'limits = { thumb = "plenty" }', "key 1: the limit of thumb"),
        (GOOD + 'limits = { thumbs = "1 per day" }', "key 1: 'thumbs' has no limit"),
        (GOOD + "limits = { thumb = 5 }", "key 1: limits must be"),
    ],
    ids=lambda value: value[:30] if value.startswith("key") else "",
)
def test_a_fault_of_the_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_key_file(path)
    assert digest_of("tn_abcdefghijkm_" + "A" * 43)[1:] not in str(raised.value)


# --- the commands ------------------------------------------------------------------------------


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    environ = snapapi_environment("http://127.0.0.1:9", DATABASE_URL=sqlite_url(tmp_path), PLANS="pro:")
    with running_app(environ) as app:
        yield app


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    return app.test_cli_runner()


def run(runner: FlaskCliRunner, *arguments: str, code: int = 0) -> Any:
    result = runner.invoke(args=["keys", *arguments])
    assert result.exit_code == code, result.output
    return result


CREATE = ("--scope", "render", "--scope", "script", "--expires", "2099-01-31", "--limit", "thumb=9 per day")
BOUNDS = (
    "--daily-captures",
    "50",
    "--plan",
    "pro",
    "--targets",
    "example.com, *.example.org",
    "--referrers",
    "shop.test",
)


def test_create_shows_the_key_once_and_list_never(runner: FlaskCliRunner) -> None:
    made = run(runner, "create", "shop", *CREATE, *BOUNDS)
    token = made.stdout.strip()
    assert id_of(token)
    listed = run(runner, "list").stdout
    (row,) = [line for line in listed.splitlines() if "shop" in line]
    for fact in (str(id_of(token)), "live", "render,script", "2099-01-31", "thumb=9 per day"):
        assert fact in row
    for fact in (
        "plan=pro",
        "daily_captures=50",
        "target=example.com",
        "target=*.example.org",
        "referrer=shop.test",
    ):
        assert fact in row
    assert token not in listed
    assert digest_of(token) not in listed


def test_rotate_and_revoke_tell_what_they_did(runner: FlaskCliRunner) -> None:
    first = run(runner, "create", "shop").stdout.strip()
    second = run(runner, "rotate", "shop", "--overlap", "90m").stdout.strip()
    assert id_of(first) == id_of(second)
    assert first != second
    assert "Revoked" in run(runner, "revoke", str(id_of(first))).stdout
    assert "revoked" in run(runner, "list").stdout


def test_hash_writes_what_the_file_reads(runner: FlaskCliRunner, tmp_path: Path) -> None:
    made = run(runner, "hash", "shop", *CREATE, *BOUNDS)
    token = made.stderr.strip()
    (tmp_path / "keys.toml").write_text(made.stdout)
    assert tomllib.loads(made.stdout)["keys"]
    (key,) = read_key_file(tmp_path / "keys.toml")
    assert key.fits(token, time.time())
    assert (key.terms.plan, key.terms.daily_captures) == ("pro", 50)
    assert key.terms.limits == {"thumb": "9 per day"}
    assert [str(pattern) for pattern in key.terms.targets] == ["example.com", "*.example.org"]
    assert key.terms.scopes == {Scope.RENDER, Scope.SCRIPT}
    assert time.gmtime(key.terms.expires_at or 0)[:3] == (2099, 1, 31)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "a", "--scope", "everything"), "everything"),
        (("create", "a", "--expires", "2001-01-01"), "is past"),
        (("create", "a", "--expires", "soon"), "must be such as 30d"),
        (("create", "a", "--expires", "999999w"), "longer than a hundred years"),
        (("rotate", "a", "--overlap", "999999w"), "longer than a hundred years"),
        (("create", "a", "--plan", "gold"), "PLANS has"),
        (("plan", "nobody"), "no live key nobody"),
        (("create", "a", "--limit", "thumb"), "the limit of thumb"),
        (("create", "a", "--limit", "tea=1 per day"), "has no limit"),
        (("create", "a", "--limit", "thumb=1 per day", "--limit", "thumb=2 per day"), "must not be repeated"),
        (("create", "a", "--expires", "9999-12-31T23:59:59-12:00"), "a hundred years away"),
        (("create", "a", "--targets", "a b"), "is no host"),
        (("create", "a", "--targets", ""), "--targets: names no host"),
        (("create", "a", "--referrers", " , "), "--referrers: names no host"),
        (("create", "a\nb"), "must be 1 to 100"),
        (("revoke", "nobody"), "no live key nobody"),
        (("rotate", "nobody"), "no live key nobody"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_told_in_one_line(
    runner: FlaskCliRunner, arguments: tuple[str, ...], message: str
) -> None:
    result = runner.invoke(args=["keys", *arguments])
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_first_key_of_a_production_is_made_before_its_first_start(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "APP_ENV": "production",
        "PROVIDERS": "hermesforge",
        "DATABASE_URL": sqlite_url(tmp_path),
        "CACHE_DIR": str(tmp_path / "cache"),
        "MEDIA_DIR": str(tmp_path / "media"),
    }
    create = [sys.executable, "-m", "flask", "keys", "create", "first"]
    done = subprocess.run(create, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    assert id_of(done.stdout.strip()), done.stderr
    mode = stat.S_IMODE((tmp_path / "keys.sqlite3").stat().st_mode)
    assert mode == 0o600


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
