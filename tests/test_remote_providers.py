"""The HTTP providers against an upstream that misbehaves: errors, deadlines, connections, secrets."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support import answers
from tests.support.answers import Answer, json_error, snapapi_error, snapapi_flat_error
from tests.support.certificates import make_certificates
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.upstream import Upstream
from thumbnailer.errors import (
    CaptureRefused,
    NotAnImage,
    TargetTooSlow,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamError,
    UpstreamFailed,
    UpstreamQuota,
    UpstreamTimeout,
)
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers import UpstreamBody
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.hermesforge import HERMESFORGE
from thumbnailer.providers.remote import RemoteProvider, parse_retry_after
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.providers.snapsharp import SNAPSHARP
from thumbnailer.providers.vendor import Vendor

KEY = "sk_live_dont_tell"
NOW = 1_000_000_000
IN_30_SECONDS = "Sun, 09 Sep 2001 01:47:10 GMT"
REQUEST = CaptureRequest(url="https://example.com/")


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture
def session() -> Iterator[UpstreamSession]:
    with UpstreamSession() as pooled:
        yield pooled


@pytest.fixture
def provider(upstream: Upstream, session: UpstreamSession) -> RemoteProvider:
    return provider_of(SNAPAPI, session, upstream.url)


def provider_of(vendor: Vendor, session: UpstreamSession, url: str) -> RemoteProvider:
    return RemoteProvider(vendor, session, key=KEY, base_url=url, clock=lambda: NOW)


def whole(provider: RemoteProvider, deadline: Deadline | None = None) -> bytes:
    with closing(provider.capture(REQUEST, deadline or Deadline.after(20))) as body:
        return b"".join(body)


Expected = tuple[type[ThumbnailerError], str, float | None]
NO_PAUSE = None

ERRORS: dict[str, tuple[Vendor, Answer, Expected]] = {
    "hermesforge-400-message": (
        HERMESFORGE,
        json_error(400, {"message": "bad url"}),
        (CaptureRefused, "bad url", NO_PAUSE),
    ),
    "hermesforge-400-error": (
        HERMESFORGE,
        json_error(400, {"error": "bad width"}),
        (CaptureRefused, "bad width", NO_PAUSE),
    ),
    "hermesforge-402": (
        HERMESFORGE,
        json_error(402, {"error": "pay"}, ("Retry-After", "3600")),
        (UpstreamQuota, "The quota at the provider hermesforge is used up.", 3600),
    ),
    "hermesforge-429": (
        HERMESFORGE,
        json_error(429, {"error": "daily quota"}),
        (UpstreamBusy, "The provider hermesforge answered with status 429.", NO_PAUSE),
    ),
    "hermesforge-html-error": (
        HERMESFORGE,
        answers.content(b"<h1>oops</h1>", "text/html", status=422),
        (CaptureRefused, "The provider hermesforge refuses the target or an option.", NO_PAUSE),
    ),
    "snapsharp-validation": (
        SNAPSHARP,
        json_error(400, {"error": "validation_error", "message": "width: too small"}),
        (CaptureRefused, "width: too small", NO_PAUSE),
    ),
    "snapsharp-of-a-twin": (
        SNAPSHARP,
        json_error(422, {"error": "target_unreachable", "message": "No such host"}),
        (TargetUnreachable, "The target could not be reached.", NO_PAUSE),
    ),
    "hermesforge-of-a-twin": (
        HERMESFORGE,
        json_error(422, {"error": "target-unreachable", "message": "No such host"}),
        (TargetUnreachable, "The target could not be reached.", NO_PAUSE),
    ),
    "snapsharp-401": (
        SNAPSHARP,
        json_error(401, {"error": "unauthorized"}),
        (UpstreamAuth, "The provider snapsharp refuses this service.", NO_PAUSE),
    ),
    "snapsharp-403": (
        SNAPSHARP,
        json_error(403, {"error": "plan_required"}),
        (UpstreamAuth, "The provider snapsharp refuses this service.", NO_PAUSE),
    ),
    "snapsharp-429": (
        SNAPSHARP,
        json_error(429, {"error": "rate_limited"}, ("Retry-After", "7")),
        (UpstreamBusy, "The provider snapsharp answered with status 429.", 7),
    ),
    "snapsharp-429-date": (
        SNAPSHARP,
        json_error(429, {"error": "rate_limited"}, ("Retry-After", IN_30_SECONDS)),
        (UpstreamBusy, "The provider snapsharp answered with status 429.", 30),
    ),
    "snapsharp-503": (
        SNAPSHARP,
        json_error(503, {"error": "queue_unavailable"}, ("Retry-After", "2")),
        (UpstreamFailed, "The provider snapsharp answered with status 503.", 2),
    ),
    "snapsharp-504": (
        SNAPSHARP,
        json_error(504, {"message": "page too slow"}),
        (TargetTooSlow, "The provider snapsharp answered with status 504.", NO_PAUSE),
    ),
    "snapapi-400-nested": (
        SNAPAPI,
        snapapi_error(400, "INVALID_URL", "No such URL"),
        (CaptureRefused, "No such URL", NO_PAUSE),
    ),
    "snapapi-400-flat": (
        SNAPAPI,
        snapapi_flat_error(400, "Bad Request", "No such format"),
        (CaptureRefused, "No such format", NO_PAUSE),
    ),
    "snapapi-400-code-only": (
        SNAPAPI,
        json_error(400, {"error": {"code": "INVALID_URL"}}),
        (CaptureRefused, "INVALID_URL", NO_PAUSE),
    ),
    "snapapi-401": (
        SNAPAPI,
        snapapi_error(401, "INVALID_API_KEY", f"Unknown key {KEY}"),
        (UpstreamAuth, "The provider snapapi refuses this service.", NO_PAUSE),
    ),
    "snapapi-402-reset": (
        SNAPAPI,
        snapapi_error(402, "QUOTA_EXCEEDED", "Over", ("X-Quota-Reset", str(NOW + 500))),
        (UpstreamQuota, "The quota at the provider snapapi is used up.", 500),
    ),
    "snapapi-quota-by-code": (
        SNAPAPI,
        snapapi_error(403, "QUOTA_EXCEEDED", "Over"),
        (UpstreamQuota, "The quota at the provider snapapi is used up.", NO_PAUSE),
    ),
    "snapapi-404": (
        SNAPAPI,
        snapapi_flat_error(404, "Not Found", "gone"),
        (TargetUnreachable, "The target could not be reached.", NO_PAUSE),
    ),
    "snapapi-410": (
        SNAPAPI,
        snapapi_flat_error(410, "Gone", "gone"),
        (TargetUnreachable, "The target could not be reached.", NO_PAUSE),
    ),
    "snapapi-422": (
        SNAPAPI,
        snapapi_error(422, "CONTENT_CHECK_FAILED", "Blank page"),
        (CaptureRefused, "Blank page", NO_PAUSE),
    ),
    "snapapi-429-details": (
        SNAPAPI,
        snapapi_error(429, "RATE_LIMITED", "Slow", details={"retryAfter": 12.5}),
        (UpstreamBusy, "The provider snapapi answered with status 429.", 12.5),
    ),
    "snapapi-429-header-first": (
        SNAPAPI,
        snapapi_error(429, "RATE_LIMITED", "Slow", ("Retry-After", "3"), details={"retryAfter": 60}),
        (UpstreamBusy, "The provider snapapi answered with status 429.", 3),
    ),
    "snapapi-429-reset": (
        SNAPAPI,
        snapapi_flat_error(429, "Too Many Requests", "Slow", ("X-RateLimit-Reset", str(NOW + 9))),
        (UpstreamBusy, "The provider snapapi answered with status 429.", 9),
    ),
    "snapapi-429-reset-past": (
        SNAPAPI,
        snapapi_flat_error(429, "Too Many Requests", "Slow", ("X-RateLimit-Reset", str(NOW - 9))),
        (UpstreamBusy, "The provider snapapi answered with status 429.", NO_PAUSE),
    ),
    "snapapi-500": (
        SNAPAPI,
        snapapi_error(500, "SCREENSHOT_FAILED", "Crash at 10.0.0.7"),
        (UpstreamFailed, "The provider snapapi answered with status 500.", NO_PAUSE),
    ),
    "snapapi-504": (
        SNAPAPI,
        snapapi_error(504, "TIMEOUT", "Slow page"),
        (TargetTooSlow, "The provider snapapi answered with status 504.", NO_PAUSE),
    ),
    "wrong-method": (
        SNAPAPI,
        json_error(405, {"message": "Use GET"}),
        (UpstreamFailed, "The provider snapapi answered with status 405.", NO_PAUSE),
    ),
    "no-content": (
        SNAPAPI,
        Answer(status=204, length=0),
        (UpstreamFailed, "The provider snapapi answered with status 204.", NO_PAUSE),
    ),
    "list-for-an-object": (
        SNAPAPI,
        json_error(400, ["x"]),
        (CaptureRefused, "The provider snapapi refuses the target or an option.", NO_PAUSE),
    ),
    "odd-types": (
        SNAPAPI,
        json_error(400, {"error": {"code": 7, "message": {"a": 1}, "details": "x"}}),
        (CaptureRefused, "The provider snapapi refuses the target or an option.", NO_PAUSE),
    ),
    "endless-error": (
        SNAPAPI,
        answers.endless("application/json", status=400),
        (CaptureRefused, "The provider snapapi refuses the target or an option.", NO_PAUSE),
    ),
    "endless-redirect": (
        SNAPAPI,
        answers.redirect("http://127.0.0.1:1/latest/meta-data"),
        (UpstreamFailed, "The provider snapapi answered with status 302.", NO_PAUSE),
    ),
}


@pytest.mark.parametrize(("vendor", "answer", "expected"), ERRORS.values(), ids=ERRORS)
def test_each_error_of_a_vendor_becomes_the_one_of_ours_that_it_means(
    upstream: Upstream, session: UpstreamSession, vendor: Vendor, answer: Answer, expected: Expected
) -> None:
    upstream.behave(answer)

    with pytest.raises(ThumbnailerError) as caught:
        provider_of(vendor, session, upstream.url).capture(REQUEST, Deadline.after(20))

    error = caught.value
    assert (type(error), str(error), error.retry_after_seconds) == expected
    assert len(upstream.requests) == 1
    if isinstance(error, UpstreamError):
        assert error.provider == vendor.name


def test_an_error_whose_body_stalls_is_still_told_by_its_status(
    upstream: Upstream, provider: RemoteProvider
) -> None:
    upstream.behave(Answer(status=400, length=50, chunks=lambda: iter([b'{"message": "b']), body_pause=60))

    with pytest.raises(CaptureRefused, match="refuses the target or an option"):
        provider.capture(REQUEST, Deadline.after(2))


MESSAGES = {
    "plain": ("no such page", "no such page"),
    "lines-and-controls": ("a\r\nSet-Cookie: b\x00\x1b[31m\u202ec", "a Set-Cookie: b [31m c"),
    "our-key": (f"the key {KEY} is fine", "the key [key] is fine"),
    "our-key-across-the-limit": ("x" * 195 + KEY, "x" * 195 + "[key]"),
    "long": ("y" * 5000, "y" * 199 + "…"),
    "blank": (" \n ", "The provider snapapi refuses the target or an option."),
}


@pytest.mark.parametrize(("message", "shown"), MESSAGES.values(), ids=MESSAGES)
def test_a_vendors_message_is_made_fit_for_callers(
    upstream: Upstream, provider: RemoteProvider, message: str, shown: str
) -> None:
    upstream.behave(snapapi_error(422, "X", message))

    with pytest.raises(CaptureRefused) as caught:
        provider.capture(REQUEST, Deadline.after(20))

    assert str(caught.value) == shown


def test_a_refused_key_is_logged_for_the_operator_and_shown_to_nobody(
    upstream: Upstream, provider: RemoteProvider
) -> None:
    upstream.behave(snapapi_error(403, "PLAN", f"{KEY} may not do this"))

    with capture_logs() as lines, pytest.raises(UpstreamAuth) as caught:
        provider.capture(REQUEST, Deadline.after(20))

    assert [(line["log_level"], line["status"], line["reason"]) for line in lines] == [
        ("error", 403, "[key] may not do this")
    ]
    assert KEY not in str(caught.value) + repr(lines)


BAD_KEYS = {
    "newline": "abc\n",
    "empty": "",
    "space": " abc",
    "beyond-ascii": "schlüssel",
    "control": "a\x7fb",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_no_header_can_carry_is_refused_at_once_and_not_repeated(
    session: UpstreamSession, key: str
) -> None:
    with pytest.raises(ValueError, match="the key of snapsharp") as caught:
        RemoteProvider(SNAPSHARP, session, key=key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("vendor", [SNAPSHARP, SNAPAPI], ids=["snapsharp", "snapapi"])
def test_a_vendor_that_demands_a_key_is_not_built_without_one(
    session: UpstreamSession, vendor: Vendor
) -> None:
    with pytest.raises(ValueError, match=f"{vendor.name} needs a key"):
        RemoteProvider(vendor, session)


PAUSES: dict[str, tuple[object, float | None]] = {
    "seconds": ("120", 120),
    "padded": (" 5 ", 5),
    "zero": ("0", 0),
    "date": (IN_30_SECONDS, 30),
    "date-past": ("Sun, 09 Sep 2001 01:46:00 GMT", 0),
    "date-without-zone": ("Sun, 09 Sep 2001 01:47:10 -0000", 30),
    "far-away": ("9" * 400, 30 * 86400),
    "number": (4.5, 4.5),
    "huge-number": (10**400, 30 * 86400),
    "negative": ("-5", None),
    "negative-number": (-5, None),
    "not-a-number": (float("nan"), None),
    "truth": (True, None),
    "word": ("soon", None),
    "huge-date": ("Sun, 09 Sep 99999999999999999999 01:47:10 GMT", None),
    "other-digits": ("٣", None),
    "nothing": (None, None),
}


@pytest.mark.parametrize(("value", "seconds"), PAUSES.values(), ids=PAUSES)
def test_a_pause_is_read_from_seconds_or_a_date_and_bounded(value: object, seconds: float | None) -> None:
    assert parse_retry_after(value, NOW) == seconds


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
