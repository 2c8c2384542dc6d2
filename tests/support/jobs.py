"""Waiting for jobs as callers do."""

from __future__ import annotations

from typing import Any

from flask.testing import FlaskClient

from tests.support.processes import wait_until

FINAL = ("completed", "failed", "cancelled")


def ended(client: FlaskClient, path: str, seconds: float = 30) -> dict[str, Any]:
    """The document at ``path`` once its job or batch has ended."""
    shown: dict[str, Any] = {}

    def has_ended() -> bool:
        shown.update(client.get(path).get_json())
        return shown["status"] in FINAL

    wait_until(has_ended, seconds=seconds)
    return shown
