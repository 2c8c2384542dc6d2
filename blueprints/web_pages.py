"""The pages that people read in a browser: nothing of them comes from elsewhere, nobody frames them."""

from __future__ import annotations

from flask import Response


def web_page(html: str, policy: str) -> Response:
    """A page under a Content-Security-Policy of its own; it tells nobody where its reader comes from."""
    response = Response(html, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
