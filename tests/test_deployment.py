"""What surrounds the application: gunicorn, nginx, make and its scripts."""

from __future__ import annotations

import contextlib
import http.client
import json
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

import psutil
import pytest
import requests

from blueprints.schemas import Problem
from tests.support.nginx import nginx_configuration, replaced, running_nginx
from tests.support.processes import executable, free_port, running, wait_until
from tests.support.raw_http import RawAnswer, exchange, head
from tests.support.service import running_service

PROJECT = Path(__file__).parent.parent
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


def test_more_clients_than_there_are_files_for_end_no_worker(tmp_path: Path) -> None:
    environ = {"PROVIDERS": "snapapi", "SNAPAPI_KEY": "k", "WEB_CONCURRENCY": "1", "LOG_LEVEL": "warning"}
    with running_service(tmp_path, environ) as service, contextlib.ExitStack() as held:
        assert requests.get(f"{service.url}/health", timeout=20).ok
        (worker,) = psutil.Process(service.pid).children()
        worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds() + 4, worker.num_fds() + 4))
        address = ("127.0.0.1", service.port)
        for _ in range(16):
            held.enter_context(socket.create_connection(address, timeout=20))
        wait_until(lambda: "Too many open files" in service.log.read_text())
        held.close()
        assert requests.get(f"{service.url}/health", timeout=20).ok
        assert psutil.Process(service.pid).children() == [worker]


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
                    b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nConnection: close\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n"
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


#: What a distribution's own nginx is, as far as it matters here: its usual log has the whole request line.
ORDINARY_NGINX = """
{user} daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{}}
http {{
    access_log {folder}/access.log combined;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    include {folder}/thumbnailer.conf;
}}
"""


def test_in_another_nginx_too_no_query_is_logged(upstream: Upstream, tmp_path: Path) -> None:
    documented = re.search(r"(?ms)^sed '(.*?)' (deploy/nginx/\S+) ", read("docs/deployment.md"))
    assert documented is not None
    site = subprocess.run(
        ["sed", documented[1], documented[2]], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    port = free_port()
    here = {"listen 80;": f"listen 127.0.0.1:{port};", "127.0.0.1:8000": f"127.0.0.1:{upstream.port}"}
    here |= {"/var/lib/nginx/": f"{tmp_path}/", "/var/log/nginx/": f"{tmp_path}/"}
    (tmp_path / "thumbnailer.conf").write_text(replaced(site, here))
    user = "user root;" if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(ORDINARY_NGINX.format(user=user, folder=tmp_path))
    command = [executable("nginx"), "-c", str(tmp_path / "nginx.conf"), "-p", str(tmp_path)]
    with running(command, port=port, log=tmp_path / "nginx.log"):
        for path in ("/thumb?sig=hidden", "/v1/usage?access_key=hidden"):
            assert requests.get(f"http://127.0.0.1:{port}{path}", timeout=20).status_code == 200
        log = tmp_path / "thumbnailer.log"
        wait_until(lambda: "/v1/usage" in log.read_text(), what="the lines of both requests")
    assert [json.loads(line)["path"] for line in log.read_text().splitlines()] == ["/thumb", "/v1/usage"]
    assert not any("hidden" in each.read_text() for each in tmp_path.glob("*.log"))


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
    "TRACE": (head("TRACE / HTTP/1.1"), 405, "method-not-allowed"),
    "a coding that nobody knows": (
        head("POST / HTTP/1.1", "Transfer-Encoding: bogus"),
        501,
        "invalid-parameters",
    ),
    "HTTP/3": (head("GET / HTTP/3.0"), 505, "invalid-parameters"),
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
