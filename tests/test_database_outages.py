"""A database server that is gone, falls silent, or has forgotten a connection: bounded, and found again."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from tests.support.databases import open_database
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.processes import free_port, wait_until
from tests.support.stores import silent_server
from thumbnailer.database import Database


def test_a_server_that_is_gone_is_left_alone_and_found_again(tmp_path: Path) -> None:
    with running_postgres() as server:
        url, port = server.url, int(server.url.rpartition(":")[2].partition("/")[0])
        database = open_database(url, patience=0.2)
        assert database.is_ready()
    with closing(database):
        assert not database.is_ready()
        with running_postgres(port=port):
            wait_until(database.is_ready)


def test_a_server_that_falls_silent_costs_no_more_than_the_timeout(tmp_path: Path) -> None:
    with running_postgres() as server, closing(open_database(server.url, timeout_seconds=0.5)) as database:
        assert database.is_ready()
        server.send_signal(signal.SIGSTOP)
        try:
            assert not database.is_ready()
        finally:
            server.send_signal(signal.SIGCONT)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


def _serving(database: Database) -> psutil.Process:
    """The server's process for the one connection of ``database``."""
    with database.reading() as connection:
        return psutil.Process(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def test_a_connection_that_has_silently_died_is_replaced_long_before_the_timeout(
    server: PostgresServer,
) -> None:
    """Else the test would be given up: it would wait for ten minutes."""
    with closing(open_database(server.url, timeout_seconds=600, ping_seconds=0.2, pool_size=1)) as database:
        silent = _serving(database)
        silent.suspend()
        try:
            assert database.is_ready()
            assert _serving(database) != silent
        finally:
            silent.resume()


def test_who_has_a_connection_that_lives_may_use_it_for_longer_than_it_has_to_prove_that(
    server: PostgresServer,
) -> None:
    with closing(open_database(server.url, ping_seconds=0.05, pool_size=1)) as database:
        first = _serving(database)
        with database.reading() as connection:
            connection.execute(text("SELECT pg_sleep(0.3)"))
        assert _serving(database) == first


def test_the_system_looks_whether_a_server_is_there_as_the_url_says_or_as_usual(
    server: PostgresServer,
) -> None:
    def options(url: str) -> list[int]:
        with closing(open_database(url, timeout_seconds=3)) as database, database.reading() as connection:
            descriptor = os.dup(connection.connection.driver_connection.fileno())  # type: ignore[union-attr]
            with socket.socket(fileno=descriptor) as opened:
                names = socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_USER_TIMEOUT
                return [opened.getsockopt(socket.IPPROTO_TCP, name) for name in names]

    assert options(server.url) == [60, 15, 4000]
    assert options(f"{server.url}?keepalives_idle=30&tcp_user_timeout=700") == [30, 15, 700]


def test_of_several_servers_the_one_that_takes_writes_is_used(server: PostgresServer) -> None:
    port = server.url.rpartition(":")[2].partition("/")[0]
    hosts = f"host=127.0.0.1:{free_port()}&host=127.0.0.1:{port}"
    url = f"postgresql://thumbnailer@/postgres?{hosts}&target_session_attrs=read-write"
    with closing(open_database(url)) as database:
        assert database.is_ready()


def test_a_server_that_never_says_a_word_is_given_up() -> None:
    with silent_server() as (url, accepted):
        port = url.rpartition(":")[2].partition("/")[0]
        silent = f"postgresql://u:p@127.0.0.1:{port}/x"
        with closing(open_database(silent, timeout_seconds=0.5)) as database:
            assert not database.is_ready()
            assert len(accepted) == 1
            assert not database.is_ready()
            assert len(accepted) == 1, "it was called again although it had just failed"
