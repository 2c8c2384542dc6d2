"""flask doctor on databases."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import create_engine, text

from tests.support.doctor import (
    IN_URL,
    PASSWORD,
    as_an_ordinary_user,
    examine,
    fresh_settings,
    made_database,
    states,
)
from tests.support.processes import free_port
from tests.support.stores import silent_server
from tests.support.upstream import Upstream
from thumbnailer.schema import newest_revision


@pytest.fixture
def fresh(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    return fresh_settings(tmp_path, upstream.url)


def revision_of(url: str) -> str | None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    engine.dispose()
    return found


def set_revision(url: str, revision: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/own.sqlite3"
    return str(request.getfixturevalue("postgres_url"))


def test_a_database_that_is_up_to_date_is_well_and_stays_as_it_is(
    fresh: dict[str, str], database_url: str
) -> None:
    with made_database(database_url) as database:
        report = examine(fresh | {"DATABASE_URL": database_url}, "database")
        assert states(report) == {"ok"}
        assert report.of("database", "tables")[1].startswith(
            f"the tables are at revision {newest_revision()}"
        )
        with database.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM workers")).scalar_one() == 0


@pytest.mark.parametrize("revision", ["0003", "9999"], ids=["older", "newer"])
def test_tables_of_another_revision_are_told_and_not_changed(
    fresh: dict[str, str], database_url: str, revision: str
) -> None:
    with made_database(database_url):
        set_revision(database_url, revision)
    state, told = examine(fresh | {"DATABASE_URL": database_url}, "database").of("database", "tables")
    assert state == "warning"
    assert ("flask db upgrade" in told) == (revision < newest_revision())
    assert revision_of(database_url) == revision


def test_tables_that_are_missing_keep_no_other_check_from_being_made(
    fresh: dict[str, str], database_url: str
) -> None:
    with made_database(database_url):
        set_revision(database_url, "0001")
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for table in ("workers", "api_keys"):
            connection.execute(text(f"DROP TABLE {table}"))
    engine.dispose()
    report = examine(fresh | {"DATABASE_URL": database_url}, "database", "jobs", "access")
    assert report.of("database", "tables")[0] == "warning"
    assert report.of("jobs", "workers")[0] == report.of("access", "API keys")[0] == "warning"


def test_a_database_that_nobody_is_at_fails_without_its_password(fresh: dict[str, str]) -> None:
    url = f"postgresql://me:{IN_URL}@127.0.0.1:{free_port()}/pictures"
    report = examine(fresh | {"DATABASE_URL": url}, "database", "jobs", "access")
    state, told = report.of("database", "connection")
    assert (report.code, state) == (1, "failed")
    assert "refused" in told
    assert "/pictures" in told
    assert report.of("jobs", "workers")[0] == report.of("access", "API keys")[0] == "warning"
    assert PASSWORD not in report.text
    assert IN_URL not in report.text


def test_a_database_that_lets_nobody_in_fails_without_its_password(
    fresh: dict[str, str], postgres_url: str
) -> None:
    host = postgres_url.rpartition("@")[2]
    url = f"postgresql://stranger:{IN_URL}@{host}"
    report = examine(fresh | {"DATABASE_URL": url}, "database")
    state, told = report.of("database", "connection")
    assert state == "failed"
    assert 'role "stranger" does not exist' in told
    assert PASSWORD not in report.text
    assert IN_URL not in report.text


def test_a_database_that_never_answers_fails_in_time_with_what_to_do(fresh: dict[str, str]) -> None:
    with silent_server() as (silent, _):
        url = f"postgresql://somebody:{IN_URL}@127.0.0.1:{urlsplit(silent).port}/own"
        report = examine(fresh | {"DATABASE_URL": url}, "database", "jobs", "access", timeout=0.3)
    for check in ("connection", "tables", "writing", "sharing"):
        state, told = report.of("database", check)
        assert (state, "whether DATABASE_URL names the right" in told) == ("failed", True), told
    for part, check in (("jobs", "workers"), ("access", "API keys")):
        assert "what the check of the database says" in report.of(part, check)[1]
    assert IN_URL not in report.text


def test_a_database_that_cannot_be_made_or_reached_fails(fresh: dict[str, str], tmp_path: Path) -> None:
    with as_an_ordinary_user() as folder:
        reachable = fresh | {"CACHE_DIR": str(folder / "cache"), "MEDIA_DIR": str(folder / "media")}
        report = examine(reachable | {"DATABASE_URL": f"sqlite:///{folder}/own.sqlite3"}, "database")
        state, told = report.of("database", "connection")
        assert (report.code, state) == (1, "failed")
        assert "does not let it be made" in told
        if os.geteuid() != os.getuid():  # root's own folders are closed to others
            told = examine(reachable, "database").of("database", "connection")[1]
            assert "Permission denied" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's own folders are closed to others")
def test_a_folder_that_cannot_be_reached_is_a_fault(fresh: dict[str, str]) -> None:
    with as_an_ordinary_user():
        report = examine(fresh, "configuration")
    assert "may not enter" in report.of("configuration", "CACHE_DIR")[1]
    assert "may not enter" in report.of("configuration", "MEDIA_DIR")[1]


def test_a_file_that_is_no_database_fails(fresh: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.sqlite3").write_bytes(b"no database at all" * 100)
    report = examine(fresh | {"DATABASE_URL": f"sqlite:///{tmp_path}/own.sqlite3"}, "database")
    assert report.of("database", "connection")[0] == "failed"
    assert "file is not a database" in report.text


def test_a_database_in_memory_is_not_shared(fresh: dict[str, str]) -> None:
    in_memory = fresh | {"DATABASE_URL": "sqlite://"}
    assert examine(in_memory | {"WEB_CONCURRENCY": "2"}, "database").of("database", "sharing")[0] == "failed"
    assert examine(in_memory | {"WEB_CONCURRENCY": "1"}, "database").of("database", "sharing")[0] == "warning"


def test_more_connections_than_postgresql_has_are_doubtful(fresh: dict[str, str], postgres_url: str) -> None:
    with made_database(postgres_url):
        pass
    many = fresh | {"DATABASE_URL": postgres_url, "DATABASE_POOL_SIZE": "20", "WEB_CONCURRENCY": "2"}
    state, told = examine(many, "database").of("database", "sharing")
    assert state == "warning"
    assert "30 connections are allowed" in told
