"""Times and numbers that an operator may change reach whom they are meant for."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from settings.reading import ConfigurationError
from tests.support import answers
from tests.support.ageing import age_pictures
from tests.support.answers import Answer, Received
from tests.support.processes import wait_until
from tests.support.service import TARGET, client_of, running_service, snapapi_environment
from tests.support.settings import load
from tests.support.upstream import Upstream
from thumbnailer.setbacks import Pauses
from wiring.providers import build_chromium
from wiring.trip import build_guard

PROBE = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    ("pauses", "expected"),
    [
        pytest.param(Pauses(), [60, 120, 240, 480, 960, 1920, 3600, 3600], id="as usual"),
        pytest.param(Pauses(5, 12), [5, 10, 12, 12], id="short"),
        pytest.param(
            Pauses(1, 86_400), [2.0**doublings for doublings in range(17)] + [86_400] * 2, id="far apart"
        ),
        pytest.param(Pauses(30, 30), [30, 30], id="always the same"),
    ],
)
def test_pauses_double_up_to_the_longest(pauses: Pauses, expected: list[float]) -> None:
    assert [pauses.after(failures) for failures in range(1, len(expected) + 1)] == expected
    assert pauses.after(10**6) == pauses.longest_seconds


def test_a_page_that_fails_is_left_alone_for_as_long_as_the_operator_says() -> None:
    with Upstream(answers.snapapi_error(422, "TARGET_UNREACHABLE", "nothing there")) as upstream:
        times = {"FAILURE_PAUSE": "7", "FAILURE_PAUSE_MAX": "7"}
        with client_of(snapapi_environment(upstream.url, **times)) as client:
            answer = client.get(f"/screenshot?url={TARGET}?dead")
    assert answer.status_code == 422
    assert answer.headers["Retry-After"] == "7"


def test_a_first_pause_above_the_longest_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="FAILURE_PAUSE: must not be above FAILURE_PAUSE_MAX"):
        load({"FAILURE_PAUSE": "60", "FAILURE_PAUSE_MAX": "30"})


def test_no_more_old_pictures_are_replaced_at_once_than_the_operator_says(tmp_path: Path) -> None:
    proceed = threading.Event()

    def hang(_received: Received) -> Answer:
        assert proceed.wait(60)
        return answers.image("png")

    settings = {"CACHE_DIR": str(tmp_path), "REFRESH_CONCURRENCY": "1", "REFRESH_QUEUE": "0"}
    with (
        Upstream(answers.image("png")) as upstream,
        client_of(snapapi_environment(upstream.url, **settings)) as client,
    ):
        paths = [f"/thumb?url={TARGET}?{number}" for number in range(3)]
        assert {client.get(path).status_code for path in paths} == {200}
        assert age_pictures(tmp_path, 100_000)
        upstream.behave(hang)
        asked = len(upstream.requests)
        try:
            assert [client.get(path).headers["X-Cache"] for path in paths] == ["STALE"] * 3
            wait_until(lambda: len(upstream.requests) == asked + 1, what="the one refresh")
        finally:
            proceed.set()
        wait_until(lambda: client.get(paths[0]).headers["X-Cache"] == "HIT", what="the new picture")
        assert len(upstream.requests) == asked + 1


def test_an_idle_connection_is_kept_for_as_long_as_the_operator_says(tmp_path: Path) -> None:
    settings = snapapi_environment("http://127.0.0.1:9", WEB_CONCURRENCY="1", CLIENT_KEEPALIVE_TIMEOUT="1")
    with running_service(tmp_path, settings) as service:
        parts = urlsplit(service.url)
        with socket.create_connection((parts.hostname, parts.port), timeout=30) as connection:
            connection.sendall(PROBE)
            received = b""
            while part := connection.recv(65_536):  # until the service closes it
                received += part
    assert received.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" not in received


def test_chromium_is_told_how_long_a_page_may_load() -> None:
    settings = load({"PROVIDERS": "chromium", "CHROMIUM_LOAD_TIMEOUT": "40"})
    provider = build_chromium(settings, build_guard(settings))
    assert provider._settings.load_timeout_seconds == 40  # type: ignore[attr-defined]
