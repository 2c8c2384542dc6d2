"""Pages that are kept photographed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import flask
from flask import Response
from werkzeug.exceptions import NotFound

from blueprints.access import OPEN, PERSIST, RENDER, needs
from blueprints.answers import cached_answer, document, stored_answer
from blueprints.callers import caller, own
from blueprints.cursors import ListQuery, listed
from blueprints.documented_headers import BOUND_HEADERS, CHARGED_HEADERS, REDIRECT_HEADERS, made_headers
from blueprints.errors import answer_failure
from blueprints.jobs import POLL_AFTER_SECONDS, receiver_of
from blueprints.openapi import (
    CONDITION_PROBLEMS,
    IMAGE_TYPES,
    JOB_PROBLEMS,
    LIST_PROBLEMS,
    OPEN_READ_PROBLEMS,
    READ_PROBLEMS,
    STORED_PROBLEMS,
    answers_pictures_to_get,
    answers_placeholders,
    answers_problems,
    takes_idempotency_key,
)
from blueprints.page_answers import describe_page, page_path
from blueprints.page_schemas import PageAnswer, PageBody, PageChanges, PagesAnswer
from blueprints.parsing import load, takes_no_parameters
from blueprints.pictures import entitle, judge, thumb_door
from blueprints.placeholders import NEGOTIATED_BY, placeholder_answer, wants_placeholder
from blueprints.powers import SECRET
from blueprints.request_log import note
from blueprints.services import public_url, services
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.errors import ImageNotReady, InvalidParameters
from thumbnailer.pages import Page, PageOrder, PageState
from thumbnailer.placeholders import PlaceholderKind

REFRESH_SECONDS = 86_400

#: What is said of the page and not of the capture.
PAGE_WORDS = frozenset({"refresh_seconds", "webhook_url"})

blueprint = StrictBlueprint("pages", __name__, description="Pages that are kept photographed.")


@blueprint.post("/pages")
@needs(PERSIST)
@takes_idempotency_key
@blueprint.arguments(
    PageBody(),
    location="json",
    example={"url": "https://example.com/", "thumb_width": 400, "refresh_seconds": 3600},
)
@blueprint.response(
    202, PageAnswer, description="The page is photographed from now on.", headers=made_headers("the page")
)
@answers_problems(blueprint, JOB_PROBLEMS)
def keep_page(given: dict[str, Any]) -> Response:
    """Keep a page photographed.

    Its newest good picture is at `/pages/{page_id}/thumb`, whatever becomes of the page.
    """
    return services().idempotency.once(lambda: _kept(given), is_order=True)


def _kept(given: Mapping[str, Any]) -> Response:
    services().allowance.answer()
    order = _order_of(flask.request.get_json(), given)
    services().allowance.jobs()
    page = services().jobs.keep_page(order, caller().owner, services().idempotency.order_key())
    note(page_id=page.id)
    response = answer_page(page, 202)
    response.headers["Location"] = public_url(page_path(page.id))
    return response


@blueprint.get("/pages")
@needs(RENDER)
@blueprint.arguments(ListQuery(), location="query")
@blueprint.response(200, PagesAnswer, description="The caller's pages, the newest first, a hundred at most.")
@answers_problems(blueprint, LIST_PROBLEMS)
def kept_pages(given: dict[str, Any]) -> Response:
    """The caller's pages, the newest first, a hundred at most.

    For the next hundred, give the `next_cursor` of the answer as `cursor`.
    """
    services().allowance.answer()
    found, rest = listed(services().jobs.pages.latest, caller().owner, given.get("cursor"))
    shown = [describe_page(page, public_url("")) for page in found]
    return document({"pages": shown, "next_cursor": rest})


@blueprint.get("/pages/<page_id>")
@needs(RENDER)
@blueprint.response(200, PageAnswer, description="The page.")
@answers_problems(blueprint, READ_PROBLEMS)
@takes_no_parameters
def kept_page(page_id: str) -> Response:
    """The state of a kept page, with its versions."""
    services().allowance.answer()
    return answer_page(own(services().jobs.pages.find(page_id)))


@blueprint.patch("/pages/<page_id>")
@needs(PERSIST)
@blueprint.arguments(PageChanges(), location="json", example={"refresh_seconds": 86400})
@blueprint.response(
    202,
    PageAnswer,
    description="The page is photographed with these options from now on.",
    headers=CHARGED_HEADERS,
)
@answers_problems(blueprint, (*JOB_PROBLEMS, "not-found"))
def amend_page(_changes: dict[str, Any], page_id: str) -> Response:
    """Change the options of a kept page; those not named stay as they are, and null removes one.

    It is photographed at once. If `url` leads to another site, or `js` is another script, `headers` and
    `cookies` have to be given again.
    """
    services().allowance.answer()
    page = own(services().jobs.pages.find(page_id))
    changes = flask.request.get_json()
    changed = {**_words_of(page.order), **changes}
    words = {name: value for name, value in changed.items() if value is not None}
    order = _order_of(words, load(words, PageBody()))
    _refuse_to_carry_on(page.order, order, SECRET - changes.keys())
    services().allowance.jobs()
    amended = services().jobs.amend_page(page, order)
    if amended is None:
        raise NotFound
    return answer_page(amended, 202)


@blueprint.delete("/pages/<page_id>")
@needs(PERSIST)
@blueprint.response(204, description="The page is deleted, and its pictures with it.")
@answers_problems(blueprint, READ_PROBLEMS)
@takes_no_parameters
def forget_page(page_id: str) -> Response:
    """Stop keeping a page, and delete its stored pictures."""
    services().allowance.answer()
    pages = services().jobs.pages
    pages.remove(own(pages.find(page_id)).id)
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response


@blueprint.get("/pages/<page_id>/thumb")
@needs(OPEN)
@answers_pictures_to_get(blueprint, IMAGE_TYPES, BOUND_HEADERS)
@blueprint.alt_response(
    302,
    description="The stored picture, where the cache has it no longer.",
    headers=REDIRECT_HEADERS,
    success=True,
)
@answers_problems(blueprint, (*OPEN_READ_PROBLEMS, *CONDITION_PROBLEMS, *STORED_PROBLEMS))
@answers_placeholders(blueprint, ["image-not-ready", "not-found"])
@takes_no_parameters
def page_thumb(page_id: str) -> Response:
    """The newest good picture of a kept page; it needs no key, since it is made to be embedded."""
    services().allowance.answer()
    page = services().jobs.pages.find(page_id)
    if page is None:
        raise NotFound
    if not page.versions:
        return _no_picture(page)
    newest, request = page.versions[0], page.order.request
    capture = services().thumbnails.look_up(request) if request else None
    if capture is None or capture.record.sha256 != newest.sha256:
        return stored_answer(newest.object_key, newest.stored_url)
    return cached_answer(capture, _caching(page))


def _no_picture(page: Page) -> Response:
    """A placeholder of the page's size for an ``<img>``, a problem document for a program."""
    waits, why = POLL_AFTER_SECONDS, ""
    if page.state is PageState.FAILED:
        why = f": the last attempt failed, and {page_path(page.id)} says why"
        waits = max(waits, math.ceil(page.due_at - services().clock()))
    error = ImageNotReady(f"There is no picture of this page yet{why}.", retry_after_seconds=waits)
    if wants_placeholder():
        is_pending = page.state is PageState.PENDING
        kind = PlaceholderKind.PENDING if is_pending else PlaceholderKind.FAILED
        return placeholder_answer(error, page.order.options, kind)
    response = answer_failure(error)
    response.vary.update(NEGOTIATED_BY)
    return response


def _caching(page: Page) -> str:
    """Until the next picture is due, but not so long that a change is missed by much."""
    rest = max(0, int(page.due_at - services().clock())) if page.state is PageState.READY else 60
    return f"public, max-age={min(rest, page.order.refresh_seconds)}"


def _refuse_to_carry_on(before: PageOrder, after: PageOrder, kept: frozenset[str]) -> None:
    """Leave headers and cookies that are ``kept`` to the site, and the program, that they were given for.

    Who could send them on without knowing them would come to know them. Raises InvalidParameters.
    """
    is_led_elsewhere = _site_of(before) != _site_of(after) or before.options.get("js") != after.options.get(
        "js"
    )
    if is_led_elsewhere and (named := sorted(kept & before.options.keys())):
        message = "Must be given anew for another site or another program."
        raise InvalidParameters({name: [message] for name in named})


def _site_of(order: PageOrder) -> tuple[str, str] | None:
    """Scheme, host and port; None for an order that a newer version has written."""
    parts = urlsplit(order.request.capture.url) if order.request else None
    return (parts.scheme, parts.netloc) if parts else None


def _words_of(order: PageOrder) -> dict[str, Any]:
    """An order as its caller would write it."""
    words = {**order.options, "url": order.url, "refresh_seconds": order.refresh_seconds}
    return {**words, "webhook_url": order.webhook_url}


def _order_of(words: Mapping[str, Any], given: Mapping[str, Any]) -> PageOrder:
    """What a caller wants kept: in their ``words``, and as they were ``given`` to the schema.

    Raises:
        InvalidParameters, OptionUnsupported, TargetForbidden, ScopeMissing: it can never be photographed.
    """
    options = {name: value for name, value in given.items() if name not in PAGE_WORDS}
    asked = entitle(judge(options, thumb_door(), accept=None))
    services().thumbnails.pipeline.judge(asked.request.capture)
    return PageOrder(
        url=given["url"],
        options={name: value for name, value in words.items() if name not in (*PAGE_WORDS, "url")},
        request=asked.request,
        refresh_seconds=given.get("refresh_seconds", REFRESH_SECONDS),
        webhook_url=receiver_of(given),
    )


def answer_page(page: Page, status: int = 200) -> Response:
    """A page as a document."""
    return document(describe_page(page, public_url("")), status)
