"""What the master builds before it forks: an application that has not begun anything."""

from __future__ import annotations

import gc
import os
import signal
import threading
from pathlib import Path

import psutil
import pytest
import requests

from tests.support.processes import wait_until
from tests.support.service import PROJECT, running_app, running_service, snapapi_environment

S3 = {
    "S3_BUCKET": "thumbs",
    "S3_REGION": "eu-central-1",
    "S3_ACCESS_KEY_ID": "AKIDOFTHETESTS",
    "S3_SECRET_ACCESS_KEY": "secret-of-the-tests",
}
SHAPES = {
    "with files": {},
    "with Redis": {"REDIS_URL": "redis://127.0.0.1:9/0"},
    "with a bucket": S3,
    "with Chromium": {"PROVIDERS": "chromium"},
}


def _open_files() -> set[str]:
    process = psutil.Process()
    connections = {str(each.laddr) for each in process.net_connections()}
    return connections | {each.path for each in process.open_files()}


@pytest.mark.parametrize("more", SHAPES.values(), ids=SHAPES)
def test_an_application_that_was_only_built_has_no_thread_no_connection_and_no_process(
    more: dict[str, str], tmp_path: Path
) -> None:
    settings = snapapi_environment("http://127.0.0.1:9", DATABASE_URL=f"sqlite:///{tmp_path}/t.sqlite3")
    threads, files = set(threading.enumerate()), _open_files()
    processes = set(psutil.Process().children(recursive=True))
    with running_app({**settings, **more}):
        assert set(threading.enumerate()) <= threads
        assert _open_files() <= files
        assert set(psutil.Process().children(recursive=True)) <= processes


@pytest.mark.parametrize("more", SHAPES.values(), ids=SHAPES)
def test_an_application_that_was_only_built_holds_no_thread_to_start_later(
    more: dict[str, str], tmp_path: Path
) -> None:
    """Since Python 3.13 a thread that was made before a fork cannot be started after it."""
    settings = snapapi_environment("http://127.0.0.1:9", DATABASE_URL=f"sqlite:///{tmp_path}/t.sqlite3")

    def unstarted() -> set[threading.Thread]:
        threads = [each for each in gc.get_objects() if isinstance(each, threading.Thread)]
        return {each for each in threads if each.ident is None}

    before = unstarted()
    with running_app({**settings, **more}):
        assert unstarted() <= before


def test_the_master_of_a_service_that_answers_has_one_thread_and_no_connection(tmp_path: Path) -> None:
    with running_service(tmp_path, snapapi_environment("http://127.0.0.1:9", WEB_CONCURRENCY="2")) as service:
        master = psutil.Process(service.pid)
        wait_until(lambda: len(master.children()) == 2)
        for _ in range(20):  # a new connection each time, which either worker may take
            assert requests.get(f"{service.url}/health", timeout=20).status_code == 200
        assert master.num_threads() == 1
        assert not [each for each in master.net_connections() if each.status != psutil.CONN_LISTEN]
        assert not [each.path for each in master.open_files() if "sqlite" in each.path]


def test_a_reload_replaces_the_application_and_its_workers(tmp_path: Path) -> None:
    with running_service(tmp_path, snapapi_environment("http://127.0.0.1:9", WEB_CONCURRENCY="1")) as service:
        master = psutil.Process(service.pid)
        assert requests.get(f"{service.url}/health", timeout=20).status_code == 200
        (before,) = master.children()
        os.kill(service.pid, signal.SIGHUP)
        wait_until(lambda: len(master.children()) == 1 and before not in master.children())
        assert requests.get(f"{service.url}/ready", timeout=20).status_code == 200
        assert master.num_threads() == 1


#: Tells the second worker to stop as soon as it is there, before it has handlers of its own.
STOPPED_AT_BIRTH = """
import signal

exec(compile(open({shipped!r}).read(), {shipped!r}, "exec"))


def post_fork(server, worker):
    if worker.age == 2:
        os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_worker_that_is_told_to_stop_while_it_is_made_stops(tmp_path: Path) -> None:
    config = tmp_path / "stopped_at_birth.conf.py"
    config.write_text(STOPPED_AT_BIRTH.format(shipped=str(PROJECT / "gunicorn.conf.py")))
    settings = snapapi_environment("http://127.0.0.1:9", WEB_CONCURRENCY="2")
    with running_service(tmp_path, settings, config=config) as service:
        wait_until(lambda: _workers_made(service.log) >= 3, what="another in its place")


def _workers_made(log: Path) -> int:
    return log.read_text().count("Booting worker")
