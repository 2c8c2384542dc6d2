"""Pages to keep, and looks at them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient
from PIL import Image, ImageDraw
from sqlalchemy import update

from blueprints.services import EXTENSION, Services
from tests.support.processes import wait_until
from tests.support.service import TARGET
from thumbnailer.pages.tables import pages

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def look(number: int, *, speck: bool = False) -> bytes:
    """A picture that looks unlike those of other numbers; with a ``speck``, alike to the eye alone."""
    picture = Image.new("RGB", (640, 360), "white")
    draw = ImageDraw.Draw(picture)
    for stripe in range(6):
        left = (stripe * 97 + number * 53) % 600
        draw.rectangle((left, 0, left + 30 + 9 * number, 360 - 40 * stripe), fill=(20 * number, 60, 90))
    if speck:
        picture.putpixel((3, 350), (250, 250, 250))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return content.getvalue()


def keep(client: FlaskClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/pages", json={"url": TARGET, **body})
    assert answer.status_code == 202, answer.get_json()
    shown: dict[str, Any] = answer.get_json()
    return shown


def seen(client: FlaskClient, page_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = client.get(f"/pages/{page_id}").get_json()
    return shown


def when(client: FlaskClient, page_id: str, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The page once something holds of it."""
    shown: dict[str, Any] = {}

    def has_come() -> bool:
        shown.update(seen(client, page_id))
        return holds(shown)

    wait_until(has_come)
    return shown


def ready(client: FlaskClient, page_id: str, versions: int = 1) -> dict[str, Any]:
    return when(client, page_id, lambda page: page["status"] == "ready" and len(page["versions"]) == versions)


def fall_due(client: FlaskClient, page_id: str) -> None:
    """As if the page's time had come, and its capture in the cache had grown old."""
    services: Services = client.application.extensions[EXTENSION]
    with services.database.transaction() as connection:
        connection.execute(
            update(pages).where(pages.c.id == page_id).values(due_at=0, queued_at=None, refresh_seconds=0)
        )
