"""Whatever hangs on the way, the request ends: one deadline covers all that it waits for.

The waits that are put in its way are far longer than a test waits for an answer.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from blueprints.problems import PROBLEMS
from blueprints.services import EXTENSION
from tests.support import answers
from tests.support.answers import Answer
from tests.support.pictures import picture
from tests.support.processes import free_port
from tests.support.s3 import Fault, forget_aws_settings, small_s3
from tests.support.service import TARGET, running_app, snapapi_environment
from tests.support.stores import silent_server
from tests.support.upstream import Upstream
from thumbnailer.egress import GuardedSession
from thumbnailer.errors import TargetUnreachable
from thumbnailer.guard import Guard, parse_private_exceptions
from thumbnailer.local_storage import LocalStorage
from thumbnailer.model import Deadline

#: The deadline, and how long a request may take on a busy machine; what hangs does so for longer.
DEADLINE_SECONDS = 1
PATIENCE_SECONDS = 8.0

NAMED = "http://slow.example.com/page"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """Set at the end of the test, for whatever hangs in it."""
    over = threading.Event()
    yield over
    over.set()


def settings_of(upstream: str, **more: str) -> dict[str, str]:
    patience = {"UPSTREAM_TIMEOUT": str(DEADLINE_SECONDS), "RATELIMIT_ENABLED": "false"}
    return snapapi_environment(upstream, **patience) | more


def ask(app: Flask, path: str = "/thumb", **query: str) -> TestResponse:
    """The answer to a GET for a picture of the page; fails where none comes in time."""
    return fetch(app, path, {"url": TARGET} | query)


def fetch(app: Flask, path: str, query: Mapping[str, str] | None = None) -> TestResponse:
    """The answer to a GET; fails where none comes in time."""
    return in_time(lambda: app.test_client().get(path, query_string=query, buffered=True))


def in_time(call: Callable[[], TestResponse]) -> TestResponse:
    with ThreadPoolExecutor(1) as asking:
        return asking.submit(call).result(PATIENCE_SECONDS)


def assert_problem(response: TestResponse, slug: str) -> None:
    assert response.status_code == PROBLEMS[slug].status, response.data
    document: dict[str, Any] = response.get_json()
    assert document["type"] == f"/problems/{slug}"


@contextlib.contextmanager
def deaf_server() -> Iterator[str]:
    """A port whose queue of connections is full: who connects gets no answer at all."""
    with contextlib.ExitStack() as held:
        listener = held.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            wire = held.enter_context(socket.socket())
            wire.settimeout(0)
            wire.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


#: Each would take minutes.
SLOW_UPSTREAMS = {
    "never answers": answers.silence(),
    "sends its head a byte a second": answers.slow_head(1.0),
    "sends its body a byte a second": answers.drip(1.0),
    "sends a body without a length a byte a second": answers.drip(1.0, framing="close"),
    "tells of its error a byte a second": Answer(
        status=500,
        headers=(("Content-Type", "application/json"),),
        chunks=lambda: iter([b"{"] + [b" "] * 1000),
        body_pause=1.0,
    ),
}


@pytest.mark.parametrize("behaviour", SLOW_UPSTREAMS.values(), ids=SLOW_UPSTREAMS.keys())
@pytest.mark.parametrize("path", ["/thumb", "/screenshot/stream"])
def test_an_upstream_that_takes_its_time_is_cut_off(upstream: Upstream, path: str, behaviour: Answer) -> None:
    upstream.behave(behaviour)
    with running_app(settings_of(upstream.url)) as app:
        response = ask(app, path)
        assert response.status_code in (502, 504), response.data


def test_a_stream_that_stops_is_cut_off(upstream: Upstream) -> None:
    body = picture("png", 320, 200)
    half = len(body) // 2
    slowly = [body[:half], *(body[at : at + 1] for at in range(half, len(body)))]
    png = (("Content-Type", "image/png"),)
    upstream.behave(Answer(headers=png, chunks=lambda: iter(slowly), length=len(body), body_pause=0.2))
    with running_app(settings_of(upstream.url)) as app, ThreadPoolExecutor(1) as reading:
        response = app.test_client().get("/screenshot/stream", query_string={"url": TARGET})
        assert response.status_code == 200

        def read() -> int:
            return sum(map(len, response.iter_encoded()))

        with pytest.raises(Exception, match="did not answer in time"):
            reading.submit(read).result(PATIENCE_SECONDS)


def test_an_upstream_that_nobody_gets_through_to_is_given_up() -> None:
    with deaf_server() as url, running_app(settings_of(url)) as app:
        assert_problem(ask(app), "upstream-timeout")


@pytest.mark.timeout(20)  # the system tries for minutes
def test_a_receiver_that_nobody_gets_through_to_is_given_up() -> None:
    guard = Guard(exceptions=parse_private_exceptions("127.0.0.0/8"))
    with (
        deaf_server() as url,
        contextlib.closing(GuardedSession(guard)) as session,
        pytest.raises(TargetUnreachable),
    ):
        session.fetch("POST", url, deadline=Deadline.after(DEADLINE_SECONDS), max_bytes=100)


def test_no_retry_and_no_second_provider_outlasts_the_deadline(upstream: Upstream) -> None:
    upstream.behave(answers.json_error(500, {"error": "broken"}))
    more = {"PROVIDERS": "snapapi,snapsharp", "SNAPSHARP_API_KEY": "k", "SNAPSHARP_API_BASE": upstream.url}
    with deaf_server() as deaf:
        for base in (upstream.url, deaf):
            with running_app(settings_of(base, **more)) as app:
                response = ask(app)
                assert response.status_code in (502, 504), response.data


@pytest.fixture
def hanging_resolver(over: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system's resolver as it is while no name server answers; numbers it reads itself."""
    real = socket.getaddrinfo

    def hang(host: Any, *arguments: Any, **more: Any) -> Sequence[Any]:
        if str(host).strip("b'").endswith(".example.com"):
            over.wait(60)
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", hang)


@pytest.mark.usefixtures("hanging_resolver")
def test_a_targets_name_that_is_looked_up_for_ever_is_given_up(upstream: Upstream) -> None:
    with running_app(settings_of(upstream.url)) as app:
        assert_problem(ask(app, url=NAMED), "target-unreachable")
    assert upstream.requests == ()


@pytest.mark.usefixtures("hanging_resolver")
def test_an_upstreams_name_that_is_looked_up_for_ever_is_given_up() -> None:
    with running_app(settings_of(f"http://upstream.example.com:{free_port()}")) as app:
        assert_problem(ask(app), "upstream-timeout")


def test_who_waits_for_the_capture_of_another_waits_no_longer_than_that(upstream: Upstream) -> None:
    upstream.behave(answers.silence())
    with running_app(settings_of(upstream.url)) as app, ThreadPoolExecutor(3) as crowd:
        asked = [
            crowd.submit(app.test_client().get, "/thumb", query_string={"url": TARGET}) for _ in range(3)
        ]
        for one in asked:
            assert_problem(one.result(PATIENCE_SECONDS), "upstream-timeout")


def test_who_waits_in_line_waits_no_longer_than_that(upstream: Upstream) -> None:
    upstream.behave(answers.silence())
    one_by_one = {"UPSTREAM_CONCURRENCY": "1", "CAPTURE_QUEUE": "5"}
    together = threading.Barrier(4)
    with running_app(settings_of(upstream.url, **one_by_one)) as app, ThreadPoolExecutor(4) as crowd:

        def ask_with_others(number: int) -> TestResponse:
            client = app.test_client()
            together.wait(PATIENCE_SECONDS)
            return client.get("/thumb", query_string={"url": f"{TARGET}?{number}"})

        asked = [crowd.submit(ask_with_others, number) for number in range(4)]
        statuses = sorted(one.result(PATIENCE_SECONDS).status_code for one in asked)
    assert set(statuses) <= {503, 504}
    assert len(upstream.requests) <= 2


def test_a_silent_redis_costs_no_picture(upstream: Upstream) -> None:
    with (
        silent_server() as (url, _),
        running_app(settings_of(upstream.url, REDIS_URL=url, UPSTREAM_TIMEOUT="10")) as app,
    ):
        response = ask(app, thumb_width="100")
        assert response.status_code == 200
        assert response.data.startswith(b"\x89PNG")


def test_a_rendering_that_hangs_is_not_waited_for_and_its_capture_is_kept(
    upstream: Upstream, over: threading.Event
) -> None:
    with running_app(settings_of(upstream.url)) as app:
        renderer = app.extensions[EXTENSION].thumbnails._renderer
        real = renderer.render

        def hang(*arguments: Any) -> Any:
            over.wait(60)
            return real(*arguments)

        renderer.render = hang
        response = ask(app, thumb_width="100")
        assert_problem(response, "overloaded")
        assert response.headers["Retry-After"] == "1"
        renderer.render = real
        again = ask(app, thumb_width="100")
        assert again.status_code == 200
    assert len(upstream.requests) == 1


def test_a_placeholder_does_not_wait_for_pictures_that_are_being_rendered(
    upstream: Upstream, tmp_path: Path
) -> None:
    own = tmp_path / "own.png"
    own.write_bytes(picture("png", 100, 100))
    upstream.behave(answers.silence())
    with (
        running_app(settings_of(upstream.url, PLACEHOLDER_IMAGE=str(own))) as app,
        contextlib.ExitStack() as held,
    ):
        renderer = app.extensions[EXTENSION].thumbnails._renderer
        while renderer._places.acquire(blocking=False):  # every place is taken
            held.callback(renderer._places.release)
        response = ask(app, on_error="placeholder")
        assert response.status_code == 504
        assert response.data.startswith(b"\x89PNG")


def _s3_settings(endpoint_url: str) -> dict[str, str]:
    return {
        "S3_BUCKET": "thumbs",
        "S3_ENDPOINT_URL": endpoint_url,
        "S3_ACCESS_KEY_ID": "AKIDOFTHETESTS",
        "S3_SECRET_ACCESS_KEY": "secret-of-the-tests",
        "S3_READ_TIMEOUT": "60",
        "S3_CONNECT_TIMEOUT": "60",
    }


def test_a_storage_that_hangs_is_given_up_and_the_capture_kept(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_aws_settings(monkeypatch)
    with (
        small_s3(Fault.SILENT) as s3,
        running_app(settings_of(upstream.url, **_s3_settings(s3.endpoint_url))) as app,
    ):
        for _ in range(2):
            response = in_time(lambda: app.test_client().post("/persist", json={"url": TARGET}))
            assert_problem(response, "storage-unavailable")
            assert "Retry-After" in response.headers
    assert len(upstream.requests) == 1


def test_a_storage_that_takes_its_time_to_open_a_picture_is_given_up(
    upstream: Upstream, over: threading.Event, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = {"DATABASE_URL": f"sqlite:///{tmp_path}/jobs.sqlite3", "MEDIA_DIR": str(tmp_path / "media")}
    with running_app(settings_of(upstream.url, **folders)) as app:
        order = {"url": TARGET, "persist": True, "wait": 60}
        job = app.test_client().post("/screenshots", json=order).get_json()
        assert job["stored"], job
        app.test_client().post("/cache/purge", json={"everything": True})
        assert fetch(app, f"/jobs/{job['job_id']}/image").status_code == 302
        monkeypatch.setattr(LocalStorage, "presigned_url", lambda *_of: over.wait(600))
        assert_problem(fetch(app, f"/jobs/{job['job_id']}/image"), "storage-unavailable")


def test_a_storage_that_nobody_gets_through_to_is_given_up(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget_aws_settings(monkeypatch)
    with deaf_server() as url, running_app(settings_of(upstream.url, **_s3_settings(url))) as app:
        headers = {"Idempotency-Key": "once"}
        for _ in range(2):  # what failed is no answer to keep
            response = in_time(
                lambda: app.test_client().post("/persist", json={"url": TARGET}, headers=headers)
            )
            assert_problem(response, "storage-unavailable")
