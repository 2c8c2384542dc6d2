"""What the OpenAPI document says of the messages that this service sends: its ``webhooks``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import Schema

from blueprints.answer_fields import moment, nested, text
from blueprints.documented_headers import text_header
from blueprints.job_schemas import BatchAnswer, JobAnswer
from blueprints.page_schemas import PageAnswer
from thumbnailer.jobs import JobState
from thumbnailer.jobs.events import BATCH_EVENT, JOB_EVENTS
from thumbnailer.pages.ledger import CHANGED_EVENT

HAPPENED = "When it happened; the same in every attempt."


class CompletedMessage(Schema):
    """A job has ended well."""

    type = text("What happened.", enum=[JOB_EVENTS[JobState.COMPLETED]])
    timestamp = moment(HAPPENED)
    data = nested(JobAnswer, "The job, as `GET /jobs/{job_id}` answers it.")


class FailedMessage(Schema):
    """A job has failed."""

    type = text("What happened.", enum=[JOB_EVENTS[JobState.FAILED]])
    timestamp = moment(HAPPENED)
    data = nested(JobAnswer, "The job, as `GET /jobs/{job_id}` answers it; `error` says why.")


class BatchMessage(Schema):
    """All jobs of a batch have ended."""

    type = text("What happened.", enum=[BATCH_EVENT])
    timestamp = moment(HAPPENED)
    data = nested(BatchAnswer, "The batch, as `GET /batches/{batch_id}` answers it.")


class ChangedMessage(Schema):
    """A kept page looks different."""

    type = text("What happened.", enum=[CHANGED_EVENT])
    timestamp = moment(HAPPENED)
    data = nested(PageAnswer, "The page, as `GET /pages/{page_id}` answers it, the newest version first.")


#: Each message by its event: when it is sent, and what its body is.
MESSAGES: Mapping[str, tuple[str, type[Schema]]] = {
    JOB_EVENTS[JobState.COMPLETED]: ("A job with a `webhook_url` has ended well.", CompletedMessage),
    JOB_EVENTS[JobState.FAILED]: ("A job with a `webhook_url` has failed.", FailedMessage),
    BATCH_EVENT: ("The last job of a batch with a `webhook_url` has ended.", BatchMessage),
    CHANGED_EVENT: ("A kept page with a `webhook_url` looks different.", ChangedMessage),
}

ABOUT = """\
Sent to the `webhook_url` by Standard Webhooks 1.0: verify the signature with a library of that specification
and the operator's `WEBHOOK_SECRET`, over the very bytes of the body, before you believe it. A message may
come more than once, with the same `webhook-id`. Its URLs are paths where the operator has set no
`PUBLIC_BASE_URL`.
"""

HEADERS: Mapping[str, Mapping[str, Any]] = {
    "webhook-id": {
        **text_header("The id of the message, the same in every attempt: take each once."),
        "schema": {"type": "string", "pattern": "^msg_[A-Za-z0-9_-]+$"},
    },
    "webhook-timestamp": {
        **text_header("When this attempt was made, in Unix time: refuse what is more than minutes off."),
        "schema": {"type": "string", "pattern": "^[0-9]+$"},
    },
    "webhook-signature": {
        **text_header(
            "v1, and the HMAC-SHA256 in base64 of webhook-id, webhook-timestamp and body, with full stops in "
            "between. Several, with spaces in between, while the secret is being replaced: one has to fit."
        ),
        "schema": {"type": "string", "pattern": "^v1,[A-Za-z0-9+/]+=*( v1,[A-Za-z0-9+/]+=*)*$"},
    },
}

RESPONSES: Mapping[str, Mapping[str, str]] = {
    "2XX": {
        "description": (
            "It was received. Answer first and work afterwards: the whole answer has to be there within the "
            "operator's `WEBHOOK_TIMEOUT`, 15 seconds by default. What its body says does not matter."
        )
    },
    "410": {"description": "It is not wanted: it is not sent again."},
    "default": {
        "description": "Not received, a redirect too: it is sent again after the pauses of `WEBHOOK_RETRIES`."
    },
}


def described_webhooks() -> dict[str, Any]:
    """OpenAPI's ``webhooks``, with the schemas of the bodies as they are."""
    return {event: {"post": _operation(event, *message)} for event, message in MESSAGES.items()}


def _operation(event: str, when: str, schema: type[Schema]) -> dict[str, Any]:
    return {
        "tags": ["deliveries"],
        "operationId": f"on_{event.replace('.', '_')}",
        "summary": when,
        "description": ABOUT,
        "parameters": [
            {"name": name, "in": "header", "required": True, **told} for name, told in HEADERS.items()
        ],
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {status: dict(told) for status, told in RESPONSES.items()},
    }
