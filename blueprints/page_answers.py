"""What callers see of pages that are kept photographed."""

from __future__ import annotations

from typing import Any

from blueprints.error_problems import problem_of_error
from blueprints.job_answers import moment, whole_url, written_error
from blueprints.powers import SECRET
from thumbnailer.pages import Page, PageVersion


def page_path(page_id: str) -> str:
    return f"/pages/{page_id}"


def describe_page(page: Page, base_url: str) -> dict[str, Any]:
    """A page; its URLs start with ``base_url``, which may be empty."""
    error = None if page.error is None else written_error(page.error)
    return {
        "id": page.id,
        "status": page.state.value,
        "url": page.order.url,
        "options": {name: _told(name, value) for name, value in page.order.options.items()},
        "refresh_seconds": page.order.refresh_seconds,
        "webhook_url": page.order.webhook_url,
        "thumb_url": f"{base_url}{page_path(page.id)}/thumb" if page.versions else None,
        "created_at": moment(page.created_at),
        "refreshed_at": moment(page.refreshed_at),
        "next_refresh_at": moment(page.due_at),
        "failures": page.failures,
        "error": error and problem_of_error(error).slug,
        "error_detail": error and str(error),
        "versions": [_describe_version(version, base_url) for version in page.versions],
    }


def _told(option: str, value: Any) -> Any:
    """An option as it was written; secrets are told by their names alone, for webhooks tell others."""
    return dict.fromkeys(value, "…") if option in SECRET else value


def _describe_version(version: PageVersion, base_url: str) -> dict[str, Any]:
    return {
        "captured_at": moment(version.captured_at),
        "url": whole_url(version.stored_url, base_url),
        "content_type": version.content_type,
        "size_bytes": version.size_bytes,
        "sha256": version.sha256,
        "width": version.width,
        "height": version.height,
        "distance": version.distance,
    }
