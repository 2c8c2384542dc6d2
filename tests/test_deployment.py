"""What surrounds the application: gunicorn, nginx, the image, the stack, make and its scripts."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from blueprints.schemas import Problem
from config import documented_settings
from tests.support.nginx import nginx_configuration, running_nginx
from tests.support.processes import executable, free_port, running
from tests.support.raw_http import RawAnswer, exchange, head

PROJECT = Path(__file__).parent.parent
SETTING_NAMES = {name for declared in documented_settings() for name in declared.spellings}
SCRIPTS = sorted(path.name for path in (PROJECT / "scripts").glob("*.sh"))


def read(name: str) -> str:
    return (PROJECT / name).read_text(encoding="utf-8")


# --- gunicorn ---------------------------------------------------------------------------------


def gunicorn_settings(**variables: str) -> dict[str, str]:
    """What gunicorn makes of its configuration file; its errors where it ends."""
    command = [sys.executable, "-m", "gunicorn", "--print-config"]
    environ = {"PATH": os.environ["PATH"], "APP_ENV": "testing"} | variables
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    printed = dict(re.findall(r"(?m)^(\w+) += (.*)$", done.stdout))
    return printed | {"errors": done.stderr}


def test_gunicorn_takes_its_numbers_from_the_settings() -> None:
    printed = gunicorn_settings(
        PORT="8123",
        HOST="::1",
        WEB_CONCURRENCY="3",
        WEB_THREADS="17",
        UPSTREAM_TIMEOUT="40",
        TRUSTED_PROXIES="10.0.0.5,fd00::/8",
    )
    expected = {
        "bind": "['[::1]:8123']",
        "workers": "3",
        "threads": "17",
        "preload_app": "False",
        "limit_request_line": "8190",
        "control_socket_disable": "True",
        "forwarded_allow_ips": "['10.0.0.5/32', 'fd00::/8']",
    }
    assert {name: printed[name] for name in expected} == expected
    assert int(printed["timeout"]) > int(printed["graceful_timeout"]) > 40


def test_a_wrong_setting_stops_gunicorn_with_one_clear_message() -> None:
    errors = gunicorn_settings(PORT="http", WEB_THREADS="1")["errors"]
    assert "PORT: must be a whole number" in errors
    assert "WEB_THREADS: must be a whole number" in errors
    assert "Traceback" not in errors


def test_ctrl_c_ends_every_process_of_the_service(tmp_path: Path) -> None:
    port = free_port()
    variables = {"APP_ENV": "testing", "WEB_CONCURRENCY": "1", "PORT": str(port), "MEDIA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "gunicorn"]
    with running(command, port=port, log=tmp_path / "log", env=os.environ | variables) as process:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=20) as answer:
            assert answer.status == 200
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them at once
        process.wait(20)
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)


# --- nginx ------------------------------------------------------------------------------------


def test_the_shipped_nginx_configuration_is_valid(tmp_path: Path) -> None:
    config = nginx_configuration(tmp_path, listen=free_port(), upstreams=[free_port()])
    checked = subprocess.run(
        [executable("nginx"), "-t", "-c", config, "-p", tmp_path], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
    assert "[warn]" not in checked.stderr


@dataclass
class Upstream:
    """Stands where the application does; ``/screenshot/stream`` waits for ``proceed`` and then breaks off."""

    port: int
    heads: list[str] = field(default_factory=list)
    proceed: threading.Event = field(default_factory=threading.Event)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                head = b""
                while b"\r\n\r\n" not in head and (received := connection.recv(65536)):
                    head += received
                self.heads.append(head.decode())
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                connection.sendall(b"5\r\nfirst\r\n")
                if b"stream" in head:
                    self.proceed.wait(20)
                else:
                    connection.sendall(b"0\r\n\r\n")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        upstream = Upstream(listener.getsockname()[1])
        server = threading.Thread(target=upstream.serve, args=(listener,))
        server.start()
        yield upstream
        upstream.proceed.set()
        listener.shutdown(socket.SHUT_RDWR)
        server.join(20)


@pytest.fixture
def nginx(upstream: Upstream, tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    with running_nginx(tmp_path, upstream.port) as nginx:
        connection = http.client.HTTPConnection("127.0.0.1", nginx.port, timeout=20)
        yield connection
        connection.close()


def test_nginx_passes_a_stream_on_as_it_arrives_and_breaks_off_where_it_breaks_off(
    nginx: http.client.HTTPConnection, upstream: Upstream
) -> None:
    nginx.request("GET", "/screenshot/stream?url=https://example.com")
    answer = nginx.getresponse()
    assert answer.read1() == b"first", "the beginning arrives while the upstream still waits"
    upstream.proceed.set()
    with pytest.raises(http.client.IncompleteRead):
        answer.read()


def test_nginx_says_who_the_client_is_whatever_the_client_claims(
    nginx: http.client.HTTPConnection, upstream: Upstream
) -> None:
    claimed = {"X-Forwarded-For": "203.0.113.9", "Forwarded": "for=203.0.113.9", "X-Request-ID": "mine-0001"}
    nginx.request("GET", "/thumb?url=x", headers=claimed)
    assert nginx.getresponse().read() == b"first"
    head = upstream.heads[0].lower()
    assert "x-forwarded-for: 127.0.0.1\r\n" in head
    assert "203.0.113.9" not in head
    assert "x-request-id: mine-0001\r\n" in head
    assert " http/1.1\r\n" in head


def test_nginx_takes_the_longest_url_that_gunicorn_takes(
    nginx: http.client.HTTPConnection, upstream: Upstream
) -> None:
    query = "/thumb?url=" + "%41" * 2600
    nginx.request("GET", query)
    assert nginx.getresponse().status == 200
    assert query in upstream.heads[0]


NGINX_REFUSES = {
    "a line that is none": (b"GARBAGE<script>\r\n\r\n", 400, "invalid-parameters"),
    "a line that is too long": (head("GET /" + "a" * 17_000 + " HTTP/1.1"), 414, "invalid-parameters"),
    "a header that is too long": (head("GET / HTTP/1.1", "X: " + "a" * 17_000), 400, "invalid-parameters"),
    "no host": (head("GET / HTTP/1.1", host=None), 400, "invalid-parameters"),
    "an odd host": (head("GET / HTTP/1.1", host="evil.example/x"), 400, "invalid-parameters"),
    "TRACE": (head("TRACE / HTTP/1.1"), 405, "invalid-parameters"),
    "a body that is too long": (head("POST / HTTP/1.1", "Content-Length: 9999999"), 413, "body-too-large"),
}


@pytest.mark.parametrize(
    ("request_bytes", "status", "slug"), NGINX_REFUSES.values(), ids=NGINX_REFUSES.keys()
)
def test_what_nginx_refuses_is_a_problem_document_that_repeats_nothing(
    nginx: http.client.HTTPConnection, upstream: Upstream, request_bytes: bytes, status: int, slug: str
) -> None:
    _assert_problem_of_nginx(exchange(f"http://127.0.0.1:{nginx.port}", request_bytes), status, slug)
    assert upstream.heads == []


def test_without_the_service_nginx_answers_a_problem_document(tmp_path: Path) -> None:
    with running_nginx(tmp_path, free_port()) as nginx:
        answer = exchange(nginx.url, head("GET /thumb HTTP/1.1", 'X-Request-ID: "}'))
    document = _assert_problem_of_nginx(answer, 502, "internal")
    assert document["retryable"]


def _assert_problem_of_nginx(answer: RawAnswer, status: int, slug: str) -> dict[str, Any]:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert b"script" not in answer.body
    document: dict[str, Any] = answer.json()
    assert (document["status"], document["type"]) == (status, f"/problems/{slug}")
    assert set(document) == set(Problem().fields) - {"errors"}
    assert document["request_id"] == answer.headers["x-request-id"]
    return document


# --- image ------------------------------------------------------------------------------------


def dockerfile_lines() -> list[str]:
    """The instructions of the Dockerfile, continued lines joined."""
    text = re.sub(r"(?m)^\s*#.*\n", "", read("Dockerfile"))
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def test_the_image_starts_from_a_fixed_release() -> None:
    bases = re.findall(r"(?m)^(?:ARG PYTHON_IMAGE=|FROM )(\S+)", read("Dockerfile"))
    assert [base for base in bases if base != "${PYTHON_IMAGE}"] == ["python:3.13-slim-bookworm"]


def test_the_image_runs_as_an_ordinary_user() -> None:
    users = [line.split()[1] for line in dockerfile_lines() if line.startswith("USER ")]
    assert users == ["10001:10001"], "a number, or Kubernetes cannot tell that it is not root's"
    (made,) = [line for line in dockerfile_lines() if "useradd" in line]
    assert "--uid 10001 " in made


def test_the_image_has_somebody_who_reaps_what_chromium_leaves_behind() -> None:
    entries = [line for line in dockerfile_lines() if line.startswith("ENTRYPOINT ")]
    assert entries == ['ENTRYPOINT ["tini", "--"]']
    assert any("apt-get install" in line and " tini " in line for line in dockerfile_lines())


def test_the_image_holds_exactly_the_locked_packages() -> None:
    installs = [line for line in dockerfile_lines() if "pip install" in line]
    assert len(installs) == 1
    assert "--require-hashes --requirement /tmp/requirements.lock" in re.sub(r"\s+", " ", installs[0])


def test_the_image_has_a_health_check_that_the_service_answers() -> None:
    checks = [line for line in dockerfile_lines() if line.startswith("HEALTHCHECK ")]
    assert len(checks) == 1
    assert "/health" in checks[0]


def test_no_package_lists_and_no_compiler_are_left_in_the_image() -> None:
    for line in dockerfile_lines():
        if "apt-get install" in line:
            assert "--no-install-recommends" in line
            assert "rm -rf /var/lib/apt/lists/*" in line
        assert not re.search(r"\b(gcc|g\+\+|build-essential|python3-dev)\b", line)


def test_the_image_holds_every_package_of_the_service() -> None:
    packages = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    modules = {path.name for path in PROJECT.glob("*.py")}
    copied = {name for line in dockerfile_lines() if line.startswith("COPY ") for name in line.split()[1:-1]}
    assert packages | modules <= copied
    shown = {line[1:] for line in read(".dockerignore").splitlines() if line.startswith("!")}
    assert packages | modules | {"requirements.lock"} == shown


def test_every_variable_of_the_image_is_a_setting_or_pythons() -> None:
    environment = next(line for line in dockerfile_lines() if line.startswith("ENV "))
    names = set(re.findall(r"([A-Z0-9_]+)=", environment))
    assert {name for name in names - SETTING_NAMES if not name.startswith("PYTHON")} == {"PATH"}


# --- stack ------------------------------------------------------------------------------------


def stack() -> dict[str, Any]:
    loaded = yaml.safe_load(read("docker-compose.yml"))
    assert isinstance(loaded, dict)
    return loaded


SERVICES = stack()["services"]


def test_every_variable_of_the_stack_is_a_setting() -> None:
    assert set(SERVICES["app"]["environment"]) <= SETTING_NAMES


def test_the_application_believes_the_address_that_nginx_has() -> None:
    address = SERVICES["nginx"]["networks"]["inside"]["ipv4_address"]
    assert SERVICES["app"]["environment"]["TRUSTED_PROXIES"] == address


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["read_only"] is True
    assert service["logging"] == {"driver": "local"}, "which turns its files over"
    assert "healthcheck" in service or "build" in service, "the image of this project has its own"


@pytest.mark.parametrize("name", [name for name in SERVICES if "build" not in SERVICES[name]])
def test_foreign_images_have_a_version(name: str) -> None:
    assert re.fullmatch(r"([a-z]+/)?[a-z]+:v?\d+\.\d+(\.\d+|-\w+)", SERVICES[name]["image"])


@pytest.mark.parametrize("role", ["worker", "beat"])
def test_jobs_have_workers_and_a_beat_with_the_settings_of_the_application(role: str) -> None:
    service = SERVICES[role]
    assert service["command"] == ["celery", "--app", "worker", role]
    for name in ("image", "environment", "volumes", "networks", "depends_on", "tmpfs"):
        assert service[name] == SERVICES["app"][name]


def test_only_who_runs_a_browser_may_make_namespaces() -> None:
    free = {name for name, each in SERVICES.items() if "seccomp=unconfined" in each["security_opt"]}
    assert free == {"app", "worker"}


def test_the_containers_of_prometheus_and_grafana_get_the_files_that_are_shipped() -> None:
    watchers = {name: each for name, each in SERVICES.items() if each.get("profiles") == ["monitoring"]}
    assert set(watchers) == {"prometheus", "grafana"}
    mounted = {
        volume.split(":")[0]: volume.split(":")[1] for each in watchers.values() for volume in each["volumes"]
    }
    files = {source: aim for source, aim in mounted.items() if source.startswith("./")}
    assert all((PROJECT / source).is_file() for source in files)
    rules = yaml.safe_load(read("deploy/prometheus/prometheus.yml"))["rule_files"]
    assert rules == [files["./deploy/prometheus/alerts.yml"]]
    (provider,) = yaml.safe_load(read("deploy/grafana/dashboards.yml"))["providers"]
    assert files["./deploy/grafana/dashboard.json"].startswith(provider["options"]["path"] + "/")
    (source,) = yaml.safe_load(read("deploy/grafana/datasource.yml"))["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_prometheus_asks_where_the_service_and_the_workers_tell() -> None:
    asked = {
        (name, found["port"])
        for each in yaml.safe_load(read("deploy/prometheus/prometheus.yml"))["scrape_configs"]
        for found in each["dns_sd_configs"]
        for name in found["names"]
    }
    environment = SERVICES["app"]["environment"]
    assert asked == {("app", 8000), ("worker", int(environment["JOB_METRICS_PORT"]))}


def test_counters_are_never_evicted_and_pictures_are() -> None:
    assert SERVICES["limiter"]["command"][-1] == "noeviction"
    assert SERVICES["cache"]["command"][-1] == "allkeys-lru"
    environment = SERVICES["app"]["environment"]
    assert ("//cache:" in environment["REDIS_URL"], "//limiter:" in environment["LIMITER_REDIS_URL"]) == (
        True,
        True,
    )


# --- make and its scripts ---------------------------------------------------------------------


def test_make_lists_every_target_with_a_line_of_explanation() -> None:
    listed = subprocess.run(["make"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    targets = re.search(r"(?m)^\.PHONY: (.*)$", read("Makefile"))
    assert targets is not None
    for target in targets[1].split():
        assert re.search(rf"(?m)^  make {target} +\w", listed), target


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_sound_and_can_be_run(name: str) -> None:
    path = PROJECT / "scripts" / name
    assert os.access(path, os.X_OK)
    subprocess.run(["sh", "-n", path], check=True)
    assert "set -eu" in path.read_text(encoding="utf-8")
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, path], check=True)


def test_every_script_that_make_runs_is_there() -> None:
    used = set(
        re.findall(
            r"scripts/([\w-]+\.sh)", read("Makefile") + "".join(read(f"scripts/{one}") for one in SCRIPTS)
        )
    )
    assert used == set(SCRIPTS)


def test_faults_that_only_the_parts_can_see_stop_the_start_together(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "APP_ENV": "testing",
        "THUMB_DEFAULTS": "width=99999",
        "PRESETS": "card:colour=red",
        "S3_BUCKET": "bucket",
        "S3_ENDPOINT_URL": "http://a_b:9000",
    }
    started = subprocess.run(
        [sys.executable, "-m", "gunicorn"],
        cwd=PROJECT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert started.returncode != 0
    for name in ("THUMB_DEFAULTS", "PRESETS", "S3_BUCKET"):
        assert name in started.stderr
    assert "Traceback" not in started.stderr
