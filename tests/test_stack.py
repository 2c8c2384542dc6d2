"""The production shape on one machine, as ``make stack`` runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.support.processes import free_port, wait_until
from tests.support.service import PROJECT, TARGET, snapapi_environment
from tests.support.upstream import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def test_all_parts_work_together_and_nothing_of_them_is_left(upstream: Upstream, tmp_path: Path) -> None:
    port, folder = free_port(), tmp_path / "stack"
    settings = snapapi_environment(
        upstream.url,
        PATH=os.environ["PATH"],
        HOME=str(tmp_path),
        STACK_PORT=str(port),
        STACK_FOLDER=str(folder),
        DATABASE_URL=f"sqlite:///{tmp_path}/jobs.sqlite3",
        MEDIA_DIR=str(tmp_path / "media"),
        LOG_LEVEL="debug",  # which tells of sweeps
    )
    command = [sys.executable, str(PROJECT / "scripts" / "stack.py")]
    url = f"http://127.0.0.1:{port}"
    with (tmp_path / "output").open("wb") as output:
        stack = subprocess.Popen(command, env=settings, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_until(lambda: url in (tmp_path / "output").read_text(), seconds=60, what="the stack")
        parts = psutil.Process(stack.pid).children(recursive=True)
        first, second = (requests.get(f"{url}/thumb", {"url": TARGET}, timeout=60) for _ in range(2))
        assert (first.status_code, first.headers["X-Edge-Cache"]) == (200, "MISS")
        assert second.content == first.content
        assert len(upstream.requests) == 1
        job = requests.post(f"{url}/screenshots", json={"url": f"{TARGET}?job"}, timeout=60).json()
        wait_until(lambda: _state(url, job["job_id"]) == "completed", seconds=60, what="the worker")
        wait_until(lambda: "thumbnailer.sweep" in (folder / "worker.log").read_text(), what="beat's sweep")
        ready = requests.get(f"{url}/ready", timeout=60).json()
        assert (ready["status"], ready["jobs"]["workers"]) == ("ready", 1)
    finally:
        stack.send_signal(signal.SIGHUP)
        wait_until(lambda: "has ended" in (tmp_path / "output").read_text(), what="the first end")
        stack.send_signal(signal.SIGINT)  # by somebody who does not want to wait
        assert stack.wait(60) == 0, (tmp_path / "output").read_text()
    assert not [part for part in parts if part.is_running()]
    ended = re.findall(r"(\w+) has ended", (tmp_path / "output").read_text())
    assert ended == ["nginx", "gunicorn", "beat", "worker", "limiter", "cache"]


def test_a_port_that_is_taken_is_named_before_anything_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = {"STACK_PORT": str(other.getsockname()[1]), "STACK_FOLDER": str(tmp_path / "stack")}
        command = [sys.executable, str(PROJECT / "scripts" / "stack.py")]
        stack = subprocess.run(command, env=taken, capture_output=True, text=True, timeout=60, check=False)
    assert stack.returncode == 1
    assert stack.stderr.startswith("STACK_PORT has to name a free port: ")
    assert not (tmp_path / "stack").exists()


def _state(url: str, job_id: str) -> str:
    return str(requests.get(f"{url}/jobs/{job_id}", timeout=60).json()["status"])
