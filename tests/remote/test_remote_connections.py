"""The connections of the HTTP providers: used again or closed, shared, and led nowhere else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import answers
from tests.support.answers import Answer, json_error
from tests.support.certificates import make_certificates
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.remote import KEY, REQUEST, provider_of, whole
from tests.support.upstream import Upstream
from thumbnailer import wire
from thumbnailer.errors import (
    UpstreamFailed,
)
from thumbnailer.model import Deadline
from thumbnailer.providers import UpstreamBody
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.snapapi import SNAPAPI


def read_whole(body: UpstreamBody) -> None:
    assert b"".join(body)


def read_some(body: UpstreamBody) -> None:
    assert next(iter(body))


def read_nothing(body: UpstreamBody) -> None:
    assert body.length


@pytest.mark.parametrize(
    ("read", "connections"),
    [(read_whole, 1), (read_some, 2), (read_nothing, 2)],
    ids=["whole", "some", "nothing"],
)
def test_a_connection_is_used_again_only_when_its_answer_was_read_to_the_end(
    upstream: Upstream, provider: RemoteProvider, read: Callable[[UpstreamBody], None], connections: int
) -> None:
    upstream.behave(answers.streamed(2**20))
    body = provider.capture(REQUEST, Deadline.after(20))
    read(body)
    body.close()
    body.close()

    assert whole(provider)
    assert upstream.connection_count == connections


def test_a_connection_is_used_again_after_an_error(upstream: Upstream, provider: RemoteProvider) -> None:
    upstream.behave(json_error(500, {"message": "x"}), answers.image())

    with pytest.raises(UpstreamFailed):
        whole(provider)

    assert whole(provider) == picture()
    assert upstream.connection_count == 1


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_was_idle_for_long_is_not_used_again(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path)
    tls = certificates.server_context() if scheme == "https" else None
    with Upstream(tls=tls) as upstream, UpstreamSession() as session:
        session.verify = str(certificates.ca_path)
        provider = provider_of(SNAPAPI, session, upstream.url)
        assert [whole(provider), whole(provider)] == [picture()] * 2
        assert upstream.connection_count == 1
        monkeypatch.setattr(wire, "IDLE_SECONDS", 0.0)
        assert [whole(provider), whole(provider)] == [picture()] * 2
        assert upstream.connection_count == 3


def test_the_deadline_of_an_answer_that_has_ended_harms_nobody_on_the_same_connection(
    upstream: Upstream, provider: RemoteProvider
) -> None:
    earlier = Deadline.after(2)
    assert whole(provider, earlier) == picture()
    is_due = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"be"
        assert is_due.wait(20)
        yield b"fore"

    upstream.behave(Answer(chunks=chunks, length=6))
    arriving = iter(provider.capture(REQUEST, Deadline.after(20)))
    assert next(arriving) == b"be"
    wait_until(earlier.has_passed)
    is_due.set()

    assert b"".join(arriving) == b"fore"
    assert upstream.connection_count == 1


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_closing_wakes_a_thread_that_waits_for_bytes_and_gives_it_no_clean_end(
    upstream: Upstream, provider: RemoteProvider, framing: str
) -> None:
    upstream.behave(answers.drip(60, framing=framing))
    body = provider.capture(REQUEST, Deadline.after(60))
    has_begun = threading.Event()
    outcome: list[object] = []

    def read() -> None:
        try:
            for _ in body:
                has_begun.set()
            outcome.append("clean end")
        except UpstreamFailed as error:
            outcome.append(type(error))

    reader = threading.Thread(target=read)
    reader.start()
    assert has_begun.wait(20)
    body.close()
    reader.join(20)

    assert outcome == [UpstreamFailed]


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_body_that_was_closed_early_has_no_clean_end(
    upstream: Upstream, provider: RemoteProvider, framing: str
) -> None:
    upstream.behave(answers.streamed(2**20, framing=framing))
    body = provider.capture(REQUEST, Deadline.after(20))
    arriving = iter(body)
    assert next(arriving)
    body.close()

    with pytest.raises(UpstreamFailed):
        next(arriving)


def test_a_provider_can_be_closed_and_called_again(upstream: Upstream, provider: RemoteProvider) -> None:
    assert whole(provider) == picture()
    provider.close()

    assert whole(provider) == picture()
    assert upstream.connection_count == 2


def test_no_redirect_is_followed(upstream: Upstream, provider: RemoteProvider) -> None:
    with Upstream() as inside:
        upstream.behave(answers.redirect(f"{inside.url}/v1/screenshot", 307))

        with pytest.raises(UpstreamFailed):
            whole(provider)

        assert inside.requests == ()


def test_no_cookie_is_kept(upstream: Upstream, provider: RemoteProvider) -> None:
    upstream.behave(answers.content(picture(), "image/png", ("Set-Cookie", "session=1; Path=/")))

    whole(provider)
    whole(provider)

    assert [received.header("Cookie") for received in upstream.requests] == [None, None]


def test_neither_proxies_nor_netrc_of_the_environment_are_used(
    upstream: Upstream, provider: RemoteProvider, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, answers.refusing_url())

    assert whole(provider) == picture()
    assert upstream.requests[0].header("Authorization") == f"Bearer {KEY}"


def test_many_threads_share_one_session(upstream: Upstream, provider: RemoteProvider) -> None:
    results: list[Any] = []

    def run() -> None:
        results.extend(whole(provider) for _ in range(5))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert results == [picture()] * 40
    assert len(upstream.requests) == 40
    assert upstream.connection_count <= 8


def test_a_finished_capture_leaves_no_thread_or_file_descriptor(
    upstream: Upstream, provider: RemoteProvider
) -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    whole(provider)
    threads, descriptors = threading.active_count(), open_descriptors()
    for _ in range(10):
        whole(provider, Deadline.after(600))

    wait_until(lambda: threading.active_count() <= threads)
    assert open_descriptors() <= descriptors
