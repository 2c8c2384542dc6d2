"""The HTTP providers against an upstream that misbehaves: broken answers, deadlines, streams."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.answers import Answer
from tests.support.certificates import make_certificates
from tests.support.pictures import picture
from tests.support.remote import REQUEST, provider_of, whole
from tests.support.upstream import Upstream
from thumbnailer.errors import (
    NotAnImage,
    UpstreamFailed,
    UpstreamTimeout,
)
from thumbnailer.model import Deadline
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.wire import Cutoff

BROKEN: dict[str, Answer] = {
    "reset": answers.reset(),
    "cut-off-with-length": answers.cut_off(),
    "cut-off-before-the-first-byte": answers.cut_off(0),
    "cut-off-in-chunks": answers.cut_off(framing="chunked"),
}


def test_an_encoded_body_is_no_picture_and_is_not_unpacked(
    upstream: Upstream, provider: RemoteProvider
) -> None:
    upstream.behave(answers.content(b"\x1f\x8b", "image/png", ("Content-Encoding", "gzip")))

    with pytest.raises(NotAnImage) as caught:
        whole(provider)

    assert caught.value.provider == "snapapi"


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_an_answer_that_breaks_off_is_never_a_clean_end(
    upstream: Upstream, provider: RemoteProvider, answer: Answer
) -> None:
    upstream.behave(answer)

    with pytest.raises(UpstreamFailed) as caught:
        whole(provider)

    assert caught.value.provider == "snapapi"
    assert "127.0.0.1" not in str(caught.value)


def test_a_refused_connection_is_the_upstreams_failure(session: UpstreamSession) -> None:
    with pytest.raises(UpstreamFailed, match=r"The connection to the provider snapapi failed\."):
        whole(provider_of(SNAPAPI, session, answers.refusing_url()))


def test_what_is_no_http_is_the_upstreams_failure(session: UpstreamSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            with server.accept()[0] as connection:
                connection.sendall(b"220 mail.example ESMTP\r\n")

        greeter = threading.Thread(target=greet)
        greeter.start()
        with pytest.raises(UpstreamFailed):
            whole(provider_of(SNAPAPI, session, f"http://127.0.0.1:{server.getsockname()[1]}"))
        greeter.join()


STALLING: dict[str, Answer] = {
    "silence": answers.silence(),
    "slow-headers": answers.slow_head(0.02),
    "drip-with-length": answers.drip(0.02),
    "drip-in-chunks": answers.drip(0.02, framing="chunked"),
    "drip-until-the-end": answers.drip(0.02, framing="close"),
    "endless": answers.endless(),
    "slow-first-header": answers.slow_head(60),
    "slow-first-chunk": answers.drip(60, framing="close"),
}


@pytest.mark.parametrize("answer", STALLING.values(), ids=STALLING)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_whatever_an_upstream_stalls_with_it_is_cut_off_at_the_deadline(
    scheme: str, tmp_path: Path, session: UpstreamSession, answer: Answer
) -> None:
    certificates = make_certificates(tmp_path)
    session.verify = str(certificates.ca_path)
    with Upstream(answer, tls=certificates.server_context() if scheme == "https" else None) as upstream:
        provider = provider_of(SNAPAPI, session, upstream.url)

        with pytest.raises(UpstreamTimeout) as caught:
            whole(provider, Deadline.after(0.4))

        assert caught.value.provider == "snapapi"
        upstream.behave(answers.image())
        assert whole(provider) == picture()


@pytest.mark.timeout(30)
def test_a_silent_upstream_is_given_up_though_the_watch_over_its_connection_never_strikes(
    upstream: Upstream, provider: RemoteProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cutoff, "_strike", lambda _: None)
    upstream.behave(answers.silence())

    with pytest.raises(UpstreamTimeout):
        whole(provider, Deadline.after(0.4))


def test_a_tls_handshake_that_stalls_is_cut_off_at_the_deadline(session: UpstreamSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(UpstreamTimeout):
        whole(
            provider_of(SNAPAPI, session, f"https://127.0.0.1:{server.getsockname()[1]}"), Deadline.after(0.3)
        )


def test_a_connection_that_is_never_accepted_is_given_up_at_the_deadline(session: UpstreamSession) -> None:
    with ExitStack() as held:
        server = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # fills the queue of connections, so that the next gets no answer at all
            waiting = held.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(server.getsockname())

        with pytest.raises(UpstreamTimeout):
            whole(
                provider_of(SNAPAPI, session, f"http://127.0.0.1:{server.getsockname()[1]}"),
                Deadline.after(0.3),
            )


def test_the_next_address_of_a_host_is_tried_when_one_refuses(
    upstream: Upstream, session: UpstreamSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(upstream.url.rpartition(":")[2])
    dead = ("127.0.0.1", int(answers.refusing_url().rpartition(":")[2]))
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (dead, ("127.0.0.1", port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)

    assert whole(provider_of(SNAPAPI, session, f"http://two.example:{port}")) == picture()


def test_nothing_is_sent_when_no_time_is_left(upstream: Upstream, provider: RemoteProvider) -> None:
    with pytest.raises(UpstreamTimeout):
        provider.capture(REQUEST, Deadline.after(0))

    assert upstream.requests == ()


def test_a_certificate_of_an_unknown_authority_is_not_accepted(
    tmp_path: Path, session: UpstreamSession
) -> None:
    with Upstream(tls=make_certificates(tmp_path).server_context()) as upstream:
        with pytest.raises(UpstreamFailed):
            whole(provider_of(SNAPAPI, session, upstream.url))

        assert upstream.requests == ()


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_bytes_are_passed_on_as_they_arrive(
    upstream: Upstream, provider: RemoteProvider, framing: str
) -> None:
    first_is_out = threading.Event()

    def chunks() -> Iterator[bytes]:
        yield b"first"
        assert first_is_out.wait(20)
        yield b"second"

    upstream.behave(
        Answer(chunks=chunks, length=11 if framing == "length" else None, is_unframed=framing == "close")
    )

    body = provider.capture(REQUEST, Deadline.after(20))
    arriving = iter(body)
    assert next(arriving) == b"first"
    first_is_out.set()
    assert b"".join(arriving) == b"second"


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_a_big_body_comes_whole_in_small_pieces_and_with_its_announced_length(
    upstream: Upstream, provider: RemoteProvider, framing: str
) -> None:
    size_bytes = 3 * 2**20 + 17
    upstream.behave(answers.streamed(size_bytes, framing=framing))

    body = provider.capture(REQUEST, Deadline.after(20))
    sizes = [len(chunk) for chunk in body]

    assert body.length == (size_bytes if framing == "length" else None)
    assert sum(sizes) == size_bytes
    assert 0 < min(sizes) <= max(sizes) <= 65536
