"""What callers see of jobs, batches and webhook deliveries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from blueprints.error_problems import problem_of_error
from thumbnailer.errors import ThumbnailerError, UpstreamFailed
from thumbnailer.failures import restore
from thumbnailer.jobs import Batch, Job, JobResult, JobState
from thumbnailer.jobs.deliveries import Delivery


def job_path(job_id: str) -> str:
    return f"/jobs/{job_id}"


def batch_path(batch_id: str) -> str:
    return f"/batches/{batch_id}"


def describe_job(job: Job, base_url: str) -> dict[str, Any]:
    """A job; its URLs start with ``base_url``, which may be empty."""
    has_picture, result = job.state is JobState.COMPLETED, job.result
    error = written_error(job.error or {}) if job.state is JobState.FAILED else None
    return {
        "job_id": job.id,
        "status": job.state.value,
        "url": job.order.url,
        "status_url": base_url + job_path(job.id),
        "image_url": f"{base_url}{job_path(job.id)}/image" if has_picture else None,
        "batch_id": job.batch_id,
        "attempts": job.attempts,
        "created_at": moment(job.created_at),
        "started_at": moment(job.started_at),
        "completed_at": moment(job.completed_at),
        "error": error and problem_of_error(error).slug,
        "error_detail": error and str(error),
        "image": result and _facts_of(result),
        "stored": _stored(result, base_url) if result and result.object_key else None,
    }


def describe_batch(batch: Batch, base_url: str) -> dict[str, Any]:
    """A batch with all its jobs, in the order in which they were asked for."""
    states = [job.state for job in batch.jobs]
    ended = sum(state.is_final for state in states)
    return {
        "batch_id": batch.id,
        "status": "completed" if batch.completed_at else "processing" if ended else "pending",
        "status_url": base_url + batch_path(batch.id),
        "download_url": f"{base_url}{batch_path(batch.id)}/download",
        "total": len(states),
        "ended": ended,
        "counts": {state.value: states.count(state) for state in JobState},
        "created_at": moment(batch.created_at),
        "completed_at": moment(batch.completed_at),
        "jobs": [describe_job(job, base_url) for job in batch.jobs],
    }


def describe_delivery(delivery: Delivery) -> dict[str, Any]:
    """A webhook message and how it fared."""
    is_waiting = delivery.ended_at is None
    return {
        "id": delivery.id,
        "event": delivery.event,
        "subject": delivery.subject,
        "url": delivery.url,
        "status": delivery.state.value,
        "created_at": moment(delivery.created_at),
        "next_attempt_at": moment(delivery.due_at) if is_waiting else None,
        "ended_at": moment(delivery.ended_at),
        "attempts": [
            {
                "at": moment(attempt.at),
                "status": attempt.status,
                "trouble": attempt.trouble,
                "seconds": round(attempt.seconds, 3),
            }
            for attempt in delivery.log
        ],
    }


def moment(seconds: float | None) -> str | None:
    """Unix time as RFC 3339 has it."""
    return (
        None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    )


def _facts_of(result: JobResult) -> dict[str, Any]:
    return {
        "content_type": result.content_type,
        "size_bytes": result.size_bytes,
        "sha256": result.sha256,
        "width": result.width,
        "height": result.height,
        "captured_at": moment(result.captured_at),
        "cache": result.cache_status,
    }


def _stored(result: JobResult, base_url: str) -> dict[str, Any]:
    return {"key": result.object_key, "url": result.stored_url and whole_url(result.stored_url, base_url)}


def whole_url(url: str, base_url: str) -> str:
    """A URL of the storage; the local folder's are paths."""
    return base_url + url if url.startswith("/") else url


def written_error(described: Mapping[str, Any]) -> ThumbnailerError:
    """Why something failed, as far as this version knows the words of the one that wrote it down."""
    try:
        return restore(described)
    except (KeyError, ValueError, TypeError):
        return UpstreamFailed("The capture failed.")
