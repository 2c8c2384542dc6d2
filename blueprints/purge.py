"""Purges by page, host, or everything: afterwards nobody is served what was captured before."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import structlog
from flask import Response
from marshmallow import Schema, fields

from blueprints.access import PURGE, needs
from blueprints.answer_fields import flag, moment, whole_number
from blueprints.answers import document
from blueprints.callers import caller
from blueprints.documented_headers import CHARGED_HEADERS
from blueprints.fields import Flag, MomentField, ShortList, Text
from blueprints.openapi import PURGE_PROBLEMS, answers_problems
from blueprints.schemas import StrictSchema, described
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.errors import InvalidParameters, InvalidTarget, TargetForbidden
from thumbnailer.model import Deadline
from thumbnailer.purging import scopes_of
from thumbnailer.sites import Scope

log = structlog.get_logger(__name__)

MAX_NAMED = 100

blueprint = StrictBlueprint("purge", __name__, description="Purges: pictures that are no longer to be shown.")


class PurgeQuery(StrictSchema):
    """``DELETE /cache``."""

    url = Text(
        required=True,
        max_length=2048,
        metadata=described(
            "The page whose pictures go: with any options, and with any fragment.",
            format="uri",
            example="https://example.com/",
        ),
    )


class PurgeBody(StrictSchema):
    """``POST /cache/purge``."""

    targets = ShortList(
        Text(max_length=2048, metadata={"format": "uri"}),
        most=MAX_NAMED,
        metadata=described("Pages, by their URLs."),
    )
    hosts = ShortList(
        Text(max_length=260),
        most=MAX_NAMED,
        metadata=described("Hosts: example.com means that host, *.example.com all below it as well."),
    )
    everything = Flag(metadata=described("All pages there are.", default=False))
    before = MomentField("Only what was captured before this time; now, where it is later than that.")


class PurgeAnswer(Schema):
    """What a purge answers."""

    captures = whole_number("Captures that were deleted.")
    renditions = whole_number("Thumbnails that were deleted.")
    failures = whole_number("Remembered failures that were forgotten, whatever before says.")
    complete = flag("Whether all bytes are deleted; what is left is not served either.")
    before = moment("What was captured before this time is not served.")
    tags = fields.List(
        fields.String(), required=True, metadata=described("What to purge in caches downstream.")
    )


@blueprint.delete("/cache")
@needs(PURGE)
@blueprint.arguments(PurgeQuery(), location="query", error_status_code=400)
@blueprint.response(200, PurgeAnswer, description="It is purged.", headers=CHARGED_HEADERS)
@answers_problems(blueprint, PURGE_PROBLEMS)
def purge_page(given: dict[str, Any]) -> Response:
    """Purge the pictures of one page."""
    services().allowance.purge()
    caller().demand_target(_host_of(given["url"]))
    try:
        scopes = scopes_of([given["url"]], [], is_everything=False)
    except InvalidParameters:
        raise InvalidParameters({"url": ["Must be a whole URL: http:// or https://, then a host."]}) from None
    return _purged(scopes, None)


@blueprint.post("/cache/purge")
@needs(PURGE)
@blueprint.arguments(
    PurgeBody(), location="json", example={"targets": ["https://example.com/"]}, error_status_code=400
)
@blueprint.response(200, PurgeAnswer, description="It is purged.", headers=CHARGED_HEADERS)
@answers_problems(blueprint, (*PURGE_PROBLEMS, "body-too-large"))
def purge(given: dict[str, Any]) -> Response:
    """Purge the pictures of pages, of hosts, or all of them.

    Name at least one of `targets`, `hosts` and `everything`. Stored images stay.
    """
    services().allowance.purge()
    _demand_whole_hosts(given)
    scopes = scopes_of(
        given.get("targets", []), given.get("hosts", []), is_everything=given.get("everything", False)
    )
    return _purged(scopes, given.get("before"))


def _demand_whole_hosts(given: dict[str, Any]) -> None:
    """Leave who has a key for some hosts to the pages of these. Raises ``TargetForbidden``."""
    for url in given.get("targets", []):
        caller().demand_target(_host_of(url))
    if "hosts" in given or given.get("everything", False):
        caller().demand_target("")


def _host_of(url: str) -> str:
    """The host of a page; what is no URL belongs to none."""
    try:
        return services().guard.parse(url).host
    except (InvalidTarget, TargetForbidden):
        return ""


def _purged(scopes: Sequence[Scope], before: float | None) -> Response:
    deadline = Deadline.after(services().bounds.deadline_seconds)
    report = services().purger.purge(scopes, before=before, deadline=deadline)
    answer = {
        "captures": report.captures,
        "renditions": report.renditions,
        "failures": report.failures,
        "complete": report.is_complete,
        "before": datetime.fromtimestamp(report.before, UTC).isoformat(),
        "tags": [scope.tag for scope in scopes],
    }
    log.info("purged", scopes=[scope.text for scope in scopes], **answer)
    return document(answer)
