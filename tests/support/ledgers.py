"""What the tests of the ledger order and let fail."""

from __future__ import annotations

from tests.support.clocks import Clock
from thumbnailer.database import Database
from thumbnailer.errors import TargetStatus
from thumbnailer.jobs import Job, JobOrder
from thumbnailer.jobs.events import Announcer
from thumbnailer.jobs.ledger import JobLedger
from thumbnailer.jobs.sweeping import Sweeper, SweepRules
from thumbnailer.jobs.unqueued import Unqueued
from thumbnailer.model import CaptureRequest
from thumbnailer.thumbnails import ThumbnailRequest

HOUR = 3600.0
LEASE_SECONDS = 15.0
ATTEMPTS = 3


def ledger_of(database: Database, clock: Clock, max_pending: int = 100) -> JobLedger:
    return JobLedger(
        database,
        max_pending=max_pending,
        max_attempts=ATTEMPTS,
        lease_seconds=LEASE_SECONDS,
        announce=Announcer(lambda job: {"job_id": job.id}, lambda batch: {"batch_id": batch.id}),
        clock=clock,
    )


def order(webhook_url: str | None = None) -> JobOrder:
    url = "https://page.example/"
    request = ThumbnailRequest(CaptureRequest(url=url))
    return JobOrder(request=request, url=url, ttl_seconds=60, webhook_url=webhook_url)


class Queue:
    """Takes note of what is put into it."""

    def __init__(self) -> None:
        self.jobs: list[str] = []
        self.deliveries: list[str] = []

    def put_job(self, job_id: str) -> None:
        self.jobs.append(job_id)

    def put_delivery(self, delivery_id: str) -> None:
        self.deliveries.append(delivery_id)

    def put_page(self, page_id: str) -> None: ...

    def is_empty(self) -> bool | None:
        return self.is_idle

    is_idle: bool | None = True


def sweeper_of(
    database: Database, ledger: JobLedger, clock: Clock, queue: Queue, unqueued: Unqueued | None = None
) -> Sweeper:
    rules = SweepRules(max_attempts=ATTEMPTS, retention_seconds=HOUR, lease_seconds=LEASE_SECONDS)
    return Sweeper(database, ledger, queue, unqueued or Unqueued(database, {}), rules, clock)


def failed_job(ledger: JobLedger, webhook_url: str) -> Job:
    job = ledger.accept(order(webhook_url), "owner")
    claim = ledger.claim(job.id)
    assert claim is not None
    ledger.fail(claim, TargetStatus(404))
    return job
