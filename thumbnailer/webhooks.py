"""Telling other programs what happened, by the Standard Webhooks specification 1.0.

A message has an id that stays the same however often it is sent, the moment of this attempt, and a
signature over both and the body. Receivers verify it with any library of that specification.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from standardwebhooks.webhooks import Webhook

from thumbnailer.egress import GuardedSession
from thumbnailer.errors import ThumbnailerError
from thumbnailer.model import Deadline
from thumbnailer.target import said_of

SECRET_PREFIX = "whsec_"  # noqa: S105  the specification's word for it, no secret

#: The specification asks for 24 to 64 bytes of randomness.
SECRET_BYTES = range(24, 65)

#: What a receiver says is not of interest, but its answer has to end.
MAX_ANSWER_BYTES = 1_048_576

#: A receiver that answers so wants no more messages.
GONE = 410


@dataclass(frozen=True, slots=True)
class Message:
    """One event for one receiver: ``body`` is JSON text, ``id`` is the same in every attempt."""

    id: str
    url: str
    body: str


class Verdict(StrEnum):
    """What became of an attempt."""

    DELIVERED = "delivered"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one attempt ended: the receiver's ``status``, or what kept it from answering."""

    verdict: Verdict
    status: int | None = None
    trouble: str | None = None


class SigningSecrets:
    """The secrets that messages are signed with, in ``whsec_`` form.

    Each signs, so that receivers can change from an old one to a new one at their own time.

    Raises:
        ValueError: a text is no secret; it is not repeated.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ValueError("at least one secret is needed")
        self._signers = [Webhook(_decoded(secret)) for secret in secrets]

    def headers(self, message: Message, now: datetime) -> dict[str, str]:
        """The headers of an attempt at ``now``, an aware time."""
        signatures = [
            signer.sign(msg_id=message.id, timestamp=now, data=message.body) for signer in self._signers
        ]
        return {
            "webhook-id": message.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }


def parse_secret(text: str) -> str:
    """``text`` itself where it is a secret of the specification. Raises ValueError."""
    _decoded(text)
    return text


def _decoded(secret: str) -> bytes:
    try:
        decoded = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if not secret.startswith(SECRET_PREFIX) or len(decoded) not in SECRET_BYTES:
        raise ValueError(f"must be {SECRET_PREFIX} and base64 of 24 to 64 bytes")
    return decoded


class Sender(Protocol):
    """Makes attempts to bring messages to their receivers; raises nothing."""

    def send(self, message: Message) -> Attempt: ...


class UnsignedSender:
    """Stands in where there is no secret any more: what cannot be signed is not sent."""

    def send(self, message: Message) -> Attempt:  # noqa: ARG002  # a sender's signature
        return Attempt(Verdict.FAILED, trouble="The service has no secret to sign messages with.")


class WebhookSender:
    """Posts messages to receivers on the public internet; safe to use from many threads."""

    def __init__(self, session: GuardedSession, secrets: SigningSecrets, *, timeout_seconds: float) -> None:
        self._session = session
        self._secrets = secrets
        self._timeout_seconds = timeout_seconds

    def send(self, message: Message) -> Attempt:
        """Make one attempt. A redirect is a failure: a receiver's address is not for others to change."""
        headers = {
            **self._secrets.headers(message, datetime.now(UTC)),
            "Content-Type": "application/json",
        }
        try:
            answer = self._session.fetch(
                "POST",
                message.url,
                deadline=Deadline.after(self._timeout_seconds),
                max_bytes=MAX_ANSWER_BYTES,
                headers=headers,
                body=message.body.encode(),
                max_redirects=0,
            )
        except ThumbnailerError as error:
            return Attempt(Verdict.FAILED, trouble=said_of("The receiver", error))
        if 200 <= answer.status < 300:
            return Attempt(Verdict.DELIVERED, answer.status)
        return Attempt(Verdict.GONE if answer.status == GONE else Verdict.FAILED, answer.status)
