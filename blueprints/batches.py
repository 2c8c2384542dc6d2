"""Many pages at once: a few while the caller waits, many behind the answer."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import flask
from flask import Response
from marshmallow import ValidationError
from zipstream import ZIP_STORED, ZipStream

from blueprints.access import RENDER, needs
from blueprints.answers import document
from blueprints.callers import caller, own
from blueprints.documented_headers import UNFINISHED_HEADERS, made_headers, text_header
from blueprints.error_problems import problem_of_error
from blueprints.errors import in_words, log_bug
from blueprints.idempotency import sent_key
from blueprints.job_answers import batch_path, describe_batch
from blueprints.job_schemas import BatchAnswer, BatchBody, BatchResults
from blueprints.jobs import POLL_AFTER_SECONDS, order_of, receiver_of
from blueprints.openapi import (
    BYTES,
    JOB_PROBLEMS,
    READ_PROBLEMS,
    answers_problems,
    takes_idempotency_key,
)
from blueprints.parsing import takes_no_parameters
from blueprints.pictures import deliver, demand_powers, screenshot_door
from blueprints.request_log import note
from blueprints.schemas import CaptureOptions
from blueprints.services import public_url, services
from blueprints.strict_blueprint import StrictBlueprint
from blueprints.waiting import allow_more_time, line_up, share_place
from thumbnailer.errors import InvalidParameters, InvalidTarget, Overloaded, TargetForbidden, ThumbnailerError
from thumbnailer.jobs import Batch, BatchOrder, Job, JobOrder, JobState
from thumbnailer.model import POWERFUL, Capture
from thumbnailer.storage import file_ending

#: Captures of one synchronous batch at a time: the rest of the house has callers too.
CAPTURES_AT_ONCE = 4

#: What each page has to be, as on the routes for one.
URL = CaptureOptions().fields["url"]

#: Base64 makes four characters of three bytes: pieces of this size need no padding but at the end.
PIECE_BYTES = 3 * 65_536

blueprint = StrictBlueprint("batches", __name__, description="Many pages at once.")


@blueprint.post("/screenshots/batch")
@needs(RENDER)
@takes_idempotency_key
@blueprint.arguments(
    BatchBody(),
    location="json",
    example={"urls": ["https://example.com/", "https://example.org/"], "thumb_width": 400},
)
@blueprint.response(200, BatchResults, description="Without async: the pictures, in the order asked.")
@blueprint.alt_response(
    202,
    schema=BatchAnswer,
    description="With async: the batch is accepted.",
    headers={**made_headers("the batch"), **UNFINISHED_HEADERS},
    success=True,
)
@answers_problems(blueprint, JOB_PROBLEMS)
def batch_of_screenshots(given: dict[str, Any]) -> Response:
    """Take pictures of many pages.

    A page that fails spoils no other. Options that are wrong refuse the whole batch.
    """
    urls = given.pop("urls")
    if given.pop("is_async", False):
        return services().idempotency.once(lambda: _accepted(urls, given), is_order=True)
    sent_key()  # means nothing here: what was not stored can be asked for twice
    return _taken(urls, given)


def _accepted(urls: Sequence[str], given: Mapping[str, Any]) -> Response:
    services().allowance.answer()
    shared = {name: value for name, value in given.items() if name != "webhook_url"}
    orders = [_order_of({**shared, "url": url}) for url in urls]
    order = BatchOrder(jobs=orders, webhook_url=receiver_of(given))
    services().allowance.jobs(len(urls))
    batch = services().jobs.accept_batch(order, caller().owner, services().idempotency.order_key())
    note(batch_id=batch.id)
    response = answer_batch(batch, 202)
    response.headers["Location"] = public_url(batch_path(batch.id))
    return response


def _order_of(given: Mapping[str, Any]) -> JobOrder:
    """An order even of a bad page: it spoils no other."""
    try:
        return order_of({**given, "url": _checked(given["url"])})
    except (TargetForbidden, InvalidTarget) as error:
        refusal: ThumbnailerError = error
    except InvalidParameters as error:
        if error.fields.keys() != {"url"}:
            raise
        refusal = InvalidParameters(error.fields, in_words(error))
    return JobOrder(request=None, url=given["url"], ttl_seconds=0, refusal=refusal)


def _checked(url: str) -> str:
    """A page of a batch, if it could be one; raises ``InvalidParameters``."""
    try:
        return str(URL.deserialize(url))
    except ValidationError as error:
        raise InvalidParameters({"url": [str(message) for message in error.messages]}) from None


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one page of a synchronous batch."""

    url: str
    problem: str = ""
    detail: str = ""
    capture: Capture | None = None


def _taken(urls: Sequence[str], given: Mapping[str, Any]) -> Response:
    def take(url: str) -> _Outcome:
        try:
            asked, delivery = deliver({**given, "url": _checked(url)}, screenshot_door())
        except ThumbnailerError as error:
            return _Outcome(url, problem_of_error(error).slug, in_words(error))
        except Exception as error:  # noqa: BLE001  one bad page spoils no other; it is logged in full
            kind = log_bug(error)
            return _Outcome(url, kind.slug, kind.explanation)
        # As the cache has it, it is read piece by piece; as it came, it lies in memory.
        return _Outcome(url, capture=services().thumbnails.look_up(asked.request) or delivery.capture)

    demand_powers(POWERFUL & given.keys(), is_fresh=given.get("fresh", False))
    pages = list(dict.fromkeys(urls))
    for url in pages:
        _order_of({**given, "url": url})  # options that nobody can honour are refused once, not page by page
    line_up()
    # Each has the time of a request, from its turn on.
    allow_more_time((len(pages) - 1) // CAPTURES_AT_ONCE * services().bounds.deadline_seconds)
    pool = ThreadPoolExecutor(CAPTURES_AT_ONCE, thread_name_prefix="batch")
    try:
        taken = {url: pool.submit(_in_this_request(take), url) for url in pages}
    except RuntimeError as error:
        pool.shutdown(wait=False, cancel_futures=True)
        raise Overloaded("No further thread can be started.") from error
    pool.shutdown(wait=False)
    response = Response(_written([taken[url] for url in urls]), content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response


def _in_this_request(call: Callable[[str], _Outcome]) -> Callable[[str], _Outcome]:
    """``call`` with a context of its own, as each thread needs one, and the request's place in line."""
    stand = share_place()

    def prepared(url: str) -> _Outcome:
        stand()
        return call(url)

    return flask.copy_current_request_context(prepared)


def _written(outcomes: Sequence[Future[_Outcome]]) -> Iterator[str]:
    """The answer, written while it comes: ten pictures of 20 MiB would be 270 MiB at once."""
    yield '{"results":['
    for number, outcome in enumerate(outcomes):
        yield "," if number else ""
        yield from _written_outcome(outcome.result())
    yield "]}\n"


def _written_outcome(outcome: _Outcome) -> Iterator[str]:
    shown: dict[str, Any] = {"url": outcome.url}
    if outcome.capture is None:
        yield json.dumps({**shown, "status": "error", "error": outcome.problem, "detail": outcome.detail})
        return
    shown |= {"status": "ok", "contentType": outcome.capture.record.content_type}
    yield json.dumps(shown).removesuffix("}") + ', "data": "'
    yield from (b64encode(piece).decode() for piece in _pieces(outcome.capture.chunks()))
    yield '"}'


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    waiting = b""
    for chunk in chunks:
        waiting += chunk
        whole = len(waiting) - len(waiting) % PIECE_BYTES
        yield from (waiting[start : start + PIECE_BYTES] for start in range(0, whole, PIECE_BYTES))
        waiting = waiting[whole:]
    if waiting:
        yield waiting


@blueprint.get("/batches/<batch_id>")
@needs(RENDER)
@blueprint.response(200, BatchAnswer, description="The batch.", headers=UNFINISHED_HEADERS)
@answers_problems(blueprint, READ_PROBLEMS)
@takes_no_parameters
def batch(batch_id: str) -> Response:
    """The state of a batch and of its jobs."""
    services().allowance.answer()
    return answer_batch(own(services().jobs.find_batch(batch_id)))


@blueprint.get("/batches/<batch_id>/download")
@needs(RENDER)
@blueprint.response(
    200,
    BYTES,
    content_type="application/zip",
    description="The pictures that are finished so far.",
    headers={"Content-Disposition": text_header("The name of the archive.")},
)
@answers_problems(blueprint, (*READ_PROBLEMS, "overloaded"))
@takes_no_parameters
def batch_download(batch_id: str) -> Response:
    """The finished pictures of a batch as a ZIP, written while it is sent.

    Named by their place in the order. What the cache has dropped since is missing.
    """
    services().allowance.answer()
    found = own(services().jobs.find_batch(batch_id))
    line_up()
    archive = ZipStream(compress_type=ZIP_STORED)  # pictures are compressed already
    for member in found.jobs:
        capture = _picture_of(member)
        if capture is not None:
            archive.add(capture.chunks(), arcname=_name_of(member, capture))
    response = Response(archive, content_type="application/zip")
    response.headers["Content-Disposition"] = f'attachment; filename="{found.id}.zip"'
    response.headers["Cache-Control"] = "no-store"
    return response


def _picture_of(member: Job) -> Capture | None:
    request = member.order.request
    if member.state is not JobState.COMPLETED or request is None:
        return None
    return services().thumbnails.look_up(request)


def _name_of(member: Job, capture: Capture) -> str:
    """Such as ``007-example.com.png``: in the order asked, and nothing that a file system could trip over."""
    host = urlsplit(member.order.url).hostname or "page"
    plain = "".join(letter if letter.isalnum() or letter in ".-" else "-" for letter in host)
    return f"{member.position + 1:03}-{plain}.{file_ending(capture.record.content_type)}"


def answer_batch(found: Batch, status: int = 200) -> Response:
    """A batch as a document."""
    response = document(describe_batch(found, public_url("")), status)
    if found.completed_at is None:
        response.headers["Retry-After"] = str(POLL_AFTER_SECONDS)
    return response
