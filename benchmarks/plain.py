"""The plainest view that answers with a picture: what hits are compared with."""

from __future__ import annotations

from flask import Flask, Response

from tests.support.pictures import big_png

BODY_BYTES = 60_000
BODY = b"".join(big_png(BODY_BYTES))

app = Flask(__name__)


@app.get("/thumb")
def thumb() -> Response:
    """The same bytes each time, from memory."""
    return Response(BODY, content_type="image/png")
