"""What Prometheus is told, by one process and by several as if they were one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from blueprints.problems import PROBLEMS
from blueprints.services import EXTENSION, Services
from tests.support import answers
from tests.support.answers import refusing_url
from tests.support.jobs import ended
from tests.support.processes import wait_until
from tests.support.service import TARGET, Service, client_of, running_service, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.metrics import FOLDER_VARIABLE

#: Requests that may wait in one worker process of the service.
PLACES = 40
PROBLEMS_TOTAL = "thumbnailer_problems_total"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    with client_of(snapapi_environment(upstream.url)) as client:
        yield client


def samples(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(found: Samples, name: str, **labels: str) -> float:
    """The sum of what has that name, and these labels among others."""
    return sum(
        number
        for (sample, has), number in found.items()
        if sample == name and labels.items() <= dict(has).items()
    )


def scraped(client: FlaskClient) -> Samples:
    response = client.get("/metrics")
    assert response.content_type == "text/plain; version=0.0.4; charset=utf-8"
    return samples(response.get_data(as_text=True))


def test_answers_are_counted_by_route_status_and_what_the_cache_said(client: FlaskClient) -> None:
    for path in (
        f"/thumb?url={TARGET}?counted",
        "/thumb?url=nonsense",
        "/nowhere",
        f"/thumb?url={TARGET}?counted",
    ):
        client.get(path).close()
    client.open("/thumb", method="BREW").close()
    found = scraped(client)
    total = "thumbnailer_requests_total"
    assert value(found, total, route="/thumb", method="GET", status="200", cache="miss") == 1
    assert value(found, total, route="/thumb", method="GET", status="200", cache="hit") == 1
    assert value(found, total, route="/thumb", status="400", cache="none") == 1
    assert value(found, total, route="none", status="404") == 1
    assert value(found, total, method="other") == 1
    assert value(found, "thumbnailer_request_duration_seconds_count", route="/thumb") == 3


def test_attempts_at_captures_are_counted_by_provider_and_outcome(upstream: Upstream) -> None:
    with client_of(snapapi_environment(upstream.url)) as client:
        client.get(f"/thumb?url={TARGET}?well").close()
        upstream.behave(answers.snapapi_error(401, "INVALID_API_KEY", "bad key"))
        client.get(f"/thumb?url={TARGET}?badly").close()
        upstream.behave(answers.image("png"))
        found = scraped(client)
    attempts = "thumbnailer_capture_attempts_total"
    assert value(found, attempts, provider="snapapi", outcome="delivered") == 1
    assert value(found, attempts, provider="snapapi", outcome="UpstreamAuth") == 1
    assert value(found, "thumbnailer_capture_duration_seconds_count", provider="snapapi") == 2


def test_attempts_at_jobs_are_counted_by_outcome(upstream: Upstream) -> None:
    with client_of(snapapi_environment(upstream.url, JOB_RETRIES="1")) as client:
        assert _ended_job(client, "well")["status"] == "completed"
        upstream.behave(answers.snapapi_error(422, "CONTENT_CHECK_FAILED", "nothing there"))
        assert _ended_job(client, "badly")["status"] == "failed"
        upstream.behave(answers.snapapi_error(500, "SCREENSHOT_FAILED", "not now"))
        client.post("/screenshots", json={"url": f"{TARGET}?later"}).close()
        attempts = "thumbnailer_job_attempts_total"
        wait_until(lambda: value(scraped(client), attempts, outcome="postponed") == 1)
        upstream.behave(answers.image("png"))
        found = scraped(client)
    assert value(found, attempts, outcome="completed") == 1
    assert value(found, attempts, outcome="failed") == 1


def _ended_job(client: FlaskClient, name: str) -> dict[str, Any]:
    job = client.post("/screenshots", json={"url": f"{TARGET}?{name}"}).get_json()
    return ended(client, f"/jobs/{job['job_id']}")


def test_queue_workers_and_breakers_are_told_as_they_are(client: FlaskClient) -> None:
    found = scraped(client)
    assert value(found, "thumbnailer_breaker", provider="snapapi", state="closed") == 1
    assert value(found, "thumbnailer_breaker", provider="snapapi", state="open") == 0
    assert {name for name, _ in found} >= {
        "thumbnailer_jobs",
        "thumbnailer_oldest_job_seconds",
        "thumbnailer_job_workers",
    }


def test_requests_that_wait_are_told_and_how_many_may(client: FlaskClient) -> None:
    services: Services = client.application.extensions[EXTENSION]
    place = services.line.take_place()
    assert value(scraped(client), "thumbnailer_waiting_requests") == 1
    place.give_back()
    found = scraped(client)
    assert value(found, "thumbnailer_waiting_requests") == 0
    assert value(found, "thumbnailer_waiting_places") == services.line.places > 0


PROBLEMS_OF_DOORS = {
    "a problem document": ("/screenshot?url=nonsense", "invalid-parameters"),
    "a placeholder": ("/thumb?url=http://10.0.0.1/&on_error=placeholder", "target-forbidden"),
    "nothing of that name": ("/nowhere", "not-found"),
    "hermesforge's dialect": ("/api/screenshot?url=nonsense", "invalid-parameters"),
    "nothing of that name in hermesforge's": ("/api/nowhere", "not-found"),
    "SnapSharp's dialect": ("/v1/screenshot?url=nonsense", "invalid-parameters"),
    "nothing of that name in SnapSharp's": ("/v1/nowhere", "not-found"),
}


@pytest.mark.parametrize(("path", "slug"), PROBLEMS_OF_DOORS.values(), ids=PROBLEMS_OF_DOORS.keys())
def test_each_problem_is_counted_once_whoever_tells_it(client: FlaskClient, path: str, slug: str) -> None:
    assert client.get(path).status_code >= 400
    told = {name: number for name, number in scraped(client).items() if name[0] == PROBLEMS_TOTAL}
    assert {dict(labels)["problem"] for _, labels in told} == set(PROBLEMS)
    assert {name for name, number in told.items() if number} == {
        (PROBLEMS_TOTAL, frozenset({("problem", slug)}))
    }
    assert sum(told.values()) == 1


def test_a_bug_is_counted_as_a_problem_of_ours(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    services: Services = client.application.extensions[EXTENSION]
    monkeypatch.setattr(services.line, "take_place", lambda: 1 / 0)
    assert client.get(f"/thumb?url={TARGET}?bug").status_code == 500
    assert value(scraped(client), PROBLEMS_TOTAL, problem="internal") == 1


def test_each_part_is_told_as_ready_has_it(upstream: Upstream) -> None:
    dead = refusing_url().replace("http", "redis")
    with client_of(snapapi_environment(upstream.url, LIMITER_REDIS_URL=dead)) as client:
        parts = client.get("/ready").get_json()["parts"]
        found = scraped(client)
    assert parts["limiter"] == "down"
    told = {name: value(found, "thumbnailer_part_up", part=name) for name in parts}
    assert told == {name: float(state == "ok") for name, state in parts.items()}
    assert sum(name == "thumbnailer_part_up" for name, _ in found) == len(parts)


def test_without_its_database_the_rest_is_still_told(upstream: Upstream, tmp_path: Path) -> None:
    file = tmp_path / "kept.sqlite3"
    with client_of(snapapi_environment(upstream.url, DATABASE_URL=f"sqlite:///{file}")) as client:
        assert value(scraped(client), "thumbnailer_part_up", part="database") == 1
        services: Services = client.application.extensions[EXTENSION]
        services.database.disconnect()
        file.write_bytes(b"no database at all" * 1000)
        found = scraped(client)
    assert value(found, "thumbnailer_part_up", part="database") == 0
    assert value(found, "thumbnailer_part_up", part="jobs") == 0
    assert value(found, "thumbnailer_breaker", provider="snapapi", state="closed") == 1
    assert not {name for name, _ in found} & {"thumbnailer_jobs", "thumbnailer_webhook_messages"}


def test_what_is_left_of_the_days_captures_is_told_where_they_are_bounded(upstream: Upstream) -> None:
    with client_of(snapapi_environment(upstream.url, CAPTURE_BUDGET="5")) as client:
        for number in range(2):
            client.get(f"/thumb?url={TARGET}?budget-{number}").close()
        found = scraped(client)
    assert value(found, "thumbnailer_capture_budget") == 5
    assert value(found, "thumbnailer_capture_budget_left") == 3


def test_without_a_bound_there_is_no_budget_to_tell(client: FlaskClient) -> None:
    assert not any(name.startswith("thumbnailer_capture_budget") for name, _ in scraped(client))


def test_the_memory_of_what_the_service_has_started_is_told_apart(client: FlaskClient) -> None:
    before = scraped(client)
    assert value(before, "thumbnailer_memory_bytes", of="service") > 10 << 20
    child = subprocess.Popen(
        [sys.executable, "-c", "held = b'x' * (64 << 20); print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        browsers = value(scraped(client), "thumbnailer_memory_bytes", of="browsers")
        assert browsers - value(before, "thumbnailer_memory_bytes", of="browsers") > 60 << 20


def test_no_label_is_a_callers_own_text(client: FlaskClient) -> None:
    for path in ("/jobs/job_somebodys-secret", "/problems/somebodys-secret", "/somebodys-secret"):
        client.get(path).close()
    assert "secret" not in client.get("/metrics").get_data(as_text=True)


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="2", WEB_WAITING=str(PLACES))
    folder = tmp_path_factory.mktemp("service")
    # What an earlier master has left in the environment is not this one's.
    own = {"TMPDIR": str(folder), FOLDER_VARIABLE: str(folder / "of-another")}
    with running_service(folder, settings | own) as service:
        yield service


def _scraped(service: Service) -> Samples:
    return samples(requests.get(f"{service.url}/metrics", timeout=20).text)


def _ask(service: Service, times: int) -> None:
    def once(_number: int) -> None:
        assert requests.get(f"{service.url}/thumb", params={"url": TARGET}, timeout=20).status_code == 200

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(once, range(times)))


def test_all_workers_are_told_as_one_and_none_is_forgotten_when_it_dies(service: Service) -> None:
    def answered() -> float:
        return value(_scraped(service), "thumbnailer_requests_total", route="/thumb", status="200")

    def places() -> float:
        return value(_scraped(service), "thumbnailer_waiting_places")

    def files() -> set[str]:
        found = service.log.parent.glob("thumbnailer-metrics-*/counter_*.db")
        return {path.stem.removeprefix("counter_") for path in found}

    _ask(service, 60)
    wait_until(lambda: answered() == 60, what="what memory answered to be told by both")
    assert value(_scraped(service), "thumbnailer_requests_total", cache="replay") > 0
    assert value(_scraped(service), "thumbnailer_waiting_requests") == 0
    wait_until(lambda: places() == 2 * PLACES, what="the places of both workers")
    family = [psutil.Process(service.pid), *psutil.Process(service.pid).children()]
    at_most = sum(each.memory_info().rss for each in family)
    assert 0 < value(_scraped(service), "thumbnailer_memory_bytes", of="service") <= at_most
    assert value(_scraped(service), "thumbnailer_memory_bytes", of="browsers") == 0
    killed = psutil.Process(service.pid).children()
    for worker in killed:
        os.kill(worker.pid, signal.SIGKILL)
        wait_until(lambda dead=worker: not dead.is_running(), what="the end of a worker")  # type: ignore[misc]
    _ask(service, 10)
    wait_until(lambda: answered() == 70, what="the new workers' answers beside the old ones'")
    wait_until(lambda: places() == 2 * PLACES, what="the places of the new workers instead of the old ones'")
    assert "ended" in files()
    left = files() & {str(worker.pid) for worker in killed}
    assert len(left) <= 1, "one at most ended just while its counts were read"


def test_where_the_folder_of_the_counters_is_removed_the_rest_is_told(
    upstream: Upstream, tmp_path: Path
) -> None:
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="1", TMPDIR=str(tmp_path))
    with running_service(tmp_path, settings) as service:
        assert PROBLEMS_TOTAL in requests.get(f"{service.url}/metrics", timeout=30).text
        (folder,) = tmp_path.glob("thumbnailer-metrics-*")
        shutil.rmtree(folder)
        (worker,) = psutil.Process(service.pid).children()
        worker.kill()
        wait_until(lambda: worker not in psutil.Process(service.pid).children(), what="its end")
        assert requests.get(f"{service.url}/thumb?url=nonsense", timeout=30).status_code == 400
        answer = requests.get(f"{service.url}/metrics", timeout=30)
        assert answer.status_code == 200
        assert value(samples(answer.text), "thumbnailer_part_up", part="cache") == 1
        assert PROBLEMS_TOTAL not in answer.text
        assert "was removed" in service.log.read_text()
    assert "Traceback" not in service.log.read_text()


def test_a_service_leaves_no_file_of_its_counters_behind(upstream: Upstream, tmp_path: Path) -> None:
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="1", TMPDIR=str(tmp_path))
    with running_service(tmp_path, settings) as service:
        assert requests.get(f"{service.url}/metrics", timeout=20).status_code == 200
        assert list(tmp_path.glob("thumbnailer-metrics-*/*.db"))
    assert not list(tmp_path.glob("thumbnailer-metrics-*"))


def test_a_start_removes_the_files_of_a_service_that_was_killed_and_of_no_other(
    upstream: Upstream, tmp_path: Path
) -> None:
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="1", TMPDIR=str(tmp_path))

    def folders() -> set[Path]:
        return set(tmp_path.glob("thumbnailer-metrics-*"))

    with running_service(tmp_path, settings) as killed:
        (left,) = folders()
        family = [psutil.Process(killed.pid), *psutil.Process(killed.pid).children()]
        os.kill(killed.pid, signal.SIGKILL)
        psutil.wait_procs(family, timeout=60)
        assert folders() == {left}
        with running_service(tmp_path, settings):
            (own,) = folders() - {left}
            assert not left.exists()
            with running_service(tmp_path, settings):
                assert own.is_dir()
