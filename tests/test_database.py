"""The database: SQLite and PostgreSQL, started together, shared, lost and found again."""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError

from settings.values import database_url_of
from tests.support.databases import open_database
from tests.support.processes import wait_until
from tests.support.service import PROJECT, client_of
from thumbnailer import schema
from thumbnailer.access_tables import api_keys
from thumbnailer.database import Database, metadata
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.schema import MIGRATIONS, current_revision, newest_revision

KINDS = ["sqlite", "postgresql"]


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/folder/test.sqlite3"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    with closing(open_database(url)) as database:
        yield database


def row(name: str = "a") -> dict[str, Any]:
    lists: dict[str, Any] = {"scopes": ["render"], "limits": {}, "targets": [], "referrers": []}
    return {"id": name, "name": name, "digest": "0" * 64, "created_at": 1.5, **lists}


def count(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(select(func.count()).select_from(api_keys)).scalar_one())


@pytest.fixture
def stepped(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database whose tables were made step by step."""
    monkeypatch.setattr(schema, "_make_all", schema._run_steps)
    with closing(open_database(url)) as database:
        yield database


def test_the_steps_make_the_tables_that_the_code_speaks_of(stepped: Database) -> None:
    with stepped.transaction() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        assert set(inspect(connection).get_table_names()) == {*schema.TABLES, "alembic_version"}
    assert differences == []


def test_a_new_database_has_to_the_letter_what_the_steps_make() -> None:
    def written(make: Callable[[Any], None]) -> dict[str, str]:
        engine = create_engine("sqlite://")
        with engine.begin() as connection:
            make(connection)
            assert current_revision(connection) == newest_revision()
            rows = connection.execute(text("SELECT name, sql FROM sqlite_master")).all()
        engine.dispose()
        return {name: " ".join(sql.split()) for name, sql in rows if sql}

    assert written(schema._make_all) == written(schema._run_steps)


def test_who_has_not_declared_all_tables_goes_by_the_steps(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "TABLES", schema.TABLES | {"not_loaded"})
    monkeypatch.setattr(schema, "_make_all", lambda _connection: pytest.fail("made by what is declared"))
    with closing(open_database(url)) as database, database.reading() as connection:
        assert current_revision(connection) == newest_revision()


def test_the_steps_form_one_line_and_the_last_is_known_without_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    script = ScriptDirectory.from_config(config)
    revisions = [step.revision for step in script.walk_revisions()]
    assert script.get_heads() == [newest_revision()]
    assert revisions == sorted(revisions, reverse=True)


def test_every_step_can_be_undone(stepped: Database) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with stepped.transaction() as connection:
        config.attributes["connection"] = connection
        from_alembic(config, "base")
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}


def from_alembic(config: Config, revision: str) -> None:
    command.downgrade(config, revision)


def test_what_is_written_is_kept_and_what_fails_is_undone(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(api_keys).values(row()))
    with pytest.raises(IntegrityError), database.transaction() as connection:
        connection.execute(insert(api_keys), [row("b"), row()])
    assert count(database) == 1


def test_a_fault_of_the_code_is_no_outage(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(api_keys).values(row()))
    with pytest.raises(IntegrityError), database.transaction() as connection:
        connection.execute(insert(api_keys).values(row()))


def test_processes_that_start_together_make_the_tables_once(url: str) -> None:
    command = [sys.executable, "-m", "tests.support.databases", url]
    with contextlib.ExitStack() as crew:
        workers = [
            crew.enter_context(
                subprocess.Popen(
                    command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for _ in range(4)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
        found = [worker.communicate(timeout=90)[0] for worker in workers]
    assert found == [f"{newest_revision()}\n"] * 4


def test_an_upgrade_is_waited_for_longer_than_anything_else(postgres_url: str) -> None:
    """Another process is at it, or a table is large: both are one statement that takes its time."""
    holds, lets_go = (
        text(f"SELECT pg_advisory_{name}({schema.UPGRADE_LOCK})") for name in ("lock", "unlock")
    )
    is_waited_for = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        " AND clock_timestamp() - query_start > interval '2 seconds'"
    )
    engine = create_engine(database_url_of(postgres_url), isolation_level="AUTOCOMMIT")
    with (
        ThreadPoolExecutor(1) as pool,
        closing(open_database(postgres_url, timeout_seconds=0.1)) as database,
        engine.connect() as other,
    ):
        other.execute(holds)
        upgraded = pool.submit(database.is_ready)
        wait_until(lambda: upgraded.done() or other.execute(is_waited_for).scalar_one())
        with pytest.raises(DatabaseUnavailable), database.reading():
            pytest.fail("nobody else has to wait for it")
        other.execute(lets_go)
        assert upgraded.result(30)
        with pytest.raises(DatabaseUnavailable), database.reading() as connection:
            connection.execute(text("SELECT pg_sleep(30)"))
    engine.dispose()


def test_tables_of_a_newer_version_are_left_alone(url: str) -> None:
    with closing(open_database(url)) as database, database.transaction() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with closing(open_database(url)) as database, database.transaction() as connection:
        assert current_revision(connection) == "9999"
        connection.execute(insert(api_keys).values(row()))


@pytest.mark.parametrize("way", ["_make_all", "_run_steps"])
def test_what_fails_halfway_leaves_nothing_behind(
    way: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = getattr(schema, way)

    def fail_at_the_end(connection: Any) -> None:
        make(connection)
        raise OSError("the disk is full")

    monkeypatch.setattr(schema, "_make_all", fail_at_the_end)
    with closing(open_database(url)) as database:
        assert not database.is_ready()
        monkeypatch.setattr(schema, "_make_all", lambda _connection: None)
        with database.reading() as connection:
            assert inspect(connection).get_table_names() == []


def test_threads_share_few_connections(database: Database) -> None:
    with database.transaction() as connection:
        connection.execute(insert(api_keys).values(row() | {"created_at": 0.0}))

    def increase() -> None:
        for _ in range(10):
            with database.transaction() as connection:
                seen = connection.execute(select(api_keys.c.created_at).with_for_update()).scalar_one()
                connection.execute(update(api_keys).values(created_at=seen + 1))

    threads = [threading.Thread(target=increase) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with database.reading() as connection:
        assert connection.execute(select(api_keys.c.created_at)).scalar_one() == 120


def test_a_reader_waits_for_no_writer(database: Database) -> None:
    assert count(database) == 0
    with database.transaction() as connection:
        connection.execute(insert(api_keys).values(row()))
        assert count(database) == 0
    assert count(database) == 1


def test_a_used_up_pool_is_an_outage_and_not_a_hang(url: str) -> None:
    with closing(open_database(url, timeout_seconds=0.2, pool_size=1)) as database:
        assert database.is_ready()
        with database.reading():
            assert not database.is_ready()
        wait_until(database.is_ready)


def test_a_lock_is_waited_for_in_bounds(url: str) -> None:
    with closing(open_database(url)) as one, closing(open_database(url, timeout_seconds=0.2)) as other:
        with one.transaction() as connection:
            connection.execute(insert(api_keys).values(row()))
        assert other.is_ready()
        with one.transaction() as connection:
            connection.execute(update(api_keys).values(name="changed"))
            with pytest.raises(DatabaseUnavailable), other.transaction() as rival:
                rival.execute(delete(api_keys))
        with other.transaction() as rival:
            rival.execute(delete(api_keys))
        assert count(one) == 0


def test_a_child_process_opens_connections_of_its_own(database: Database) -> None:
    assert count(database) == 0
    child = os.fork()
    if child == 0:
        status = 1
        try:
            with database.transaction() as connection:
                connection.execute(insert(api_keys).values(row()))
            database.close()
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert count(database) == 1


def test_who_is_not_done_when_it_is_closed_goes_on_and_leaves_no_connection_open(database: Database) -> None:
    used: list[Any] = []
    with database.reading() as early:
        database.close()
        used.append(early.connection.driver_connection)
        assert count(database) == 0
    with database.transaction() as late:
        late.execute(insert(api_keys).values(row()))
        used.append(late.connection.driver_connection)
    for connection in used:
        with pytest.raises(Exception, match="closed"):
            connection.execute("SELECT 1")
    assert count(database) == 1


def test_nothing_is_opened_before_the_first_use(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "test.sqlite3"
    with closing(open_database(f"sqlite:///{path}")) as database:
        assert not path.parent.exists()
        assert database.is_ready()
    assert path.exists()


def test_only_the_owner_can_read_the_file(tmp_path: Path) -> None:
    path = tmp_path / "test.sqlite3"
    with closing(open_database(f"sqlite:///{path}")) as database:
        assert database.is_ready()
        for found in tmp_path.iterdir():
            assert stat.S_IMODE(found.stat().st_mode) & 0o077 == 0, found


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: path.write_bytes(b"no database " * 500), id="another file"),
        pytest.param(lambda path: path.mkdir(), id="a folder"),
    ],
)
def test_a_file_that_is_no_database_is_an_outage(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    spoil(tmp_path / "test.sqlite3")
    with closing(open_database(f"sqlite:///{tmp_path}/test.sqlite3")) as database:
        assert not database.is_ready()


# --- through the door --------------------------------------------------------------------------


def test_readiness_tells_of_the_database(url: str) -> None:
    with client_of({"DATABASE_URL": url}) as client:
        assert client.get("/ready").get_json()["parts"]["database"] == "ok"
    with client_of({"DATABASE_URL": "postgresql://u:secret@127.0.0.1:1/x"}) as client:
        answer = client.get("/ready")
        assert answer.get_json()["parts"]["database"] == "down"
        assert b"secret" not in answer.data


def test_the_command_makes_the_tables(url: str) -> None:
    environ = {"PATH": os.environ["PATH"], "APP_ENV": "testing", "DATABASE_URL": url}
    upgrade_command = [sys.executable, "-m", "flask", "db", "upgrade"]
    for _ in range(2):
        done = subprocess.run(
            upgrade_command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False
        )
        assert f"at revision {newest_revision()}" in done.stdout, done.stderr


def test_the_command_says_why_it_failed_without_the_password() -> None:
    url = "postgresql://u:secret@127.0.0.1:1/x"
    environ = {"PATH": os.environ["PATH"], "APP_ENV": "testing", "DATABASE_URL": url}
    upgrade_command = [sys.executable, "-m", "flask", "db", "upgrade"]
    done = subprocess.run(
        upgrade_command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "refused" in done.stderr
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr
