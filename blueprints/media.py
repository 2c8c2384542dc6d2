"""Stored images, where the storage is a local folder."""

from __future__ import annotations

from datetime import UTC, datetime

import flask
from flask import Response

from blueprints.answers import SAFETY_HEADERS
from blueprints.openapi import (
    PICTURE_TYPES,
    READ_PROBLEMS,
    StrictBlueprint,
    answers_not_modified,
    answers_problems,
)
from thumbnailer.storage import CACHE_CONTROL, LocalStorage

MEDIA_PREFIX = "/media/"


def media_blueprint(storage: LocalStorage) -> StrictBlueprint:
    """The door to a local storage; an object storage has its own."""
    blueprint = StrictBlueprint("media", __name__, description="Pictures that were stored for good.")

    def media(key: str) -> Response:
        """A stored image."""
        stored = storage.open(key)
        response = flask.send_file(
            stored.path,
            mimetype=stored.image.content_type,
            conditional=True,
            etag=stored.image.etag,
            last_modified=datetime.fromtimestamp(stored.image.captured_at, UTC),
        )
        response.headers["Cache-Control"] = CACHE_CONTROL
        response.headers.update(SAFETY_HEADERS)
        return response

    documented = answers_problems(blueprint, READ_PROBLEMS)(
        answers_not_modified(blueprint, PICTURE_TYPES)(media)
    )
    blueprint.get(f"{MEDIA_PREFIX}<path:key>")(documented)
    return blueprint
