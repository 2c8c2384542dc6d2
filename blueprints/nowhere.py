"""Addresses and methods that are none, told of in the way of whoever's addresses begin alike."""

from __future__ import annotations

import flask
from flask import Response
from werkzeug.exceptions import HTTPException

from blueprints import dialects, vendor_errors
from blueprints.errors import answer_refusal

REFUSALS = {dialects.ROOT: dialects.hermesforge_refusal, vendor_errors.ROOT: vendor_errors.vendor_refusal}


def register_nowhere(app: flask.Flask) -> None:
    """Let ``app`` answer 404 and 405 so; blueprints hear of neither, for there is no route."""
    for status in (404, 405):
        app.register_error_handler(status, _refuse)


def _refuse(error: HTTPException) -> Response | HTTPException:
    path = flask.request.path
    refuse = next((refuse for root, refuse in REFUSALS.items() if path.startswith(root)), answer_refusal)
    return refuse(error)
