"""What ``GET /explain`` takes and answers."""

from __future__ import annotations

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from blueprints.fields import Flag, WholeNumber
from blueprints.schemas import CaptureQuery, described
from thumbnailer.circuits import BreakerState
from thumbnailer.explaining import Action
from thumbnailer.model import Format

ROUTES = ("thumb", "screenshot")


class ExplainQuery(CaptureQuery):
    """``GET /explain``: the very query of a picture, and the route that it is meant for."""

    route = fields.String(
        validate=validate.OneOf(ROUTES),
        metadata=described("Whose defaults apply: those of /thumb or of /screenshot.", default="thumb"),
    )
    wait = WholeNumber(
        validate=validate.Range(0, 60), metadata=described("As on /thumb; changes nothing here.")
    )
    stream = Flag(metadata=described("As on /screenshot; changes nothing here.", default=False))

    @validates_schema(skip_on_field_errors=True)
    def refuse_pdf_thumbs(self, given: dict[str, object], **_more: object) -> None:
        if given.get("format") == Format.PDF and given.get("route", "thumb") == "thumb":
            raise ValidationError({"format": ["/thumb makes no PDF: ask for route=screenshot."]})


class ExplainedPicture(Schema):
    """A picture in the cache."""

    captured_at = fields.String(required=True, metadata=described("When it was taken.", format="date-time"))
    age_seconds = fields.Integer(required=True, metadata=described("How long ago that is."))
    fresh_until = fields.String(
        required=True, metadata=described("Until then it is a hit, by this ttl.", format="date-time")
    )
    stale_until = fields.String(
        required=True,
        metadata=described("Until then it is served at once while a new one is taken.", format="date-time"),
    )
    provider = fields.String(required=True, metadata=described("Who took it."))
    content_type = fields.String(required=True, metadata=described("The media type of the bytes."))
    size_bytes = fields.Integer(required=True, metadata=described("The number of bytes."))
    width = fields.Integer(
        required=True, allow_none=True, metadata=described("Image pixels; null for a PDF.")
    )
    height = fields.Integer(
        required=True, allow_none=True, metadata=described("Image pixels; null for a PDF.")
    )
    etag = fields.String(required=True, metadata=described("Its entity tag."))


class ExplainedFailure(Schema):
    """The last failure of the target that is remembered."""

    problem = fields.String(required=True, metadata=described("The slug of the problem."))
    detail = fields.String(required=True, metadata=described("What was wrong."))
    count = fields.Integer(required=True, metadata=described("How many failures there were in a row."))
    failed_at = fields.String(required=True, metadata=described("When the last was.", format="date-time"))
    retry_at = fields.String(required=True, metadata=described("When it is tried again.", format="date-time"))
    retry_seconds = fields.Integer(
        required=True, metadata=described("Seconds until then; 0 once it is over.")
    )


class ExplainedPurge(Schema):
    """A purge that concerns the page."""

    scope = fields.String(
        required=True, metadata=described("What was purged: page, host, domain or everything.")
    )
    before = fields.String(
        required=True,
        metadata=described("What was captured before is not served.", format="date-time"),
    )


class ExplainedProvider(Schema):
    """A provider, as far as this request is concerned."""

    name = fields.String(required=True, metadata=described("Its name in PROVIDERS."))
    lacks = fields.String(
        required=True, allow_none=True, metadata=described("The option asked for that it cannot honour.")
    )
    breaker = fields.String(
        required=True,
        metadata=described("As in /ready.", enum=[state.value for state in BreakerState]),
    )
    ready = fields.Boolean(required=True, metadata=described("Whether it could start a capture."))


class ExplainedOutcome(Schema):
    """What would happen now."""

    action = fields.String(
        required=True,
        metadata=described(
            "hit: from the cache. render: a thumbnail is made of a cached capture. stale: an old picture. "
            "capture: a new one is taken. refuse: a problem.",
            enum=[action.value for action in Action],
        ),
    )
    reason = fields.String(required=True, metadata=described("The same in words."))
    refreshes = fields.Boolean(
        required=True, metadata=described("Whether a new picture is taken behind the answer.")
    )
    provider = fields.String(
        required=True, allow_none=True, metadata=described("Who would be asked first for a new picture.")
    )
    problem = fields.String(
        required=True, allow_none=True, metadata=described("What stands in the way of a new one: its slug.")
    )
    detail = fields.String(required=True, allow_none=True, metadata=described("The same in words."))


class ExplainAnswer(Schema):
    """What ``GET /explain`` answers."""

    target = fields.String(required=True, metadata=described("The target, normalised.", format="uri"))
    route = fields.String(required=True, metadata=described("Whose defaults were filled in.", enum=[*ROUTES]))
    options = fields.Dict(
        keys=fields.String(), required=True, metadata=described("Every option, defaults filled in.")
    )
    capture_key = fields.String(required=True, metadata=described("Names the capture in the cache."))
    rendition_key = fields.String(
        required=True, allow_none=True, metadata=described("Names the thumbnail; null where none is made.")
    )
    capture = fields.Nested(
        ExplainedPicture, required=True, allow_none=True, metadata=described("The capture in the cache.")
    )
    rendition = fields.Nested(
        ExplainedPicture, required=True, allow_none=True, metadata=described("The thumbnail in the cache.")
    )
    failure = fields.Nested(
        ExplainedFailure, required=True, allow_none=True, metadata=described("Why it failed last, if so.")
    )
    purges = fields.List(
        fields.Nested(ExplainedPurge), required=True, metadata=described("Purges that concern the page.")
    )
    tags = fields.List(
        fields.String(), required=True, metadata=described("By which caches downstream purge it.")
    )
    providers = fields.List(
        fields.Nested(ExplainedProvider), required=True, metadata=described("In the order of PROVIDERS.")
    )
    now = fields.Nested(ExplainedOutcome, required=True, metadata=described("What would happen now."))
