"""Jobs and batches between their dataclasses and the database's rows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from thumbnailer.jobs import Batch, Job, JobOrder, JobResult, JobState
from thumbnailer.thumbnails import ThumbnailRequest
from thumbnailer.written_requests import read_request, write_request

log = structlog.get_logger(__name__)

ID_BYTES = 16


def new_id(prefix: str) -> str:
    """An id that nobody can guess."""
    return f"{prefix}_{secrets.token_urlsafe(ID_BYTES)}"


def write_order(order: JobOrder) -> dict[str, Any]:
    """The columns of an order."""
    return {
        "request": write_request(order.request) if order.request else None,
        "url": order.url,
        "ttl_seconds": order.ttl_seconds,
        "persist": order.persist,
        "webhook_url": order.webhook_url,
    }


def read_job(row: Mapping[Any, Any]) -> Job:
    """A job from its row."""
    return Job(
        id=row["id"],
        owner=row["owner"],
        batch_id=row["batch_id"],
        position=row["position"],
        state=JobState(row["state"]),
        order=JobOrder(
            request=_read_request(row["request"]),
            url=row["url"],
            ttl_seconds=row["ttl_seconds"],
            persist=row["persist"],
            webhook_url=row["webhook_url"],
        ),
        attempts=row["attempts"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        completed_at=row["completed_at"],
        error=row["error"],
        result=JobResult(**row["result"]) if row["result"] else None,
    )


def _read_request(written: str | None) -> ThumbnailRequest | None:
    """None where a newer version has written what this one does not know: the job fails, and no other."""
    try:
        return read_request(written) if written else None
    except ValueError as error:
        log.warning("job_unreadable", detail=str(error))
        return None


def read_batch(row: Mapping[Any, Any], members: Sequence[Mapping[Any, Any]]) -> Batch:
    """A batch from its row and its jobs' rows."""
    return Batch(
        id=row["id"],
        owner=row["owner"],
        created_at=row["created_at"],
        completed_at=row["completed_at"],
        jobs=[read_job(member) for member in members],
    )
