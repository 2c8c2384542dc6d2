"""What an upstream tells of itself, or of this service's key, is told to nobody: no caller, no log."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import answers
from tests.support.answers import Answer
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.telemetry import configure_logging

KEY = "sk-test-secret"
TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/app/capture.py", line 7, in shoot\nKeyError: 1'
SECRETS = (KEY, "10.9.8.7", "fd00::77", "169.254.169.254", "db.internal", "localhost", "/srv/app", "KeyError")
LEAK = f"{KEY} at http://10.9.8.7:6379 [fd00::77] 169.254.169.254 db.internal localhost:5432"

STATUSES = (302, 400, 401, 402, 404, 418, 422, 429, 500, 503, 599)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    environ = snapapi_environment(
        upstream.url, RATELIMIT_ENABLED="false", UPSTREAM_TIMEOUT="1", LOG_FORMAT="json"
    )
    with client_of(environ | {"LOG_LEVEL": "debug"}) as client:
        yield client


def _bodies(status: int) -> dict[str, Answer]:
    hidden = ("X-Internal-Host", "db.internal"), ("Location", "http://10.9.8.7/"), ("Set-Cookie", f"k={KEY}")
    return {
        "nested": answers.snapapi_error(status, "FAILED", LEAK, *hidden, details={"inside": LEAK}),
        "flat": answers.snapapi_flat_error(status, LEAK, LEAK, *hidden),
        "a traceback": answers.json_error(status, {"error": {"code": "X", "message": TRACEBACK}}, *hidden),
        "html": answers.content(
            f"<h1>{LEAK}</h1><pre>{TRACEBACK}</pre>".encode(), "text/html", status=status
        ),
    }


@pytest.mark.parametrize("kind", ["nested", "flat", "a traceback", "html"])
@pytest.mark.parametrize("status", STATUSES)
def test_no_secret_of_an_upstreams_error_comes_out(
    client: FlaskClient,
    upstream: Upstream,
    capsys: pytest.CaptureFixture[str],
    status: int,
    kind: str,
) -> None:
    upstream.behave(_bodies(status)[kind])
    capsys.readouterr()
    page = f"{TARGET}?{status}-{kind.replace(' ', '-')}"
    asked = [
        client.get("/thumb", query_string={"url": page}),
        client.get("/thumb", query_string={"url": f"{page}-i", "on_error": "placeholder"}),
        client.get("/screenshot/stream", query_string={"url": f"{page}-s"}),
        client.get("/api/screenshot", query_string={"url": f"{page}-a"}),
        client.get("/v1/screenshot", query_string={"url": f"{page}-v"}),
        client.post("/v1/screenshot", json={"url": f"{page}-w"}),
        client.post("/persist", json={"url": f"{page}-p"}),
    ]
    log = capsys.readouterr().err
    for response in asked:
        assert response.status_code >= 400
        told = response.data.decode("latin-1") + str(response.headers)
        for secret in SECRETS:
            assert secret not in told
    for secret in SECRETS:
        assert secret not in log
    assert upstream.requests


@pytest.mark.parametrize("piece", ["-a", "\n", "a.internal-"])
def test_no_message_however_long_stops_the_service(piece: str) -> None:
    """As long as one may be, it took most of a minute, in which no thread of the process runs."""
    program = (
        "import resource\n"
        "from thumbnailer.providers.exchange import UpstreamSession\n"
        "from thumbnailer.providers.remote import MAX_ERROR_BYTES, RemoteProvider\n"
        "from thumbnailer.providers.snapapi import SNAPAPI\n"
        "provider = RemoteProvider(SNAPAPI, UpstreamSession(), key='k', base_url='http://127.0.0.1:9')\n"
        "used = int(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (used + 2, used + 2))\n"
        f"provider._presentable({piece!r} * (MAX_ERROR_BYTES // {len(piece)}))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


HIDDEN = (" 10.9.8.7 ", " [fd00::77]:80 ", " db.internal ")
#: Text of any kind around what has to be hidden.
NOISE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.one_of(NOISE, st.sampled_from([KEY, "\r\n", "\x1b", *HIDDEN]))))
def test_a_message_is_one_printable_line_without_secrets_whatever_stands_around_them(
    pieces: list[str],
) -> None:
    provider = RemoteProvider(SNAPAPI, UpstreamSession(), key=KEY, base_url="http://127.0.0.1:9")
    told = provider._presentable("".join(pieces))
    assert told.isprintable()
    assert len(told) <= 200
    assert KEY not in told
    if all(piece in HIDDEN for piece in pieces):
        for secret in ("10.9.8.7", "fd00::77", "db.internal"):
            assert secret not in told


@pytest.mark.parametrize(
    "message",
    [
        "The page at 93.184.216.34 has no element #main.",
        "Timed out at 12:30:45 (ratio 16:9).",
        "Chrome/120.0.6099.109 refused the selector a::before > b.",
        "example.com did not answer.",
    ],
)
def test_a_message_that_tells_of_nobodys_inside_is_passed_on(message: str) -> None:
    provider = RemoteProvider(SNAPAPI, UpstreamSession(), key=KEY, base_url="http://127.0.0.1:9")
    assert provider._presentable(message) == message


# --- Lines of the log ------------------------------------------------------------------------

FORGERY = 'first\n2026-01-01T00:00:00Z [critical ] forged\r\x1b[31m\x85\u2028{"event": "forged"}\x00'


@pytest.fixture
def root_logger() -> Iterator[None]:
    """Logging is the process's own: what a test sets up ends with it."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


def _log_of_everything(capsys: pytest.CaptureFixture[str], *, is_json: bool) -> str:
    for _ in range(2):  # who configures it anew gets no line twice
        configure_logging("info", is_json=is_json)
    capsys.readouterr()
    structlog.get_logger("thumbnailer.test").warning(FORGERY, reason=FORGERY)
    logging.getLogger("a.library").warning("It said: %s", FORGERY)
    structlog.get_logger("thumbnailer.test").error("broke", exc_info=RuntimeError(FORGERY))
    return capsys.readouterr().err


@pytest.mark.usefixtures("root_logger")
def test_whatever_is_logged_each_line_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    text = _log_of_everything(capsys, is_json=True)
    lines = [json.loads(line) for line in text.split("\n") if line]
    assert len(lines) == 3
    assert all(line["event"] != "forged" for line in lines)
    assert text.isascii()


@pytest.mark.usefixtures("root_logger")
def test_whatever_is_logged_to_a_terminal_no_line_is_forged(capsys: pytest.CaptureFixture[str]) -> None:
    text = _log_of_everything(capsys, is_json=False)
    assert "forged" in text
    for line in text.split("\n"):
        assert line.isprintable()
        assert line == "" or line.startswith(("    | ", "20"))
        assert not line.startswith("2026-01-01")


@pytest.mark.usefixtures("root_logger")
@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("urllib3.connectionpool", logging.DEBUG),
        ("urllib3.connectionpool", logging.WARNING),  # of malformed headers, with the whole URL
        ("botocore.auth", logging.DEBUG),
        ("botocore.credentials", logging.WARNING),
        ("boto3", logging.DEBUG),
        ("asyncio", logging.DEBUG),
        ("flask_limiter", logging.DEBUG),
    ],
)
def test_libraries_that_tell_urls_and_keys_are_not_heard_even_when_debugging(
    capsys: pytest.CaptureFixture[str], name: str, level: int
) -> None:
    configure_logging("debug", is_json=True)
    capsys.readouterr()
    logging.getLogger(name).log(level, "GET /?key=%s", KEY)
    structlog.get_logger("thumbnailer.test").debug("heard")
    log: Any = capsys.readouterr().err
    assert KEY not in log
    assert "heard" in log
