"""A service that does jobs, and waiting for them as callers do."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

from flask.testing import FlaskClient

from tests.support.processes import wait_until
from tests.support.service import snapapi_environment
from tests.support.upstream import Upstream

FINAL = ("completed", "failed", "cancelled")
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def ended(client: FlaskClient, path: str, seconds: float = 30) -> dict[str, Any]:
    """The document at ``path`` once its job or batch has ended."""
    shown: dict[str, Any] = {}

    def has_ended() -> bool:
        shown.update(client.get(path).get_json())
        return shown["status"] in FINAL

    wait_until(has_ended, seconds=seconds)
    return shown


#: A service that sends webhooks, soon and to this machine, and bounds and presets what may be ordered.
TELLING = {
    "WEBHOOK_SECRET": SECRET,
    "WEBHOOK_RETRIES": "0.1,0.1",
    "ALLOWED_PRIVATE_TARGETS": "127.0.0.0/8",
    "PRESETS": "card:thumb_width=64,format=webp",
    "TTL_MIN": "120",
}


def environment(upstream: Upstream, folder: Path, **more: str) -> dict[str, str]:
    return snapapi_environment(
        upstream.url,
        DATABASE_URL=f"sqlite:///{folder}/jobs.sqlite3",
        MEDIA_DIR=str(folder / "media"),
        RATELIMIT_ENABLED="false",
        **more,
    )
