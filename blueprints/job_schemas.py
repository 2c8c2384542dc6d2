"""What callers may say of jobs and batches, and what they are told."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from blueprints.answer_fields import moment, nested, nested_list, number, pixels, text, whole_number
from blueprints.cursors import next_cursor
from blueprints.fields import Flag, ShortList, Text, WholeMatch, WholeNumber, encodable
from blueprints.schemas import ALL_FORMATS, BodyOptions, described
from thumbnailer.jobs import JobState
from thumbnailer.jobs.deliveries import DeliveryState
from thumbnailer.jobs.events import BATCH_EVENT, JOB_EVENTS
from thumbnailer.pages.ledger import CHANGED_EVENT

MAX_WAIT_SECONDS = 60
MAX_SYNCHRONOUS_URLS = 10
MAX_URLS = 100

#: What no database keeps; all else that is no page's URL is told page by page.
NO_NULLS = WholeMatch(r"^[^\x00]*$", error="Must not contain control characters.")

#: What there are messages about.
EVENTS = [*JOB_EVENTS.values(), BATCH_EVENT, CHANGED_EVENT]

STATES = [state.value for state in JobState]


def job_format(auto: str) -> fields.String:
    return fields.String(
        validate=validate.OneOf(ALL_FORMATS),
        metadata=described(f"How the picture is encoded; auto: {auto}.", default="png"),
    )


def receiver(description: str) -> Text:
    return Text(max_length=2048, metadata=described(description, format="uri"))


class JobOptions(BodyOptions):
    """What jobs have besides the options of a capture."""

    format = job_format("JPEG, for nobody's Accept is known when it is taken")
    persist = Flag(metadata=described("Store the picture for good, as /persist does.", default=False))
    webhook_url = receiver("The address that gets a Standard Webhooks message at the end.")


class JobBody(JobOptions):
    """``POST /screenshots``."""

    wait = WholeNumber(
        validate=validate.Range(0, MAX_WAIT_SECONDS),
        metadata=described("Seconds to wait for the end; the same as Prefer: wait=N.", default=0),
    )


class BatchBody(JobOptions):
    """``POST /screenshots/batch``."""

    class Meta(JobOptions.Meta):
        exclude = ("url",)

    format = job_format("by Accept, with async JPEG")
    persist = Flag(
        metadata=described("Store the pictures for good, as /persist does; needs async.", default=False)
    )
    webhook_url = receiver("The address that gets a Standard Webhooks message at the end; needs async.")
    urls = ShortList(
        fields.String(validate=[NO_NULLS, encodable], metadata={"format": "uri"}),
        most=MAX_URLS,
        required=True,
        metadata=described(f"The pages: up to {MAX_SYNCHRONOUS_URLS}, with async up to {MAX_URLS}."),
    )
    is_async = Flag(
        data_key="async", metadata=described("Take the pictures in the background.", default=False)
    )

    @validates_schema(skip_on_field_errors=True)
    def refuse_what_needs_async(self, given: dict[str, Any], **_more: object) -> None:
        if given.get("is_async"):
            return
        if len(given["urls"]) > MAX_SYNCHRONOUS_URLS:
            raise ValidationError({"urls": [f"More than {MAX_SYNCHRONOUS_URLS} need async."]})
        faults = {name: ["Needs async."] for name in ("webhook_url", "persist") if given.get(name)}
        if faults:
            raise ValidationError(faults)


class PictureFacts(Schema):
    """What is known of a job's picture."""

    content_type = text("The media type of the bytes.")
    size_bytes = whole_number("The number of bytes.")
    sha256 = text("Hexadecimal SHA-256 of the bytes.")
    width = pixels()
    height = pixels()
    captured_at = moment("When it was taken.")
    cache = text("hit, miss, stale or collapsed.")


class StoredFacts(Schema):
    """Where a job's picture is stored."""

    key = text("The object's key in the storage.")
    url = text("Where the stored image is.", format="uri-reference")


class JobAnswer(Schema):
    """A job."""

    job_id = text("The job's id.")
    status = text("Its state.", enum=STATES)
    url = text("The page, as it was written.")
    status_url = text("This document.", format="uri-reference")
    image_url = text("The picture, once there is one.", allow_none=True, format="uri-reference")
    batch_id = text("The batch it belongs to.", allow_none=True)
    attempts = whole_number("How often it was begun.")
    created_at = moment("When it was accepted.")
    started_at = moment("When it was first begun.", allow_none=True)
    completed_at = moment("When it ended.", allow_none=True)
    error = text("Why it failed: a slug of a problem document.", allow_none=True)
    error_detail = text("What went wrong, in words.", allow_none=True)
    image = nested(PictureFacts, "What its picture is, once there is one.", allow_none=True)
    stored = nested(StoredFacts, "Where its picture is stored, with persist.", allow_none=True)


class BatchAnswer(Schema):
    """A batch."""

    batch_id = text("The batch's id.")
    status = text(
        "pending until the first job has ended, completed once all have.",
        enum=["pending", "processing", "completed"],
    )
    status_url = text("This document.", format="uri-reference")
    download_url = text("A ZIP of the pictures so far.", format="uri-reference")
    total = whole_number("How many jobs it has.")
    ended = whole_number("How many of them have ended.")
    counts = fields.Dict(
        keys=fields.String(), values=fields.Integer(), required=True, metadata=described("Jobs by status.")
    )
    created_at = moment("When it was accepted.")
    completed_at = moment("When the last job ended.", allow_none=True)
    jobs = nested_list(JobAnswer, "Its jobs, in the order asked.")


class BatchResult(Schema):
    """One page of a synchronous batch: ``data`` and ``contentType``, or ``error`` and ``detail``."""

    url = text("The page, as it was written.")
    status = text("How it went.", enum=["ok", "error"])
    data = fields.String(metadata=described("The picture in base64, where it went well.", format="byte"))
    contentType = fields.String(metadata=described("The media type of the picture."))  # noqa: N815  the contract's name
    error = fields.String(metadata=described("Why it failed: a slug of a problem document."))
    detail = fields.String(metadata=described("What went wrong, in words."))


class BatchResults(Schema):
    """What a synchronous batch answers."""

    results = nested_list(BatchResult, "What became of each page, in the order asked.")


class DeliveryAttempt(Schema):
    """One attempt to deliver a webhook."""

    at = moment("When.")
    status = whole_number("The status that the receiver answered with.", allow_none=True)
    trouble = text("What kept it from answering, in words.", allow_none=True)
    seconds = number("How long it took.")


class DeliveryAnswer(Schema):
    """A webhook message and how it fared."""

    id = text("The webhook-id, the same in every attempt.")
    event = text("What happened.", enum=EVENTS)
    subject = text("The id of the job, batch or page.")
    url = text("The receiver.")
    status = text("Its state.", enum=[state.value for state in DeliveryState])
    created_at = moment("When it happened.")
    next_attempt_at = moment("When it is tried next.", allow_none=True)
    ended_at = moment("When it was delivered or given up.", allow_none=True)
    attempts = nested_list(DeliveryAttempt, "What was tried so far, the last fifty times.")


class Deliveries(Schema):
    """Webhook messages, the newest first."""

    deliveries = nested_list(DeliveryAnswer, "The messages.")
    next_cursor = next_cursor()
