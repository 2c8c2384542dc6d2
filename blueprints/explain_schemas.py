"""What ``GET /explain`` takes and answers."""

from __future__ import annotations

from marshmallow import Schema, ValidationError, fields, validate, validates_schema

from blueprints.answer_fields import flag, moment, nested, nested_list, pixels, text, whole_number
from blueprints.fields import Flag, WholeNumber
from blueprints.schemas import (
    ON_THUMB,
    TTL_ON_THUMB,
    CaptureQuery,
    blocks_ads,
    blocks_cookie_banners,
    described,
    seconds_to_live,
)
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
    block_ads = blocks_ads(default=ON_THUMB)
    block_cookie_banners = blocks_cookie_banners(default=ON_THUMB)
    ttl = seconds_to_live(default=TTL_ON_THUMB)
    stream = Flag(metadata=described("As on /screenshot; changes nothing here.", default=False))

    @validates_schema(skip_on_field_errors=True)
    def refuse_pdf_thumbs(self, given: dict[str, object], **_more: object) -> None:
        if given.get("format") == Format.PDF and given.get("route", "thumb") == "thumb":
            raise ValidationError({"format": ["/thumb makes no PDF: ask for route=screenshot."]})


class ExplainedPicture(Schema):
    """A picture in the cache."""

    captured_at = moment("When it was taken.")
    age_seconds = whole_number("How long ago that is.")
    fresh_until = moment("Until then it is a hit, by this ttl.")
    stale_until = moment("Until then it is served at once while a new one is taken.")
    provider = text("Who took it.")
    content_type = text("The media type of the bytes.")
    size_bytes = whole_number("The number of bytes.")
    width = pixels()
    height = pixels()
    etag = text("Its entity tag.")


class ExplainedFailure(Schema):
    """The last failure of the target that is remembered."""

    problem = text("The slug of the problem.")
    detail = text("What was wrong.")
    count = whole_number("How many failures there were in a row.")
    failed_at = moment("When the last was.")
    retry_at = moment("When it is tried again.")
    retry_seconds = whole_number("Seconds until then; 0 once it is over.")


class ExplainedPurge(Schema):
    """A purge that concerns the page."""

    scope = text("What was purged: page, host, domain or everything.")
    before = moment("What was captured before is not served.")


class ExplainedProvider(Schema):
    """A provider, as far as this request is concerned."""

    name = text("Its name in PROVIDERS.")
    lacks = text("The option asked for that it cannot honour.", allow_none=True)
    breaker = text("As in /ready.", enum=[state.value for state in BreakerState])
    ready = flag("Whether it could start a capture.")


class ExplainedOutcome(Schema):
    """What would happen now."""

    action = text(
        "hit: from the cache. render: a thumbnail is made of a cached capture. stale: an old picture. "
        "capture: a new one is taken. refuse: a problem.",
        enum=[action.value for action in Action],
    )
    reason = text("The same in words.")
    refreshes = flag("Whether a new picture is taken behind the answer.")
    provider = text("Who would be asked first for a new picture.", allow_none=True)
    problem = text("What stands in the way of a new one: its slug.", allow_none=True)
    detail = text("The same in words.", allow_none=True)


class ExplainAnswer(Schema):
    """What ``GET /explain`` answers."""

    target = text("The target, normalised.", format="uri")
    route = text("Whose defaults were filled in.", enum=[*ROUTES])
    options = fields.Dict(
        keys=fields.String(), required=True, metadata=described("Every option, defaults filled in.")
    )
    capture_key = text("Names the capture in the cache.")
    rendition_key = text("Names the thumbnail; null where none is made.", allow_none=True)
    capture = nested(ExplainedPicture, "The capture in the cache.", allow_none=True)
    rendition = nested(ExplainedPicture, "The thumbnail in the cache.", allow_none=True)
    failure = nested(ExplainedFailure, "Why it failed last, if so.", allow_none=True)
    purges = nested_list(ExplainedPurge, "Purges that concern the page.")
    tags = fields.List(
        fields.String(), required=True, metadata=described("By which caches downstream purge it.")
    )
    providers = nested_list(ExplainedProvider, "In the order of PROVIDERS.")
    now = nested(ExplainedOutcome, "What would happen now.")
