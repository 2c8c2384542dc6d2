"""What every picture answers to who has it, or wants a part or another version: RFC 9110, section 13."""

from __future__ import annotations

from flask.testing import FlaskClient


def assert_conditions_hold(client: FlaskClient, url: str) -> None:
    """Both validators are given and heeded, and parts are sent, of the picture at ``url``."""
    whole = client.get(url, buffered=True)
    etag, modified = whole.headers["ETag"], whole.headers["Last-Modified"]
    for held in ({"If-None-Match": etag}, {"If-Modified-Since": modified}):
        answer = client.get(url, headers=held, buffered=True)
        assert (answer.status_code, answer.data) == (304, b"")
    part = client.get(url, headers={"Range": "bytes=0-9", "If-Range": etag}, buffered=True)
    assert (part.status_code, part.data) == (206, whole.data[:10])
    refused = client.get(url, headers={"If-Match": '"other"'}, buffered=True)
    assert (refused.status_code, refused.content_type) == (412, "application/problem+json")
    assert refused.headers["Cache-Control"] == "no-store"
    beyond = client.get(url, headers={"Range": f"bytes={len(whole.data)}-"}, buffered=True)
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(whole.data)}")
