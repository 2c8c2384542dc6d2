"""Stored images, where the storage is a local folder."""

from __future__ import annotations

from datetime import UTC, datetime

import flask
from flask import Response
from werkzeug.exceptions import NotFound

from blueprints.access import OPEN, needs
from blueprints.answers import SAFETY_HEADERS
from blueprints.conditions import answer_conditionally
from blueprints.documented_headers import STORED_HEADERS
from blueprints.openapi import (
    MEDIA_PROBLEMS,
    PICTURE_TYPES,
    answers_pictures_to_get,
    answers_problems,
)
from blueprints.strict_blueprint import StrictBlueprint
from thumbnailer.local_storage import LocalStorage
from thumbnailer.storage import CACHE_CONTROL

MEDIA_PREFIX = "/media/"


def media_blueprint(storage: LocalStorage) -> StrictBlueprint:
    """The door to a local storage; an object storage has its own."""
    blueprint = StrictBlueprint("media", __name__, description="Pictures that were stored for good.")

    @blueprint.get(f"{MEDIA_PREFIX}<path:key>")
    @needs(OPEN)
    @answers_pictures_to_get(blueprint, PICTURE_TYPES, STORED_HEADERS)
    @answers_problems(blueprint, MEDIA_PROBLEMS)
    def media(key: str) -> Response:
        """A stored image."""
        stored = storage.open(key)
        try:
            response = flask.send_file(
                stored.path,
                mimetype=stored.image.content_type,
                conditional=False,
                etag=stored.image.etag,
                last_modified=datetime.fromtimestamp(stored.image.captured_at, UTC),
            )
        except FileNotFoundError:  # deleted a moment ago
            raise NotFound from None
        response.headers["Cache-Control"] = CACHE_CONTROL
        response.headers.update(SAFETY_HEADERS)
        return answer_conditionally(response, stored.image.size_bytes)

    return blueprint
