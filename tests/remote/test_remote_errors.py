"""What the HTTP providers make of a vendor's errors, messages and pauses, and of keys that are none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from tests.support import answers
from tests.support.answers import Answer, json_error, snapapi_error, snapapi_flat_error
from tests.support.remote import KEY, NOW, REQUEST, provider_of
from tests.support.upstream import Upstream
from thumbnailer.errors import (
    CaptureRefused,
    TargetTooSlow,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamError,
    UpstreamFailed,
    UpstreamQuota,
)
from thumbnailer.model import Deadline
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.hermesforge import HERMESFORGE
from thumbnailer.providers.remote import RemoteProvider, parse_retry_after
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.providers.snapsharp import SNAPSHARP
from thumbnailer.providers.vendor import Vendor

IN_30_SECONDS = "Sun, 09 Sep 2001 01:47:10 GMT"


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
    "snapsharp-408": (
        SNAPSHARP,
        json_error(408, {"message": "page too slow"}),
        (TargetTooSlow, "The provider snapsharp answered with status 408.", NO_PAUSE),
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
    "snapapi-429-reset-far-away": (
        SNAPAPI,
        snapapi_flat_error(429, "Too Many Requests", "Slow", ("X-RateLimit-Reset", str(NOW + 10**8))),
        (UpstreamBusy, "The provider snapapi answered with status 429.", 30 * 86_400),
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
    "long-error": (
        SNAPAPI,
        json_error(400, {"padding": "x" * 70_000, "message": "not read as far as this"}),
        (CaptureRefused, "The provider snapapi refuses the target or an option.", NO_PAUSE),
    ),
    "deep-error": (
        SNAPAPI,
        answers.content(b"[" * 60_000, "application/json", status=400),
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


@pytest.mark.parametrize("status", [401, 422])
def test_a_message_that_may_quote_a_callers_program_is_neither_shown_nor_logged(
    upstream: Upstream, provider: RemoteProvider, status: int
) -> None:
    upstream.behave(snapapi_error(status, "X", "unexpected token in 'let secret = 1'"))
    request = replace(REQUEST, js="let secret = 1")

    with capture_logs() as lines, pytest.raises(ThumbnailerError) as caught:
        provider.capture(request, Deadline.after(20))

    assert "secret" not in str(caught.value) + repr(lines)


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
