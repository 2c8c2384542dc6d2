"""Doing a job: its picture, its place in the storage, its end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from thumbnailer.accounts import account_of_owner
from thumbnailer.errors import (
    CaptureLost,
    NotARealPicture,
    Overloaded,
    StorageUnavailable,
    ThumbnailerError,
    UpstreamError,
    UpstreamFailed,
)
from thumbnailer.jobs import Claim, JobOrder, JobResult
from thumbnailer.jobs.deliveries import DeliveryLedger
from thumbnailer.jobs.leases import Leases
from thumbnailer.jobs.ledger import JobLedger, Messages
from thumbnailer.jobs.queue import WorkQueue
from thumbnailer.jobs.silent_receivers import SilentReceivers
from thumbnailer.keeping import keep
from thumbnailer.photographer import Photographer
from thumbnailer.storage import Storage
from thumbnailer.webhooks import Attempt, Message, Sender, Verdict

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 900.0

#: Until so long after a message has left room, the next waits for some: where they come and go there will be.
PATIENCE_SECONDS = 0.5

#: What is neither the target's fault nor that of the request: a later attempt may bring the picture.
PASSING = (CaptureLost, Overloaded, StorageUnavailable, UpstreamError)

UNTRIED = Attempt(Verdict.FAILED, trouble="Not tried: the receiver did not answer the last messages in time.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Studio:
    """Brings what an order asks for: from the cache, or new; and stores it where it is to be kept."""

    photographer: Photographer
    storage: Storage
    key_template: str

    def bring(self, order: JobOrder, owner: str) -> JobResult:
        """Take the picture, on the account of ``owner``. Raises any of the tree."""
        request = order.request
        if request is None:
            raise UpstreamFailed("The capture failed.")
        delivery = self.photographer.take(request, account_of_owner(owner), order.ttl_seconds)
        stored = keep(self.storage, self.key_template, request, delivery) if order.persist else None
        record = delivery.capture.record
        return JobResult(
            content_type=record.content_type,
            size_bytes=record.size_bytes,
            sha256=record.sha256,
            width=record.width,
            height=record.height,
            captured_at=record.captured_at,
            cache_status=delivery.cache_status.value,
            object_key=stored.image.key if stored else None,
            stored_url=stored.image.url if stored else None,
        )


class JobRunner:
    """Does jobs, from any thread.

    What is ``PASSING`` is tried again up to ``retries`` times, after growing pauses; what is the
    target's or the request's fault ends the job at once. ``count`` hears what became of each attempt:
    completed, failed or postponed.
    """

    def __init__(
        self,
        ledger: JobLedger,
        leases: Leases,
        studio: Studio,
        queue: WorkQueue,
        *,
        retries: int,
        count: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._leases = leases
        self._studio = studio
        self._retries = retries
        self._count = count

    def run(self, job_id: str) -> None:
        """Do a job, unless it has ended or another does it. Raises DatabaseUnavailable."""
        claim = self._ledger.claim(job_id)
        if claim is None:
            return
        with self._leases.held(claim):
            messages = self._do(claim)
        for delivery_id in messages:
            self._queue.put_delivery(delivery_id)

    def _do(self, claim: Claim) -> Messages:
        try:
            result = self._studio.bring(claim.job.order, claim.job.owner)
        except ThumbnailerError as error:
            return self._put_back_or_fail(claim, error)
        except Exception:
            log.exception("job_broke", job_id=claim.job.id)
            return self._fail(claim, UpstreamFailed("The capture failed."))
        self._count("completed")
        return self._ledger.complete(claim, result)

    def _put_back_or_fail(self, claim: Claim, error: ThumbnailerError) -> Messages:
        # Where an old picture could have been stored instead, what kept a new one from coming.
        cause = error.__cause__ if isinstance(error, NotARealPicture) else error
        log.info("job_attempt_failed", job_id=claim.job.id, error=type(cause or error).__name__)
        if not isinstance(cause, PASSING) or not cause.retryable or claim.job.attempts > self._retries:
            return self._fail(claim, error)
        growing = FIRST_PAUSE_SECONDS * 2 ** (claim.job.attempts - 1)
        pause = min(LONGEST_PAUSE_SECONDS, max(growing, cause.retry_after_seconds or 0.0))
        self._count("postponed")
        self._ledger.postpone(claim, error, pause)
        return ()

    def _fail(self, claim: Claim, error: ThumbnailerError) -> Messages:
        self._count("failed")
        return self._ledger.fail(claim, error)


class DeliveryRunner:
    """Sends messages, from any thread, ``at_once`` at a time.

    The threads are those of the jobs: receivers that let everybody wait must not have all of them, nor
    have those of the other receivers. What is not tried for that reason counts as an attempt, so that the
    messages to one that is gone for good come to an end.
    """

    def __init__(
        self,
        ledger: DeliveryLedger,
        sender: Sender,
        receivers: SilentReceivers,
        *,
        at_once: int,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._receivers = receivers
        self._room = threading.BoundedSemaphore(at_once)
        self._left_at = -math.inf

    def run(self, delivery_id: str) -> None:
        """Make an attempt, unless none is due or another makes it. Raises DatabaseUnavailable."""
        patience_seconds = max(0.0, self._left_at + PATIENCE_SECONDS - time.monotonic())
        if not self._room.acquire(timeout=patience_seconds):
            self._ledger.put_off(delivery_id)
            return
        try:
            self._attempt(delivery_id)
        finally:
            self._left_at = time.monotonic()
            self._room.release()

    def _attempt(self, delivery_id: str) -> None:
        claim = self._ledger.claim(delivery_id)
        if claim is None:
            return
        attempt, seconds = self._try(claim.message, claim.owner)
        log.info(
            "webhook_attempt",
            delivery_id=delivery_id,
            verdict=attempt.verdict.value,
            status=attempt.status,
            trouble=attempt.trouble,
        )
        self._ledger.record(claim, attempt, seconds)

    def _try(self, message: Message, owner: str) -> tuple[Attempt, float]:
        """How it went, and for how many seconds it was tried."""
        if not self._receivers.may_be_called(owner, message.url):
            return UNTRIED, 0.0
        started_at = time.monotonic()
        attempt = self._sender.send(message)
        seconds = time.monotonic() - started_at
        self._receivers.note(owner, message.url, has_answered=attempt.status is not None, seconds=seconds)
        return attempt, seconds
