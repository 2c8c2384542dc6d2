"""The trip as every picture route makes it: charge, complete the request, fetch or stream, answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import flask
from flask import Response

from blueprints.access import CHALLENGE
from blueprints.answers import dated_headers, picture_answer, stream_answer
from blueprints.callers import caller
from blueprints.capture_requests import Asked, RouteDefaults, complete, overlay, refuse_ttl
from blueprints.conditions import answer_conditionally
from blueprints.disposition import name_file
from blueprints.freshness import Freshness
from blueprints.placeholders import pending_answer
from blueprints.replays import ENVIRON_NAME as REPLAY
from blueprints.replays import MAX_BODY_BYTES, Replay
from blueprints.request_log import note, noted, request_deadline, timings
from blueprints.services import services
from blueprints.waiting import company, line_up
from thumbnailer.errors import InvalidParameters, Unauthorized
from thumbnailer.keys import Scope
from thumbnailer.model import POWERFUL, Format
from thumbnailer.sites import Site
from thumbnailer.terms import CacheStatus, Delivery, StaleUse, Terms

#: What stands between two tags: Cloudflare's header, and Fastly's.
TAG_SEPARATORS = {"Cache-Tag": ",", "Surrogate-Key": " "}


@dataclass(frozen=True, slots=True)
class Door:
    """What one kind of route does by default, and which allowance its captures are taken from.

    ``wants_new`` says that an old picture will do only where a new one cannot be taken, ``shows_images``
    that a PDF will never do.
    """

    usual: RouteDefaults
    charge_capture: Callable[[], None]
    wants_new: bool = False
    shows_images: bool = False


def thumb_door() -> Door:
    return Door(services().bounds.thumb, services().allowance.thumb, shows_images=True)


def screenshot_door() -> Door:
    return Door(services().bounds.screenshot, services().allowance.screenshot)


def persist_door() -> Door:
    return Door(services().bounds.persist, services().allowance.persist, wants_new=True)


def hermesforge_door() -> Door:
    return Door(services().bounds.hermesforge, services().allowance.screenshot)


def snapsharp_door() -> Door:
    return Door(services().bounds.snapsharp, services().allowance.screenshot)


def snapapi_door() -> Door:
    return Door(services().bounds.snapapi, services().allowance.screenshot)


def answer_picture(given: Mapping[str, Any], door: Door) -> Response:
    """Answer with a whole picture."""
    asked, delivery = deliver(given, door)
    return answer_delivery(asked, delivery)


def answer_patiently(given: Mapping[str, Any], door: Door) -> Response:
    """Answer with a whole picture, or for now with a stand-in where ``wait`` says so."""
    seconds = given.get("wait", door.usual.options.get("wait"))
    if seconds is None:
        return answer_picture(given, door)
    asked, delivery = deliver_within(given, door, seconds)
    return pending_answer() if delivery is None else answer_delivery(asked, delivery)


def answer_stream(given: Mapping[str, Any], door: Door) -> Response:
    """Answer with a picture that is passed on as it arrives.

    HTTP/1.0 knows no chunks: a connection that breaks looks to it like the end of the picture. So
    those callers, and HEAD, which wants no bytes, get it when it is whole; and so is a thumbnail,
    which can be made of a whole capture only.
    """
    asked, terms = prepare(given, door)
    is_old = flask.request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0"
    if is_old or flask.request.method == "HEAD" or asked.request.rendition:
        return answer_delivery(asked, services().thumbnails.fetch(asked.request, terms))
    found = services().thumbnails.pipeline.stream(asked.request.capture, terms)
    if isinstance(found, Delivery):
        return answer_delivery(asked, found)
    response = stream_answer(found, _freshness(asked), services().clock())
    name_file(response, asked.request.capture.url, asked.download)
    return _tagged(response, asked)


def answer_delivery(asked: Asked, delivery: Delivery) -> Response:
    """Answer with a whole picture that is at hand."""
    response = picture_answer(delivery, _freshness(asked), services().clock())
    if asked.varies_by_accept:
        response.vary.add("Accept")
    name_file(response, asked.request.capture.url, asked.download)
    _offer_replay(asked, delivery)
    return answer_conditionally(_tagged(response, asked), delivery.capture.record.size_bytes)


def _offer_replay(asked: Asked, delivery: Delivery) -> None:
    """Let the server give this answer again, where it is the same for all who send the same request."""
    record, request = delivery.capture.record, flask.request
    is_own = caller().key is not None or bool(asked.request.capture.partition)
    is_common = request.method in ("GET", "HEAD") and not is_own and "fresh" not in request.args
    if delivery.cache_status is not CacheStatus.HIT or record.size_bytes > MAX_BODY_BYTES or not is_common:
        return
    purges, freshness = services().purges, _freshness(asked)
    version, not_after = purges.version, freshness.not_after
    if purges.covers(asked.request.picture.site, record):
        return  # it came while the picture was being loaded
    good_until = record.captured_at + asked.max_age_seconds
    request.environ[REPLAY] = Replay(
        body=delivery.capture.body(),
        dated_headers=lambda now: dated_headers(delivery, freshness, now),
        good_until=good_until if not_after is None else min(good_until, not_after),
        is_current=lambda: purges.version == version,
        facts=noted(),
        account=caller().account,
        route=request.url_rule.rule if request.url_rule else "",
    )


def _tagged(response: Response, asked: Asked) -> Response:
    """Tell caches downstream by which words they can purge it, where the operator has any."""
    headers = services().tag_headers
    if headers:
        tags = list(Site.of(asked.request.capture.url).tags())
        for name in headers:
            response.headers[name] = TAG_SEPARATORS[name].join(tags)
    return response


def _freshness(asked: Asked) -> Freshness:
    """What caches may do with the answer to the current request."""
    signed = caller().signed
    return Freshness(
        ttl_seconds=asked.max_age_seconds,
        wants_new=asked.is_fresh,
        is_private=caller().key is not None or bool(asked.request.capture.partition),
        not_after=signed.exp if signed else None,
    )


def deliver(given: Mapping[str, Any], door: Door, *, recapture: bool = False) -> tuple[Asked, Delivery]:
    """Fetch what a caller asks for; raises any of the tree but ``StorageError``."""
    asked, terms = prepare(given, door, recapture=recapture)
    return asked, services().thumbnails.fetch(asked.request, terms)


def deliver_within(given: Mapping[str, Any], door: Door, seconds: float) -> tuple[Asked, Delivery | None]:
    """The same, but for hardly longer than ``seconds``; the picture is made all the same."""
    asked, terms = prepare(given, door)
    seconds = request_deadline(seconds).remaining_seconds()
    return asked, services().thumbnails.fetch_within(asked.request, terms, seconds)


def prepare(given: Mapping[str, Any], door: Door, *, recapture: bool = False) -> tuple[Asked, Terms]:
    """Count the answer, complete the request and set its terms."""
    deadline = request_deadline(services().bounds.deadline_seconds)
    services().allowance.answer()
    asked = entitle(complete_request(given, door))
    stale_use = StaleUse.WHERE_A_NEW_ONE_FAILS if asked.is_fresh or door.wants_new else StaleUse.AT_ONCE
    note(target=urlsplit(asked.request.capture.url).hostname)
    terms = Terms(
        max_age_seconds=asked.max_age_seconds,
        deadline=deadline,
        admit=door.charge_capture,
        timings=timings(),
        line_up=line_up,
        has_company=company(),
        recapture=recapture,
        stale_use=stale_use,
    )
    return asked, terms


def complete_request(given: Mapping[str, Any], door: Door) -> Asked:
    """What a caller asks for, with the defaults of the door; raises as ``judge`` does."""
    return judge(given, door, flask.request.headers.get("Accept"))


def judge(given: Mapping[str, Any], door: Door, accept: str | None) -> Asked:
    """What a caller wants by way of ``door``, judged as far as its looks go.

    Raises:
        InvalidParameters, TargetForbidden: it is refused, whoever asks.
    """
    bounds = services().bounds
    refuse_ttl(given.get("ttl"), bounds.min_ttl_seconds, bounds.max_ttl_seconds)
    usual = _with_preset(door.usual, given.get("preset"))
    asked = complete(given, usual, services().guard, accept)
    if door.shows_images and asked.request.capture.format is Format.PDF:
        raise InvalidParameters({"preset": ["Makes a PDF, which is no thumbnail."]})
    return asked


def entitle(asked: Asked) -> Asked:
    """What this caller gets of what they ask for; refuses what the gate could not see yet.

    A picture that something of the caller's own went into is theirs alone.

    Raises:
        TargetForbidden: the caller's key is for other hosts.
        Unauthorized, ScopeMissing: as ``demand_powers``.
    """
    caller().demand_target(urlsplit(asked.request.capture.url).hostname or "")
    powers = asked.request.capture.asked & POWERFUL
    demand_powers(powers, is_fresh=asked.is_fresh)
    return keep_apart(asked) if powers else asked


def demand_powers(powers: Collection[str], *, is_fresh: bool) -> None:
    """Refuse who may not have what they ask for, of whatever page.

    ``powers`` are options that have one, by name.

    Raises:
        Unauthorized: ``fresh`` is asked for by nobody known, or ``css`` without a key.
        ScopeMissing: an option is for other keys.
    """
    if is_fresh and not caller().is_known:
        raise Unauthorized("fresh=true needs an API key or a signature.", challenge=CHALLENGE)
    for option in sorted(powers):
        if option != "css":
            caller().demand(Scope.SCRIPT, option)
        elif not (caller().is_free or caller().key):
            raise Unauthorized("css needs an API key.", challenge=CHALLENGE)


def keep_apart(asked: Asked) -> Asked:
    """The same, as a picture that no other caller finds."""
    capture = replace(asked.request.capture, partition=caller().identity)
    return replace(asked, request=replace(asked.request, capture=capture))


def _with_preset(usual: RouteDefaults, preset: str | None) -> RouteDefaults:
    if preset is None:
        return usual
    options = services().presets.get(preset)
    if options is None:
        raise InvalidParameters({"preset": ["There is no such preset."]})
    return RouteDefaults(options.get("ttl", usual.ttl_seconds), overlay(usual.options, options))
