"""A disk that is full ends in service or in a clear error, never in a broken picture or a dead process."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from tests.support.answers import content, image
from tests.support.pictures import big_png
from tests.support.processes import wait_until
from tests.support.service import Service, running_service, snapapi_environment
from tests.support.small_disks import fill_up, python_with_small_disk, seen_by
from tests.support.upstream import Upstream

LARGE = b"".join(big_png(3 << 20))


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def ask(service: Service, path: str, **asked: Any) -> requests.Response:
    """Ask for a page that nobody has asked for, unless ``asked`` says something else."""
    page = {"url": f"http://93.184.216.34/{secrets.token_hex(8)}"}
    options: dict[str, Any] = {"params": page, "timeout": 30, **asked}
    method = "POST" if "json" in options else "GET"
    return requests.request(method, service.url + path, **options)


def workers(service: Service) -> list[psutil.Process]:
    return psutil.Process(service.pid).children()


def test_without_room_for_temporary_files_pictures_are_streamed_and_answers_counted_in_memory(
    upstream: Upstream, tmp_path: Path
) -> None:
    folder = tmp_path / "tmp"
    python = python_with_small_disk(folder, "320k", beside=tmp_path)  # the files of the counters fit in
    environment = snapapi_environment(
        upstream.url, WEB_CONCURRENCY="1", RATELIMIT_ENABLED="false", TMPDIR=str(folder)
    )
    with running_service(tmp_path, environment, python=python) as service:
        assert ask(service, "/thumb").status_code == 200
        worker = workers(service)[0]
        fill_up(seen_by(service, folder))

        upstream.behave(content(LARGE, "image/png"))
        streamed = ask(service, "/screenshot/stream")
        assert (streamed.status_code, streamed.content) == (200, LARGE)
        upstream.behave(image())
        # Each has labels that nobody counted before.
        for path in ("/screenshot", "/thumb?nonsense=1", "/health", "/ready", "/usage", "/nowhere", "/docs"):
            assert ask(service, path).status_code < 500
        assert workers(service) == [worker]
        metrics = ask(service, "/metrics", params={})
        assert "thumbnailer_requests_total" in metrics.text

        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda: workers(service) not in ([], [worker]), what="a new worker")
        successor = workers(service)[0]
        assert ask(service, "/thumb").status_code == 200
        assert ask(service, "/screenshot/stream").status_code == 200
        assert ask(service, "/metrics", params={}).status_code == 200
        assert workers(service) == [successor]
        assert "no room for what this process counts" in service.log.read_text()


def test_a_cache_without_room_keeps_nothing_and_breaks_nothing(upstream: Upstream, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    python = python_with_small_disk(folder, "1m", beside=tmp_path)
    environment = snapapi_environment(
        upstream.url, WEB_CONCURRENCY="1", RATELIMIT_ENABLED="false", READY_SECONDS="0"
    )
    with running_service(tmp_path, environment, python=python) as service:
        upstream.behave(image())
        known = {"url": "http://93.184.216.34/known"}
        assert ask(service, "/thumb", params=known).status_code == 200
        fill_up(seen_by(service, folder))
        upstream.behave(content(LARGE, "image/png"))
        page = {"url": "http://93.184.216.34/large"}
        for path in ("/screenshot/stream", "/screenshot", "/screenshot/stream", "/thumb"):
            answer = ask(service, path, params=page)
            assert (answer.content, answer.headers["X-Cache"]) == (LARGE, "MISS")
            assert "stored" not in answer.headers["Cache-Status"]
        assert ask(service, "/thumb", params=known).headers["X-Cache"] == "HIT"
        assert ask(service, "/ready", params={}).json()["parts"]["cache"] == "down"
        (seen_by(service, folder) / "full").unlink()
        upstream.behave(image())
        assert ask(service, "/thumb", params=page).headers["X-Cache"] == "MISS"
        assert ask(service, "/thumb", params=page).headers["X-Cache"] == "HIT"
        assert ask(service, "/ready", params={}).json()["parts"]["cache"] == "ok"


def test_a_database_without_room_refuses_what_needs_it_and_probes_are_told(
    upstream: Upstream, tmp_path: Path
) -> None:
    folder = tmp_path / "database"
    python = python_with_small_disk(folder, "1m", beside=tmp_path)
    environment = snapapi_environment(
        upstream.url,
        WEB_CONCURRENCY="1",
        RATELIMIT_ENABLED="false",
        READY_SECONDS="0",
        DATABASE_URL=f"sqlite:///{folder}/thumbnailer.sqlite3",
    )
    with running_service(tmp_path, environment, python=python) as service:
        upstream.behave(image())
        order = {"url": "http://93.184.216.34/page"}
        assert ask(service, "/ready", params={}).json()["parts"]["database"] == "ok"
        fill_up(seen_by(service, folder))
        refused = ask(service, "/screenshots", params={}, json=order | {"css": " " * 50_000})
        assert (refused.status_code, refused.json()["type"]) == (503, "/problems/database-unavailable")
        assert ask(service, "/thumb").status_code == 200
        assert ask(service, "/ready", params={}).json()["parts"]["database"] == "down"
        (seen_by(service, folder) / "full").unlink()
        assert ask(service, "/ready", params={}).json()["parts"]["database"] == "ok"
        assert ask(service, "/screenshots", params={}, json=order).status_code == 202
