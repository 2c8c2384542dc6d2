"""Fixtures that more than one room needs."""

from __future__ import annotations

import contextlib
import functools
import gc
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import botocore.session
import hypothesis
import pytest
from sqlalchemy import Engine, PoolProxiedConnection, create_engine, make_url, text
from werkzeug.routing import Rule

from tests.support.postgres import PostgresServer, running_postgres
from tests.support.processes import running_redis
from tests.support.upstream import Upstream
from thumbnailer.engines import DatabaseBounds, make_engine
from thumbnailer.schema import upgrade

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")


def pytest_collection() -> None:
    """Nothing that is made by the collection is garbage; looking for some takes a quarter of its time."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Nor is it looked at during the tests, which leave little to find: a rare look will do."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 10)
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _one_copy_of_botos_models() -> Iterator[None]:
    """Each session of boto3 would read megabytes of JSON anew, before its first client is made."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        yield


@pytest.fixture(scope="session", autouse=True)
def _routes_compiled_once() -> Iterator[None]:
    """Most of an application's start is the compilation of its routes, the same in a thousand tests."""
    compile_anew: Callable[[Rule, bool], Any] = Rule._compile_builder
    known: dict[tuple[object, ...], Any] = {}

    def compile_once(rule: Rule, append_unknown: bool = True) -> Any:
        key = (rule.rule, tuple(rule._trace), repr(rule.defaults), append_unknown)
        if key not in known:
            known[key] = compile_anew(rule, append_unknown)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", compile_once)
        yield


@functools.cache
def _new_database() -> bytes:
    """What SQLite would write to a file with all tables and nothing in them."""
    engine = make_engine(make_url("sqlite://"), DatabaseBounds())
    try:
        upgrade(engine)
        with contextlib.closing(engine.raw_connection()) as connection:
            return _sqlite_of(connection).serialize()
    finally:
        engine.dispose()


def _sqlite_of(connection: PoolProxiedConnection) -> sqlite3.Connection:
    database = connection.driver_connection
    assert isinstance(database, sqlite3.Connection)
    return database


@pytest.fixture(scope="session", autouse=True)
def _tables_made_once() -> Iterator[None]:
    """Nearly every application of a test has a database in memory, and twice; to make it takes 13 ms."""

    def upgrade_or_copy(engine: Engine) -> None:
        if engine.url.get_backend_name() != "sqlite" or engine.url.database:
            upgrade(engine)
            return
        with contextlib.closing(engine.raw_connection()) as connection:
            _sqlite_of(connection).deserialize(_new_database())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("wiring.databases.upgrade", upgrade_or_copy)
        yield


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One real Redis for the whole test session; tests keep apart by their key prefixes."""
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """One real PostgreSQL for the whole test session."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A database of its own on that server."""
    name = f"test_{secrets.token_hex(6)}"
    engine = create_engine(
        postgres.url.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT"
    )
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield f"{postgres.url.rpartition('/')[0]}/{name}"
    with engine.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    engine.dispose()


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    """A vendor that does as it is told; modules that want another have one of their own."""
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(autouse=True)
def _shorter_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """In services within this process, tenths of seconds pass where else there are seconds."""
    monkeypatch.setattr("wiring.jobs.SWEEP_SECONDS", 0.2)
    monkeypatch.setattr("thumbnailer.jobs.running.FIRST_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr("thumbnailer.providers.fallback.FIRST_PAUSE_SECONDS", 0.1)
