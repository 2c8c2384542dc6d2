"""Jobs that are done by workers of their own: nothing accepted is lost, whoever dies."""

from __future__ import annotations

import base64
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import redis
import requests
from flask.testing import FlaskClient
from standardwebhooks.webhooks import Webhook
from structlog.testing import capture_logs

from tests.support import answers
from tests.support.answers import Answer, Received
from tests.support.jobs import ended
from tests.support.processes import free_port, running_redis, wait_until
from tests.support.receivers import running_receiver, url_of
from tests.support.service import TARGET, client_of, running_service, snapapi_environment
from tests.support.settings import load
from tests.support.small_web import Site
from tests.support.upstream import Upstream
from tests.support.workers import Worker
from wiring.queue import QUEUE, LateCelery

PROJECT = Path(__file__).parent.parent
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()

#: How many jobs are put through the crashes, and how often there is one at least: `make chaos` asks for more.
JOBS = int(os.environ.get("TEST_JOBS", "60"))
SECONDS_BETWEEN_KILLS = float(os.environ.get("TEST_KILL_SECONDS", "20"))
#: A worker is killed too whenever another part of the jobs has ended.
PARTS = 4
CONCURRENCY = 2
#: How often the service that does its jobs itself is started; but for the last time it is killed.
LIVES = 3


def slow_answer(_received: Received) -> Answer:
    """A capture that takes long enough to be interrupted."""
    time.sleep(0.05)
    return answers.image("png")


def environment(upstream: Upstream, folder: Path, **more: str) -> dict[str, str]:
    return snapapi_environment(
        upstream.url,
        DATABASE_URL=f"sqlite:///{folder}/jobs.sqlite3",
        MEDIA_DIR=str(folder / "media"),
        CACHE_DIR=str(folder / "cache"),
        RATELIMIT_ENABLED="false",
        WEBHOOK_SECRET=SECRET,
        WEBHOOK_RETRIES="0.2,0.5,1",
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
        JOB_LEASE="3",
        **more,
    )


def test_a_worker_waits_for_its_redis_however_long_it_takes(tmp_path: Path, upstream: Upstream) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    worker = Worker(tmp_path, environment(upstream, tmp_path, REDIS_URL=url))
    try:
        # Celery tells which attempt it is, of how many at most.
        wait_until(lambda: "(1/None)" in worker.log.read_text(), seconds=60, what="the first attempt")
    finally:
        worker.kill()


def test_a_message_that_redis_does_not_let_a_worker_acknowledge_takes_up_none_of_its_room(
    tmp_path: Path,
) -> None:
    with running_redis(tmp_path) as url, redis.Redis.from_url(url) as store:
        app = LateCelery(load({"REDIS_URL": url}))()
        app.send_task("thumbnailer.nothing", queue=QUEUE)
        with app.connection_for_read() as connection:
            channel = connection.default_channel
            channel.basic_qos(prefetch_size=0, prefetch_count=1, apply_global=False)
            message = channel.basic_get(QUEUE)
            assert not channel.qos.can_consume()
            store.client_pause(1000)
            with capture_logs() as lines:
                channel.basic_ack(message.delivery_tag)
            assert channel.qos.can_consume()
            assert [line["event"] for line in lines] == ["message_not_acknowledged"]


def page(number: int) -> str:
    return f"{TARGET}/{number}"


#: A process that has work left and is given more while it loads Celery, which two threads cannot do at once:
#: one of them finds no ``Celery`` in it.
FIRST_USES = """
import sys, threading
from config import load_settings
from wiring.queue import CeleryQueue, EmbeddedWorker, LateCelery

class Halt:
    begun, given = threading.Event(), threading.Event()

    def find_spec(self, name, *_rest):
        if name == "celery.local" and not self.begun.is_set():
            self.begun.set()
            self.given.wait(20)

def give():
    Halt.begun.wait(20)
    Halt.given.set()
    queue.put_job("1")

sys.meta_path.insert(0, Halt())
celery = LateCelery(load_settings("testing", {}))
worker, queue, failed = EmbeddedWorker(celery, {}, print), CeleryQueue(celery, print), []
threading.excepthook = failed.append
threads = [threading.Thread(target=worker.start), threading.Thread(target=give)]
for thread in threads: thread.start()
for thread in threads: thread.join()
worker.stop()
sys.exit(str(failed) if failed else 0)
"""


#: Once Celery has been made, nothing of it is loaded by whoever queues something, beside the worker's start.
LATER_USES = """
import sys
from config import load_settings
from wiring.queue import CeleryQueue, LateCelery

celery = LateCelery(load_settings("testing", {}))
queue, _ = CeleryQueue(celery, print), celery()
before = set(sys.modules)
queue.put_job("1")
later = {name for name in set(sys.modules) - before if name.startswith(("celery", "kombu"))}
sys.exit(str(later) if later else 0)
"""


def verified(messages: list[Any]) -> list[dict[str, Any]]:
    return [Webhook(SECRET).verify(seen.body, dict(seen.headers)) for seen in messages]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    with running_redis(tmp_path) as url:
        yield url


@pytest.mark.timeout(120)
def test_a_worker_does_what_the_web_process_has_accepted(tmp_path: Path, redis_url: str) -> None:
    with Upstream() as upstream, running_receiver() as receiver, ExitStack() as held:
        port = free_port()
        settings = environment(upstream, tmp_path, REDIS_URL=redis_url, JOB_METRICS_PORT=str(port))
        client = held.enter_context(client_of(settings))
        body = {"url": TARGET, "webhook_url": url_of(receiver)}
        job = client.post("/screenshots", json=body).get_json()
        assert client.get(f"/jobs/{job['job_id']}").get_json()["status"] == "pending"
        ready = client.get("/ready")
        assert (ready.status_code, ready.get_json()["status"]) == (200, "degraded")
        assert ready.get_json()["parts"]["jobs"] == "down"
        assert ready.get_json()["jobs"].items() >= {"pending": 1, "processing": 0, "workers": 0}.items()
        assert ready.get_json()["jobs"]["oldest_seconds"] > 0
        worker = Worker(tmp_path, settings)
        held.callback(worker.close)
        done = ended(client, f"/jobs/{job['job_id']}")
        assert done["status"] == "completed"
        assert client.get(f"/jobs/{job['job_id']}/image").content_type == "image/png"
        wait_until(lambda: len(receiver.seen) == 1)
        assert verified(receiver.seen)[0]["data"]["job_id"] == job["job_id"]
        ready = client.get("/ready").get_json()
        assert (ready["status"], ready["jobs"]["pending"], ready["jobs"]["workers"]) == ("ready", 0, 1)
        told = requests.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
        assert 'thumbnailer_capture_attempts_total{outcome="delivered",provider="snapapi"} 1.0' in told
        assert 'thumbnailer_job_attempts_total{outcome="completed"} 1.0' in told
        assert worker.stop() == 0


@pytest.mark.timeout(120)
def test_a_worker_that_is_asked_to_end_finishes_what_it_does(tmp_path: Path, redis_url: str) -> None:
    with Upstream(slow_answer) as upstream, ExitStack() as held:
        settings = environment(upstream, tmp_path, REDIS_URL=redis_url, JOB_CONCURRENCY="2")
        client = held.enter_context(client_of(settings))
        ids = [client.post("/screenshots", json={"url": page(n)}).get_json()["job_id"] for n in range(40)]
        worker = Worker(tmp_path, settings)
        held.callback(worker.close)
        wait_until(lambda: len(upstream.requests) >= 2, seconds=30)
        assert worker.stop() == 0
        states = Counter(client.get(f"/jobs/{each}").get_json()["status"] for each in ids)
        assert states["processing"] == 0
        assert states["completed"] == len(upstream.requests)
        assert states["pending"] == 40 - states["completed"] > 0


def test_a_service_that_is_asked_to_end_finishes_the_jobs_it_does(tmp_path: Path) -> None:
    may_end = threading.Event()

    def held_up(_received: Received) -> Answer:
        assert may_end.wait(20)
        return answers.image("png")

    with Upstream(held_up) as upstream:
        settings = environment(upstream, tmp_path, JOB_CONCURRENCY="1", WEB_CONCURRENCY="1")
        with running_service(tmp_path, settings) as service:
            ids = [
                requests.post(f"{service.url}/screenshots", json={"url": page(n)}, timeout=20).json()[
                    "job_id"
                ]
                for n in range(2)
            ]
            _await_captures(upstream, 1)
            os.kill(service.pid, signal.SIGTERM)
            wait_until(lambda: "Handling signal: term" in service.log.read_text())
            may_end.set()
            wait_until(lambda: not psutil.pid_exists(service.pid) or _has_ended(service.pid))
        with client_of(settings) as client:
            first, second = (client.get(f"/jobs/{each}").get_json() for each in ids)
    assert (first["status"], first["attempts"]) == ("completed", 1)
    assert (second["status"], second["attempts"]) == ("pending", 0)
    assert len(upstream.requests) == 1


def _has_ended(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_is_ordered_while_redis_is_gone_is_written_down_as_not_queued(tmp_path: Path) -> None:
    with Upstream() as upstream:
        settings = environment(upstream, tmp_path, REDIS_URL=f"redis://127.0.0.1:{free_port()}/0")
        with client_of(settings) as client:
            job, batch = {"url": TARGET}, {"urls": [TARGET], "async": True}
            assert client.post("/screenshots", json=job).status_code == 202
            assert client.post("/screenshots/batch", json=batch).status_code == 202
            assert client.post("/pages", json=job).status_code == 202
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite3")) as books:
        queued = books.execute("SELECT queued_at FROM jobs UNION ALL SELECT queued_at FROM pages").fetchall()
    assert queued == [(None,)] * 3


@pytest.mark.parametrize("script", [FIRST_USES, LATER_USES], ids=["first uses", "later uses"])
def test_the_first_job_may_come_while_the_worker_of_the_process_is_started(script: str) -> None:
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_worker_without_redis_says_that_none_is_needed(tmp_path: Path) -> None:
    with Upstream() as upstream:
        worker = Worker(tmp_path, environment(upstream, tmp_path))
        assert worker.process.wait(30) != 0
        assert "REDIS_URL" in worker.log.read_text()


class Crew:
    """Two workers, of which one is killed every few seconds and replaced."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self._folder = folder
        self._settings = settings
        self._workers = [Worker(folder, settings) for _ in range(2)]
        self.kills = 0

    def kill_one(self) -> None:
        self._workers.pop(0).kill()
        self.kills += 1
        self._workers.append(Worker(self._folder, self._settings))

    def close(self) -> None:
        for worker in self._workers:
            worker.close()


@contextmanager
def crew_of_two(folder: Path, settings: dict[str, str]) -> Iterator[Crew]:
    crew = Crew(folder, settings)
    try:
        yield crew
    finally:
        crew.close()


def _states(client: FlaskClient, batches: list[str]) -> Counter[str]:
    states: Counter[str] = Counter()
    for batch_id in batches:
        states.update(client.get(f"/batches/{batch_id}").get_json()["counts"])
    return states


@pytest.mark.timeout(900)
def test_nothing_is_lost_while_workers_are_killed_and_redis_restarts(tmp_path: Path) -> None:
    port = free_port()
    with Upstream(slow_answer) as upstream, running_receiver() as receiver, ExitStack() as held:
        redis = ExitStack()
        held.callback(redis.close)
        url = redis.enter_context(running_redis(tmp_path, port=port))
        settings = environment(
            upstream, tmp_path, REDIS_URL=url, JOB_CONCURRENCY=str(CONCURRENCY), LOG_LEVEL="info"
        )
        client = held.enter_context(client_of(settings))
        crew = held.enter_context(crew_of_two(tmp_path, settings))
        ids, started_at = [], time.monotonic()
        for number in range(JOBS):
            body = {"url": page(number), "webhook_url": url_of(receiver)}
            ids.append(client.post("/screenshots", json=body).get_json()["job_id"])
        restarted = False

        def is_done() -> bool:
            nonlocal restarted
            told = len(_ids_of(receiver))
            is_due = time.monotonic() - started_at > SECONDS_BETWEEN_KILLS * (crew.kills + 1)
            if told < JOBS and (is_due or told > crew.kills * JOBS / PARTS):
                crew.kill_one()
            if crew.kills == 2 and not restarted:
                restarted = True
                redis.close()
                redis.enter_context(running_redis(tmp_path, port=port))
            return told >= JOBS

        wait_until(is_done, seconds=800, what="all webhooks")
        taken = time.monotonic() - started_at
        shown = [client.get(f"/jobs/{each}").get_json() for each in ids]
    assert Counter(each["status"] for each in shown) == {"completed": JOBS}
    assert {each["data"]["job_id"] for each in verified(receiver.seen)} == set(ids)
    assert crew.kills >= PARTS - 1
    assert restarted
    captures = len(upstream.requests)
    assert captures <= JOBS + CONCURRENCY * (crew.kills + 2), "only what was under way is paid twice"
    print(f"{JOBS} jobs, {crew.kills} workers killed, {captures} captures, {taken:.0f} s")


@pytest.mark.timeout(600)
def test_nothing_is_lost_while_the_web_process_is_killed(tmp_path: Path) -> None:
    """The embedded worker: the same jobs, and a service that is killed with all its processes."""
    with Upstream(slow_answer) as upstream, running_receiver() as receiver:
        settings = environment(upstream, tmp_path, JOB_CONCURRENCY=str(CONCURRENCY), WEB_CONCURRENCY="2")
        ids: list[str] = []
        for life in range(LIVES):
            folder = tmp_path / f"life-{life}"
            folder.mkdir()
            with running_service(folder, settings) as service:
                ids += _order(service.url, url_of(receiver), range(JOBS)[life::LIVES])
                if life < LIVES - 1:
                    _await_captures(upstream, len(upstream.requests) + 1)
                    os.killpg(service.pid, signal.SIGKILL)
                    continue
                _await_messages(receiver, len(ids))
                shown = [requests.get(f"{service.url}/jobs/{each}", timeout=10).json() for each in ids]
    assert Counter(each["status"] for each in shown) == {"completed": JOBS}
    assert {each["data"]["job_id"] for each in verified(receiver.seen)} == set(ids)
    captures = len(upstream.requests)
    assert captures <= JOBS + 2 * CONCURRENCY * (LIVES - 1), "only what was under way is paid twice"
    print(f"{JOBS} jobs, {LIVES - 1} services killed, {captures} captures")


def _await_captures(upstream: Upstream, count: int) -> None:
    wait_until(lambda: len(upstream.requests) >= count)


def _ids_of(receiver: Site) -> set[str]:
    """The messages that have come, however often."""
    return {str(each.headers["webhook-id"]) for each in list(receiver.seen)}


def _await_messages(receiver: Site, count: int) -> None:
    wait_until(lambda: len(_ids_of(receiver)) >= count, seconds=300)


def _order(service_url: str, receiver_url: str, numbers: Iterable[int]) -> list[str]:
    ids = []
    for number in numbers:
        body = {"url": page(number), "webhook_url": receiver_url}
        accepted = requests.post(f"{service_url}/screenshots", json=body, timeout=20)
        assert accepted.status_code == 202, json.dumps(accepted.json())
        ids.append(accepted.json()["job_id"])
    return ids
