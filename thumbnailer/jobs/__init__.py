"""Captures that are taken behind the response: what a job and a batch are.

A job is accepted once it is written down, and stays written down until it has ended and has been
kept for a while: the database is the truth, the queue only a hint that there is work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from thumbnailer.errors import ThumbnailerError
from thumbnailer.thumbnails import ThumbnailRequest


class JobState(StrEnum):
    """Where a job stands; the last three are final."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOrder:
    """What a caller wants done.

    ``url`` is the target as the caller wrote it; ``ttl_seconds`` the oldest picture that will do;
    ``persist`` says that it is stored for good; ``webhook_url`` is told when the job ends. An order
    that can never be done has a ``refusal`` in place of a request: in a batch it has a job all the
    same, which has failed from the start.
    """

    request: ThumbnailRequest | None
    url: str
    ttl_seconds: int
    persist: bool = False
    webhook_url: str | None = None
    refusal: ThumbnailerError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOrder:
    """Jobs that belong together; ``webhook_url`` is told once, when the last of them has ended."""

    jobs: Sequence[JobOrder]
    webhook_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """The picture that a job has brought.

    ``captured_at`` is Unix time in seconds; ``width`` and ``height`` are image pixels, None for a
    PDF. ``object_key`` and ``stored_url`` are those of the stored image, where it was to be stored.
    """

    content_type: str
    size_bytes: int
    sha256: str
    width: int | None
    height: int | None
    captured_at: float
    cache_status: str
    object_key: str | None = None
    stored_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as it is written down.

    ``owner`` names the caller it belongs to; ``position`` is its place in its batch, from 0; times
    are Unix time in seconds; ``attempts`` counts how often it was begun; ``error`` is why it
    failed, as ``thumbnailer.failures.describe`` puts it.
    """

    id: str
    owner: str
    batch_id: str | None
    position: int
    state: JobState
    order: JobOrder
    attempts: int
    created_at: float
    started_at: float | None
    completed_at: float | None
    error: Mapping[str, Any] | None
    result: JobResult | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch as it is written down; ``jobs`` are in the order in which they were asked for."""

    id: str
    owner: str
    created_at: float
    completed_at: float | None
    jobs: Sequence[Job]


@dataclass(frozen=True, slots=True)
class Claim:
    """The right to do a job, until its lease ends; ``token`` proves it."""

    job: Job
    token: str


@dataclass(frozen=True, slots=True)
class Backlog:
    """What is still to be done, and by how many.

    Jobs by state; for how many seconds the oldest of them has waited for its end; workers alive.
    """

    pending: int
    processing: int
    oldest_seconds: float
    workers: int

    @property
    def is_stuck(self) -> bool:
        """Whether jobs wait and nobody is there to do them."""
        return self.pending + self.processing > 0 and self.workers == 0
