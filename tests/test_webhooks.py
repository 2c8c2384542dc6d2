"""Messages arrive as the Standard Webhooks specification has them, and nowhere they should not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from tests.support.receivers import running_receiver, url_of
from tests.support.resolvers import PUBLIC, FixedAnswers, guard_with
from tests.support.small_web import Reply, Seen
from thumbnailer import webhooks
from thumbnailer.egress import GuardedSession
from thumbnailer.guard import Guard
from thumbnailer.webhooks import Attempt, Message, SigningSecrets, Verdict, WebhookSender, parse_secret

OLD = "whsec_" + base64.b64encode(b"o" * 24).decode()
NEW = "whsec_" + base64.b64encode(b"n" * 32).decode()
BODY = '{"type":"screenshot.completed","data":{"url":"https://example.com/ä"}}'


def sender(*secrets: str, guard: Guard | None = None, timeout_seconds: float = 10) -> WebhookSender:
    session = GuardedSession(guard or guard_with("127.0.0.0/8"))
    return WebhookSender(session, SigningSecrets(secrets or (NEW,)), timeout_seconds=timeout_seconds)


def test_a_message_is_verified_by_the_reference_library() -> None:
    with running_receiver() as receiver:
        attempt = sender().send(Message("msg_1", url_of(receiver), BODY))
    assert attempt == Attempt(Verdict.DELIVERED, 204)
    (seen,) = receiver.seen
    assert seen.method == "POST"
    assert seen.headers["content-type"] == "application/json"
    assert Webhook(NEW).verify(seen.body, dict(seen.headers)) == json.loads(BODY)
    with pytest.raises(WebhookVerificationError):
        Webhook(NEW).verify(seen.body + b" ", dict(seen.headers))


def test_the_signature_is_that_of_the_specification() -> None:
    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    headers = SigningSecrets([NEW]).headers(Message("msg_2", "https://example.com/", BODY), now)
    signed = f"msg_2.{int(now.timestamp())}.{BODY}".encode()
    digest = hmac.new(b"n" * 32, signed, hashlib.sha256).digest()
    assert headers == {
        "webhook-id": "msg_2",
        "webhook-timestamp": "1767323045",
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


@pytest.mark.parametrize("secret", [OLD, NEW], ids=["old", "new"])
def test_while_secrets_change_either_verifies(secret: str) -> None:
    with running_receiver() as receiver:
        sender(NEW, OLD).send(Message("msg_3", url_of(receiver), BODY))
    (seen,) = receiver.seen
    assert Webhook(secret).verify(seen.body, dict(seen.headers)) == json.loads(BODY)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.DELIVERED),
        (299, Verdict.DELIVERED),
        (300, Verdict.FAILED),
        (301, Verdict.FAILED),
        (307, Verdict.FAILED),
        (400, Verdict.FAILED),
        (404, Verdict.FAILED),
        (410, Verdict.GONE),
        (429, Verdict.FAILED),
        (500, Verdict.FAILED),
    ],
)
def test_the_status_decides(status: int, verdict: Verdict) -> None:
    with running_receiver() as elsewhere, running_receiver() as receiver:
        headers = (("Location", url_of(elsewhere)),) if 300 <= status < 400 else ()
        receiver.reply = lambda _seen: Reply(status, headers, b"")
        attempt = sender().send(Message("msg_4", url_of(receiver), BODY))
        assert elsewhere.seen == []
    assert attempt == Attempt(verdict, status)


def test_a_receiver_on_a_private_address_is_never_reached() -> None:
    with running_receiver() as receiver:
        attempt = sender(guard=Guard()).send(Message("msg_5", url_of(receiver), BODY))
        assert receiver.seen == []
    assert attempt.verdict is Verdict.FAILED
    assert attempt.trouble == "The receiver is not a public web address."


def test_a_receiver_whose_name_leads_to_a_private_address_by_now_is_never_reached() -> None:
    with running_receiver() as receiver:
        answers = FixedAnswers(PUBLIC)
        guard = Guard(resolver=answers)
        url = url_of(receiver).replace("127.0.0.1", "receiver.example")
        guard.check(guard.parse(url.replace(f":{receiver.server_address[1]}", "")))
        answers.answers = ("127.0.0.1",)
        attempt = sender(guard=guard).send(Message("msg_7", "http://receiver.example/hook", BODY))
        assert receiver.seen == []
    assert answers.asked[-1] == "receiver.example"
    assert attempt.verdict is Verdict.FAILED
    assert attempt.trouble == "The receiver is not a public web address."


def test_a_receiver_that_does_not_answer_is_given_up() -> None:
    is_over = threading.Event()

    def hang(_seen: Seen) -> Reply:
        is_over.wait(20)
        return Reply(204, body=b"")

    with running_receiver(hang) as receiver:
        attempt = sender(timeout_seconds=0.5).send(Message("msg_6", url_of(receiver), BODY))
        is_over.set()
    assert attempt == Attempt(Verdict.FAILED, trouble="The receiver did not answer in time.")


@pytest.mark.parametrize(
    ("answer", "trouble"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", "could not be reached"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n123456789", "longer than 8 bytes"),
    ],
    ids=["cut off", "too long"],
)
def test_a_receiver_has_to_bring_its_answer_to_an_end(
    answer: bytes, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhooks, "MAX_ANSWER_BYTES", 8)
    with running_receiver(lambda _seen: Reply(raw=answer)) as receiver:
        attempt = sender().send(Message("msg_8", url_of(receiver), BODY))
    assert (attempt.verdict, attempt.status) == (Verdict.FAILED, None)
    assert trouble in str(attempt.trouble)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("whsec_", id="empty"),
        pytest.param(NEW.removeprefix("whsec_"), id="without prefix"),
        pytest.param("whsec_!!!!", id="no base64"),
        pytest.param(f"{NEW[:20]}!!!!{NEW[20:]}", id="something else within base64"),
        pytest.param("whsec_" + base64.b64encode(b"s" * 23).decode(), id="too short"),
    ],
)
def test_what_is_no_secret_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="must be whsec_") as raised:
        parse_secret(text)
    assert not text.removeprefix("whsec_") or text.removeprefix("whsec_") not in str(raised.value)


def test_without_a_secret_nothing_is_signed() -> None:
    with pytest.raises(ValueError, match="at least one"):
        SigningSecrets([])
