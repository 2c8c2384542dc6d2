"""Where callers leave jobs and ask after them."""

from __future__ import annotations

import time
from collections.abc import Callable

from thumbnailer.jobs import Backlog, Batch, BatchOrder, Job, JobOrder
from thumbnailer.jobs.deliveries import DeliveryLedger
from thumbnailer.jobs.ledger import JobLedger
from thumbnailer.jobs.order_keys import OrderKey
from thumbnailer.jobs.queue import WorkQueue
from thumbnailer.jobs.roster import Roster
from thumbnailer.model import Deadline
from thumbnailer.pages import Page, PageOrder
from thumbnailer.pages.ledger import PageLedger

FIRST_LOOK_SECONDS = 0.05
LONGEST_LOOK_SECONDS = 0.5


class JobDesk:
    """Takes orders, and looks after them; its methods raise ``DatabaseUnavailable``.

    ``wake`` is called when there is something to do.
    """

    def __init__(
        self,
        ledger: JobLedger,
        deliveries: DeliveryLedger,
        pages: PageLedger,
        roster: Roster,
        queue: WorkQueue,
        *,
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._roster = roster
        self.deliveries = deliveries
        self.pages = pages
        self._queue = queue
        self._wake = wake

    def accept(self, order: JobOrder, owner: str, key: OrderKey | None = None) -> Job:
        """Write a job down and hand it on; the one that is there where the order came with this key before.

        Raises Overloaded where too many wait, IdempotencyMismatch where the key came with another order.
        """
        job = self._ledger.accept(order, owner, key)
        self._queue.put_job(job.id)
        self._wake()
        return job

    def accept_batch(self, order: BatchOrder, owner: str, key: OrderKey | None = None) -> Batch:
        """The same for a whole batch, or for nothing of it."""
        batch, messages = self._ledger.accept_batch(order, owner, key)
        for job in batch.jobs:
            if not job.state.is_final:
                self._queue.put_job(job.id)
        for delivery_id in messages:
            self._queue.put_delivery(delivery_id)
        self._wake()
        return batch

    def find(self, job_id: str) -> Job | None:
        """The job of that id."""
        return self._ledger.find(job_id)

    def find_batch(self, batch_id: str) -> Batch | None:
        """The batch of that id."""
        return self._ledger.find_batch(batch_id)

    def cancel(self, job_id: str) -> Job | None:
        """End a job that nobody has begun; the job as it stands then, None where there is none."""
        for delivery_id in self._ledger.cancel(job_id):
            self._queue.put_delivery(delivery_id)
            self._wake()
        return self._ledger.find(job_id)

    def redeliver(self, delivery_id: str) -> None:
        """Send a message again, if there is one of that id."""
        if self.deliveries.redeliver(delivery_id):
            self._queue.put_delivery(delivery_id)
            self._wake()

    def keep_page(self, order: PageOrder, owner: str, key: OrderKey | None = None) -> Page:
        """Keep a page photographed from now on; the key and what is raised are as for ``accept``."""
        return self._begin(self.pages.add(order, owner, key))

    def amend_page(self, page: Page, order: PageOrder) -> Page | None:
        """Keep a page another way from now on; None where it was forgotten meanwhile."""
        amended = self.pages.amend(page, order)
        return self._begin(amended) if amended else None

    def _begin(self, page: Page) -> Page:
        self._queue.put_page(page.id)
        self._wake()
        return page

    def backlog(self) -> Backlog:
        """How much is still to be done, and by how many."""
        return self._ledger.backlog(self._roster.count())

    def wait(self, job: Job, seconds: float) -> Job:
        """The job once it has ended, or as it stands after ``seconds``."""
        deadline, pause = Deadline.after(seconds), FIRST_LOOK_SECONDS
        while not job.state.is_final and not deadline.has_passed():
            time.sleep(min(pause, deadline.remaining_seconds()))
            pause = min(LONGEST_LOOK_SECONDS, pause * 1.5)
            job = self._ledger.find(job.id) or job
        return job
