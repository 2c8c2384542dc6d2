"""What the service writes of itself: one JSON object a line, all that helps, nothing that harms."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from blueprints.services import EXTENSION
from tests.support import answers
from tests.support.processes import wait_until
from tests.support.service import TARGET, Service, client_of, running_service, snapapi_environment
from tests.support.upstream import Upstream

SECRET_QUERY = "token=hidden-in-the-target"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def service(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    settings = snapapi_environment(
        upstream.url, RATELIMIT_ENABLED="false", LOG_LEVEL="info", WEB_CONCURRENCY="1"
    )
    with running_service(tmp_path_factory.mktemp("service"), settings) as service:
        yield service


class Log:
    """The service's log from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start = path.stat().st_size

    def text(self) -> str:
        return self._path.read_bytes()[self._start :].decode()

    def lines(self) -> list[dict[str, Any]]:
        """Those whose end is written."""
        return [json.loads(line) for line in self.text().rpartition("\n")[0].splitlines()]

    def request_line(self, request_id: str) -> dict[str, Any]:
        """The one line about one request, as soon as it is written."""

        def found() -> list[dict[str, Any]]:
            named = (line for line in self.lines() if line.get("request_id") == request_id)
            return [line for line in named if line["event"] == "request"]

        wait_until(lambda: bool(found()), what="the line about the request")
        (line,) = found()
        return line


@pytest.fixture
def log(service: Service) -> Log:
    return Log(service.log)


def _get(service: Service, path: str, request_id: str, **query: str) -> requests.Response:
    headers = {"X-Request-ID": request_id, "X-API-Key": "key-of-the-caller"}
    return requests.get(f"{service.url}{path}", params=query, headers=headers, timeout=30)


def test_every_line_is_one_json_object_from_the_start(service: Service) -> None:
    lines = [json.loads(line) for line in service.log.read_text().splitlines()]
    assert lines
    for line in lines:
        assert {"event", "level", "logger", "timestamp"} <= line.keys()


def test_a_capture_leaves_a_line_with_all_that_matters(service: Service, log: Log) -> None:
    response = _get(service, "/thumb", "capture-0001", url=f"{TARGET}?{SECRET_QUERY}")
    assert response.status_code == 200
    line = log.request_line("capture-0001")
    assert line["method"] == "GET"
    assert line["path"] == "/thumb"
    assert line["status"] == 200
    assert line["target"] == "93.184.216.34"
    assert line["provider"] == "snapapi"
    assert line["cache"] == "miss"
    assert line["upstream_ms"] >= 0
    assert line["duration_ms"] >= line["upstream_ms"]
    assert line["bytes"] == len(response.content)
    assert line["level"] == "info"


def test_an_answer_from_the_cache_names_no_provider(service: Service, log: Log) -> None:
    for number in (1, 2):
        _get(service, "/thumb", f"cached-000{number}", url=f"{TARGET}?cached")
    line = log.request_line("cached-0002")
    assert line["cache"] == "hit"
    assert "provider" not in line
    assert "upstream_ms" not in line


def test_a_stream_is_logged_when_it_has_ended(service: Service, log: Log) -> None:
    _get(service, "/screenshot/stream", "streamed-0001", url=f"{TARGET}?streamed")
    line = log.request_line("streamed-0001")
    assert (line["status"], line["cache"], line["provider"]) == (200, "miss", "snapapi")


def test_what_is_stored_is_named(service: Service, log: Log) -> None:
    headers = {"X-Request-ID": "stored-000001"}
    response = requests.post(
        f"{service.url}/persist", json={"url": f"{TARGET}?stored"}, headers=headers, timeout=30
    )
    line = log.request_line("stored-000001")
    assert line["object_key"] == response.json()["key"]
    assert (line["method"], line["status"], line["stored"]) == ("POST", 201, True)


def test_a_refusal_says_why(service: Service, log: Log) -> None:
    response = _get(service, "/thumb", "refused-0001", url="http://10.0.0.1/")
    assert response.status_code == 403
    assert log.request_line("refused-0001")["status"] == 403
    reasons = [line for line in log.lines() if line["event"] == "request_failed"]
    assert [(line["problem"], line["request_id"]) for line in reasons] == [
        ("target-forbidden", "refused-0001")
    ]


def test_an_operators_fault_is_an_error_in_the_log(service: Service, log: Log, upstream: Upstream) -> None:
    upstream.behave(answers.snapapi_error(401, "INVALID_API_KEY", "bad key"))
    try:
        _get(service, "/thumb", "operator-0001", url=f"{TARGET}?operator")
    finally:
        upstream.behave(answers.image("png"))
    log.request_line("operator-0001")
    errors = [line for line in log.lines() if line["level"] == "error"]
    assert errors
    assert all(line["request_id"] == "operator-0001" for line in errors)


def test_no_secret_and_no_query_is_logged(service: Service, log: Log) -> None:
    for number, path in enumerate(
        ("/thumb", "/screenshot/stream", "/api/screenshot", "/v1/screenshot", "/nowhere")
    ):
        _get(service, path, f"secretive-{number}", url=f"{TARGET}?{SECRET_QUERY}", user_agent="agent-007")
        log.request_line(f"secretive-{number}")
    text = log.text()
    for secret in ("hidden-in-the-target", "agent-007", "key-of-the-caller", "sk-test-secret"):
        assert secret not in text
        assert secret not in service.log.read_text()


FORGERY = json.dumps({"event": "forged", "level": "critical"})


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param(f"/x%0d%0a{FORGERY.replace(' ', '%20')}", {}, id="line breaks in the path"),
        pytest.param("/x%1b[31mred%1b[2J", {}, id="terminal codes in the path"),
        pytest.param("/x%c2%85%e2%80%a8" + FORGERY.replace(" ", "%20"), {}, id="other line breaks"),
        pytest.param("/x%ff%fe%00", {}, id="no text in the path"),
        pytest.param("/health", {"X-Request-ID": FORGERY}, id="JSON in the request id"),
        pytest.param("/health", {"X-Request-ID": "abc\x1b[31mdefgh"}, id="terminal codes in the request id"),
        pytest.param("/health", {"X-Forwarded-For": FORGERY}, id="JSON in the address"),
        pytest.param(f"/thumb?colour={FORGERY.replace(' ', '%20')}", {}, id="JSON in a query"),
        pytest.param("/thumb?a%0ab=1&url=x", {}, id="a line break in a parameter's name"),
    ],
)
def test_nobody_can_forge_a_line(service: Service, log: Log, path: str, headers: dict[str, str]) -> None:
    address = urlsplit(service.url)
    sent = {"Host": "localhost", "Connection": "close"} | headers
    head = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
    with socket.create_connection((address.hostname, address.port), timeout=10) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1"))
        while wire.recv(65536):
            pass
    _get(service, "/health", "afterwards-1")
    log.request_line("afterwards-1")
    text = log.text()
    assert "\x1b" not in text
    assert "\x85" not in text
    assert "\u2028" not in text
    for line in text.splitlines():
        document = json.loads(line)
        assert document["event"] != "forged"
        assert document["level"] != "critical"


def test_a_bug_leaves_its_traceback_under_the_requests_name(
    upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(*_arguments: object) -> None:
        raise RuntimeError("a bug of the test")

    with client_of(snapapi_environment(upstream.url, LOG_FORMAT="json")) as client:
        client.application.extensions[EXTENSION].thumbnails.fetch = explode
        client.get("/thumb", query_string={"url": TARGET}, headers={"X-Request-ID": "buggy-request-1"})
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    (bug,) = [line for line in lines if line["event"] == "unexpected_error"]
    assert (bug["level"], bug["request_id"]) == ("error", "buggy-request-1")
    assert "RuntimeError: a bug of the test" in bug["exception"]
    assert 'in explode\n    raise RuntimeError("a bug of the test")' in bug["exception"]


def test_a_terminal_gets_no_codes_of_a_caller(upstream: Upstream, capsys: pytest.CaptureFixture[str]) -> None:
    settings = snapapi_environment(upstream.url, LOG_FORMAT="console") | {"LOG_LEVEL": "info"}
    with client_of(settings) as client:
        client.get("/x%1b[31mred%0a%0dnext")
        client.get("/thumb", query_string={"url": TARGET, "\x1b[31mred\n": "1"})
    text = capsys.readouterr().err
    assert "red" in text
    assert "\x1b" not in text
    assert "\r" not in text
    assert not any(line.startswith("next") for line in text.splitlines())
