"""The playground: a page at ``/`` on which people try the options of ``/thumb`` and see what they get.

It is for whoever has just started the service, and for those who write its URLs by hand. It holds nothing
that needs a key, and names no provider; whatever a visitor does on it is a request like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import flask
from flask import Response, render_template

from blueprints.access import OPEN, needs
from blueprints.documented_headers import text_header
from blueprints.openapi import PLAIN_TEXT, answers_not_modified
from blueprints.playground_options import offered_groups, offered_starts
from blueprints.services import services
from blueprints.strict_blueprint import StrictBlueprint
from blueprints.web_pages import web_page
from thumbnailer.errors import DatabaseUnavailable

#: Its own style, script and pictures, requests to this service and no other, and the captures, as blobs.
PLAYGROUND_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
PAGE_HEADERS = {"ETag": text_header("The entity tag of the page.")}
#: Ask each time: it changes with the settings, and when the service closes.
CACHE_CONTROL = "no-cache"


def playground_blueprint(thumb_defaults: Mapping[str, str]) -> StrictBlueprint:
    """The page; ``thumb_defaults`` are the operator's defaults of ``/thumb``, as written."""
    blueprint = StrictBlueprint("playground", __name__, description="For people who try the service.")

    @cache
    def html(*, is_closed: bool) -> str:
        """The page, which nothing else of a request goes into."""
        presets = services().gate.public_presets if is_closed else services().presets
        return render_template(
            "playground.html",
            groups=offered_groups(thumb_defaults),
            starts=offered_starts(),
            is_closed=is_closed,
            presets=sorted(presets),
            can_sign=services().signer is not None,
            base_url=services().public_base_url or "",
        )

    # A request without any path would otherwise be sent to this one, at whatever host it names.
    @blueprint.get("/", strict_slashes=False)
    @needs(OPEN)
    @blueprint.response(
        200, PLAIN_TEXT, content_type="text/html", description="The page.", headers=PAGE_HEADERS
    )
    @answers_not_modified(blueprint, PAGE_HEADERS)
    def playground() -> Response:
        """The page on which people try the options of /thumb."""
        response = web_page(html(is_closed=_is_closed()), PLAYGROUND_POLICY)
        response.headers["Cache-Control"] = CACHE_CONTROL
        response.add_etag()
        response.make_conditional(flask.request)
        return response

    return blueprint


def _is_closed() -> bool:
    """Whether anything is needed of a caller; so it is as long as nobody can tell."""
    try:
        return not services().gate.is_open()
    except DatabaseUnavailable:
        return True
