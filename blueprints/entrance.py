"""What every request has to pass before it comes to a door, and what every answer wears."""

from __future__ import annotations

import flask
from flask import Response
from werkzeug.exceptions import LengthRequired, NotFound, UnsupportedMediaType

from thumbnailer.errors import InvalidParameters

#: An answer that nobody made for a browser: it shows nothing there, and no other site embeds it.
CLOSED_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def register_entrance(app: flask.Flask) -> None:
    """Stand before every door of ``app``."""
    # Flask would send a caller who wrote a slash too many to the right address at the host they named.
    app.url_map.merge_slashes = False
    app.before_request(_refuse_odd_host)
    app.before_request(_refuse_odd_path)
    app.before_request(_refuse_odd_body)
    app.after_request(_close)


def _refuse_odd_host() -> None:
    """Refuse a host that could not stand in a URL of an answer: RFC 9112, section 3.2.

    Raises:
        InvalidParameters: it names none.
    """
    is_old = flask.request.environ.get("SERVER_PROTOCOL") == "HTTP/1.0"
    is_named = "Host" in flask.request.headers
    if (is_named and not flask.request.host) or not (is_named or is_old):
        raise InvalidParameters({"Host": ["Must name the host that the request is for."]})


def _refuse_odd_path() -> None:
    """Refuse what neither a file nor PostgreSQL can be asked for; raises NotFound."""
    if "\0" in flask.request.path:
        raise NotFound


def _refuse_odd_body() -> None:
    """Refuse a body that does not say how long it is, is not as long as it says, or is encoded.

    Beyond the limit, one without a length would be cut off in silence; a few bytes of gzip can unfold
    to any size.

    Raises:
        LengthRequired: RFC 9110, section 15.5.12.
        UnsupportedMediaType: RFC 9110, section 15.5.16.
        RequestEntityTooLarge: it is longer than MAX_BODY_BYTES.
        InvalidParameters: it ends too early.
    """
    request = flask.request
    if "Transfer-Encoding" in request.headers:
        raise LengthRequired
    if request.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise UnsupportedMediaType
    if request.content_length and len(request.get_data()) != request.content_length:
        raise InvalidParameters({}, "The body is shorter than its Content-Length.")


def _close(response: Response) -> Response:
    for name, text in CLOSED_HEADERS.items():
        response.headers.setdefault(name, text)
    return response
