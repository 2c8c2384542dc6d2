"""Pictures that are taken behind the answer: one job at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from flask import Response

from blueprints.access import RENDER, needs
from blueprints.answers import cached_answer, document, stored_answer
from blueprints.callers import caller, own
from blueprints.documented_headers import (
    BOUND_HEADERS,
    PREFERENCE_HEADERS,
    REDIRECT_HEADERS,
    UNFINISHED_HEADERS,
    made_headers,
)
from blueprints.job_answers import describe_job, job_path
from blueprints.job_schemas import MAX_WAIT_SECONDS, JobAnswer, JobBody
from blueprints.openapi import (
    CONDITION_PROBLEMS,
    JOB_PROBLEMS,
    PICTURE_TYPES,
    READ_PROBLEMS,
    STORED_PROBLEMS,
    answers_pictures_to_get,
    answers_problems,
    takes_idempotency_key,
    takes_prefer,
)
from blueprints.parsing import takes_no_parameters
from blueprints.pictures import entitle, judge, screenshot_door
from blueprints.preferences import preferred_wait
from blueprints.request_log import note
from blueprints.services import public_url, services
from blueprints.strict_blueprint import StrictBlueprint
from blueprints.waiting import allow_more_time, line_up
from thumbnailer.errors import (
    DatabaseUnavailable,
    ImageNotReady,
    InvalidParameters,
    InvalidTarget,
    ObjectNotFound,
    Overloaded,
    TargetForbidden,
)
from thumbnailer.jobs import Job, JobOrder, JobState
from thumbnailer.keys import Scope
from thumbnailer.target import said_of

POLL_AFTER_SECONDS = 2

ACCEPTED_HEADERS = {**made_headers("the job"), **PREFERENCE_HEADERS}

blueprint = StrictBlueprint("jobs", __name__, description="Pictures that are taken in the background.")


@blueprint.post("/screenshots")
@needs(RENDER)
@takes_idempotency_key
@takes_prefer
@blueprint.arguments(
    JobBody(), location="json", example={"url": "https://example.com/", "thumb_width": 400, "wait": 10}
)
@blueprint.response(
    202, JobAnswer, description="The job is accepted.", headers={**ACCEPTED_HEADERS, **UNFINISHED_HEADERS}
)
@blueprint.alt_response(
    200,
    schema=JobAnswer,
    description="The job has ended within the time to wait, be it well or not.",
    headers=ACCEPTED_HEADERS,
    success=True,
)
@answers_problems(blueprint, JOB_PROBLEMS)
def accept_job(given: dict[str, Any]) -> Response:
    """Take a picture in the background.

    Ask `status_url` until the job has ended, give a `webhook_url`, or wait for the end.
    """
    return services().idempotency.once(lambda: _accepted(given), is_order=True)


def _accepted(given: dict[str, Any]) -> Response:
    wait, preferred = given.pop("wait", None), preferred_wait(MAX_WAIT_SECONDS)
    services().allowance.answer()
    order = order_of(given)
    services().allowance.jobs()
    job = services().jobs.accept(order, caller().owner, services().idempotency.order_key())
    note(job_id=job.id)
    job = _waited_for(job, preferred or 0 if wait is None else wait)
    response = answer_job(job, 200 if job.state.is_final else 202)
    response.headers["Location"] = public_url(job_path(job.id))
    if wait is None and preferred is not None:
        response.headers["Preference-Applied"] = f"wait={preferred}"
    return response


def _waited_for(accepted: Job, seconds: int) -> Job:
    """The job once it has ended, as far as it can be waited for: it is accepted, whatever comes now."""
    if seconds > 0:
        with contextlib.suppress(Overloaded, DatabaseUnavailable):
            line_up()
            allow_more_time(seconds)
            return services().jobs.wait(accepted, seconds)
    return accepted


def order_of(given: Mapping[str, Any]) -> JobOrder:
    """What a caller wants, judged as far as its looks go.

    Raises:
        InvalidParameters, OptionUnsupported, TargetForbidden, ScopeMissing: it will never be done.
    """
    if given.get("persist", False):
        caller().demand(Scope.PERSIST, "persist")
    options = {name: value for name, value in given.items() if name not in ("persist", "webhook_url")}
    asked = entitle(judge(options, screenshot_door(), accept=None))
    services().thumbnails.pipeline.judge(asked.request.capture)
    return JobOrder(
        request=asked.request,
        url=given["url"],
        ttl_seconds=asked.max_age_seconds,
        persist=given.get("persist", False),
        webhook_url=receiver_of(given),
    )


def receiver_of(given: Mapping[str, Any]) -> str | None:
    """The webhook's address. Raises InvalidParameters, TargetForbidden."""
    url = given.get("webhook_url")
    if url is None:
        return None
    if not services().signs_webhooks:
        message = "This service sends no webhooks: the operator has set no WEBHOOK_SECRET."
        raise InvalidParameters({"webhook_url": [message]})
    try:
        return services().guard.parse(url).url
    except InvalidTarget as error:
        raise InvalidParameters({"webhook_url": [said_of("The webhook_url", error)]}) from None
    except TargetForbidden as error:
        forbidden = TargetForbidden(said_of("The webhook_url", error))
        forbidden.parameter = "webhook_url"
        raise forbidden from None


@blueprint.get("/jobs/<job_id>")
@needs(RENDER)
@blueprint.response(200, JobAnswer, description="The job.", headers=UNFINISHED_HEADERS)
@answers_problems(blueprint, READ_PROBLEMS)
@takes_no_parameters
def job(job_id: str) -> Response:
    """The state of a job."""
    services().allowance.answer()
    return answer_job(own(services().jobs.find(job_id)))


@blueprint.delete("/jobs/<job_id>")
@needs(RENDER)
@blueprint.response(
    200, JobAnswer, description="The job: cancelled, unless it had begun.", headers=UNFINISHED_HEADERS
)
@answers_problems(blueprint, READ_PROBLEMS)
@takes_no_parameters
def cancel_job(job_id: str) -> Response:
    """Cancel a job that has not begun."""
    services().allowance.answer()
    own(services().jobs.find(job_id))
    return answer_job(own(services().jobs.cancel(job_id)))


@blueprint.get("/jobs/<job_id>/image")
@needs(RENDER)
@answers_pictures_to_get(blueprint, PICTURE_TYPES, BOUND_HEADERS)
@blueprint.alt_response(
    302,
    description="The stored image, where that is all there is.",
    headers=REDIRECT_HEADERS,
    success=True,
)
@answers_problems(blueprint, (*READ_PROBLEMS, *CONDITION_PROBLEMS, *STORED_PROBLEMS))
@takes_no_parameters
def job_image(job_id: str) -> Response:
    """The picture of a job.

    `image-not-ready` until the job has ended. `not-found` where it has failed or was cancelled, and once
    the cache has dropped a picture that was not stored.
    """
    services().allowance.answer()
    found = own(services().jobs.find(job_id))
    if not found.state.is_final:
        raise ImageNotReady("The job has not ended. Ask again later.", retry_after_seconds=POLL_AFTER_SECONDS)
    if found.state is not JobState.COMPLETED or found.result is None:
        raise ObjectNotFound(
            f"This job has no picture: it is {found.state.value}, and its status_url says why."
        )
    request = found.order.request
    capture = services().thumbnails.look_up(request) if request else None
    is_newer = capture is not None and capture.record.sha256 != found.result.sha256
    if capture is not None and not (is_newer and found.result.object_key):
        return cached_answer(capture, "private, no-cache")
    if found.result.object_key is None or found.result.stored_url is None:
        raise ObjectNotFound("The cache has dropped the picture of this job, which was not stored (persist).")
    return stored_answer(found.result.object_key, found.result.stored_url)


def answer_job(found: Job, status: int = 200) -> Response:
    """A job as a document."""
    response = document(describe_job(found, public_url("")), status)
    if not found.state.is_final:
        response.headers["Retry-After"] = str(POLL_AFTER_SECONDS)
    return response
