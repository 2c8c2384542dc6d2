"""Signed URLs: made for callers with a key, and explained to those whose own do not do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import flask
from flask import Response, jsonify
from marshmallow import Schema, fields, validate

from blueprints.access import RENDER, needs
from blueprints.answer_fields import flag, nested_list, text, whole_number
from blueprints.fields import Text, WholeNumber
from blueprints.openapi import SIGN_DEBUG_PROBLEMS, SIGN_PROBLEMS, answers_problems
from blueprints.parsing import spell_for_query
from blueprints.pictures import entitle
from blueprints.schemas import (
    ON_THUMB,
    TTL_ON_THUMB,
    ScreenshotQuery,
    StrictSchema,
    blocks_ads,
    blocks_cookie_banners,
    described,
    seconds_to_live,
    seconds_to_wait,
)
from blueprints.services import public_url, services
from blueprints.signable import SIGNABLE_ROUTES, judge_query, sign_query, signer
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.errors import InvalidParameters, SignatureInvalid
from thumbnailer.signature_faults import Diagnosis, Finding, diagnose
from thumbnailer.signature_mistakes import Published
from thumbnailer.signing import MAX_EXP, Parameter, read_parameters

blueprint = StrictBlueprint("signing", __name__, description="Signed URLs for public pages.")

#: More than any route knows. Each is left out on trial, so a crowd of them would take seconds.
MAX_PARAMETERS = 100

#: That of the example in docs/signing.md, by the key of the test vectors.
EXAMPLE_SIGNATURE = "oRtZgpSP34OBW_HXbBKLjo_Ibwx6ERLgudbEOqGh60g"

UNSIGNABLE = Finding("route", f"Signed URLs are for {', '.join(SIGNABLE_ROUTES)}; this path is another.")


class SignBody(ScreenshotQuery):
    """``POST /sign``: the options of the route that ``path`` names, as far as its query knows them."""

    class Meta(ScreenshotQuery.Meta):
        exclude = ("sig", "kid")

    path = fields.String(
        validate=validate.OneOf(list(SIGNABLE_ROUTES)),
        metadata=described("The route.", default="/thumb"),
    )
    block_ads = blocks_ads(default=ON_THUMB)
    block_cookie_banners = blocks_cookie_banners(default=ON_THUMB)
    ttl = seconds_to_live(default=TTL_ON_THUMB)
    wait = seconds_to_wait()
    exp = WholeNumber(
        validate=validate.Range(1, MAX_EXP),
        metadata=described(
            "When the URL ends, in unix seconds; without it, it is good as long as it may be."
        ),
    )


class SignedUrlAnswer(Schema):
    """What ``POST /sign`` answers."""

    url = text("The signed URL.", format="uri")
    path = text("Its path, as it was signed.")
    sig = text("Its signature.")
    kid = text("Which key it was signed with.")
    exp = whole_number("When it ends, in unix seconds; null: never.", allow_none=True)


class DebugBody(StrictSchema):
    """``POST /sign/debug``."""

    url = Text(
        required=True,
        max_length=16_384,
        metadata=described(
            "A signed URL as your program makes it, whole or from its path on.",
            example=f"/thumb?kid=k1&url=https%3A%2F%2Fexample.com%2F&delay=5&sig={EXAMPLE_SIGNATURE}",
        ),
    )


class FindingAnswer(Schema):
    """One thing that is wrong with a signed URL."""

    code = text("What is wrong, for programs.")
    detail = text("What is wrong, for people.")


class DiagnosisAnswer(Schema):
    """What ``POST /sign/debug`` answers."""

    valid = flag("Whether the signature is good now.")
    string_to_sign = text("The text that has to be signed.")
    findings = nested_list(FindingAnswer, "What is wrong; empty where nothing is.")


@blueprint.post("/sign")
@needs(RENDER)
@blueprint.arguments(
    SignBody(), location="json", example={"path": "/thumb", "url": "https://example.com/", "thumb_width": 400}
)
@blueprint.response(200, SignedUrlAnswer, description="The signed URL.")
@answers_problems(blueprint, SIGN_PROBLEMS)
def sign(given: Mapping[str, Any]) -> Response:
    """Sign a URL for a public page.

    The options are those of the route that `path` names. `not-found` where the operator has set no
    SIGNING_KEYS.
    """
    signer()
    services().allowance.answer()
    path = given.get("path", "/thumb")
    texts = _as_query(flask.request.get_json())
    entitle(judge_query(path, texts))
    signed = sign_query(path, texts, given.get("exp"))
    answer = {"url": public_url(str(signed)), "path": signed.path}
    return jsonify(answer | {"sig": signed.sig, "kid": signed.kid, "exp": signed.exp})


def _as_query(body: Mapping[str, object]) -> dict[str, str]:
    """Options as JSON has them, already judged, in the spelling of a query."""
    return {name: spell_for_query(value) for name, value in body.items() if name not in ("path", "exp")}


@blueprint.post("/sign/debug")
@needs(RENDER)
@blueprint.arguments(
    DebugBody(),
    location="json",
    example={"url": f"/thumb?kid=k1&url=https%3A%2F%2Fexample.com%2F&delay=5&sig={EXAMPLE_SIGNATURE}"},
)
@blueprint.response(200, DiagnosisAnswer, description="What has to be signed, and what is wrong.")
@answers_problems(blueprint, SIGN_DEBUG_PROBLEMS)
def sign_debug(given: Mapping[str, str]) -> Response:
    """Say what has to be signed for a URL, and why its signature does not fit.

    `not-found` where the operator has set no SIGNING_KEYS.
    """
    found = signer()
    services().allowance.answer()
    base = public_url("")
    path, parameters = _parted(given["url"], urlsplit(base).path)
    try:
        diagnosis = diagnose(
            found, path, parameters, services().clock(), Published(base, tuple(SIGNABLE_ROUTES))
        )
    except SignatureInvalid as error:
        raise InvalidParameters({"url": [str(error)]}) from None
    return jsonify(_described(diagnosis, is_signable=path in SIGNABLE_ROUTES))


def _parted(url: str, prefix: str) -> tuple[str, tuple[Parameter, ...]]:
    """Path and parameters as this service would receive them. Raises ``InvalidParameters``."""
    try:
        parts = urlsplit(url)
        path = unquote_to_bytes(parts.path).decode()
        parameters = read_parameters(parts.query.encode())
    except (ValueError, SignatureInvalid):
        raise InvalidParameters({"url": ["Must be a URL, its escapes UTF-8."]}) from None
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidParameters({"url": [f"Must have no more than {MAX_PARAMETERS} parameters."]})
    if not path.startswith("/"):
        raise InvalidParameters({"url": ["Must have a path, such as /thumb."]})
    is_published_there = bool(prefix) and path.startswith(f"{prefix}/")
    return path.removeprefix(prefix) if is_published_there else path, parameters


def _described(diagnosis: Diagnosis, *, is_signable: bool) -> dict[str, object]:
    findings = diagnosis.findings if is_signable else (UNSIGNABLE, *diagnosis.findings)
    return {
        "valid": not findings,
        "string_to_sign": diagnosis.string_to_sign,
        "findings": [{"code": one.code, "detail": one.detail} for one in findings],
    }
