"""Jobs and webhooks, from the settings."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import structlog

from blueprints.job_answers import describe_batch, describe_job
from blueprints.page_answers import describe_page
from config import Settings
from thumbnailer.accounts import Accounts
from thumbnailer.database import Database
from thumbnailer.egress import GuardedSession
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.jobs import tables as job_tables
from thumbnailer.jobs.deliveries import DeliveryLedger
from thumbnailer.jobs.desk import JobDesk
from thumbnailer.jobs.events import Announcer
from thumbnailer.jobs.housekeeping import Housekeeper
from thumbnailer.jobs.leases import Leases
from thumbnailer.jobs.ledger import JobLedger
from thumbnailer.jobs.queue import WorkQueue
from thumbnailer.jobs.roster import Roster
from thumbnailer.jobs.running import DeliveryRunner, JobRunner, Studio
from thumbnailer.jobs.silent_receivers import SilentReceivers
from thumbnailer.jobs.sweeping import Sweeper, SweepRules
from thumbnailer.jobs.unqueued import Unqueued
from thumbnailer.pages import tables as page_tables
from thumbnailer.pages.ledger import PageLedger, PageRules
from thumbnailer.pages.refreshing import PageRunner
from thumbnailer.photographer import Photographer
from thumbnailer.storage import Storage
from thumbnailer.webhooks import Sender, SigningSecrets, UnsignedSender, WebhookSender
from wiring.queue import (
    DELIVERY_TASK,
    JOB_TASK,
    PAGE_TASK,
    SWEEP_TASK,
    CeleryQueue,
    EmbeddedWorker,
    LateCelery,
    Tasks,
    worker_id,
)
from wiring.trip import Trip

log = structlog.get_logger(__name__)

#: How often a working process looks for work that no queue holds, in seconds.
SWEEP_SECONDS = 2.0

#: How long a process whose database does not answer waits until it looks anew for what is left, in seconds.
RESUME_SECONDS = 1.0

#: Signs of life in the length of a lease: one may be missed.
SIGNS_PER_LEASE = 3

#: Beyond the time that a receiver has, until somebody else may try: for writing down how it went.
DELIVERY_MARGIN_SECONDS = 15.0

#: Beyond twice the time of a capture, until another may photograph a page: for storing it.
PAGE_MARGIN_SECONDS = 60.0


#: Where the work of each kind is written down.
WORK = {JOB_TASK: job_tables.jobs, DELIVERY_TASK: job_tables.deliveries, PAGE_TASK: page_tables.pages}


@dataclass(frozen=True, slots=True)
class Office:
    """What every process has that accepts jobs, does them or tells of them."""

    ledger: JobLedger
    deliveries: DeliveryLedger
    pages: PageLedger
    roster: Roster
    celery: LateCelery
    queue: WorkQueue
    unqueued: Unqueued
    sweeper: Sweeper

    def put_off(self, task: str, subject: str) -> None:
        """What could not be done without the database is done once it is back."""
        self.unqueued.hold(task, {subject})


@dataclass(frozen=True, slots=True)
class Workshop:
    """What a process has beside it that does jobs."""

    job_runner: JobRunner
    page_runner: PageRunner
    delivery_runner: DeliveryRunner
    leases: Leases
    housekeeper: Housekeeper

    @property
    def tasks(self) -> Tasks:
        return {
            JOB_TASK: self.job_runner.run,
            PAGE_TASK: self.page_runner.run,
            DELIVERY_TASK: self.delivery_runner.run,
            SWEEP_TASK: lambda _all: self.housekeeper.look_after(),
        }

    def close(self) -> None:
        self.housekeeper.close()
        self.leases.close()


def build_office(settings: Settings, database: Database) -> Office:
    """The books, and the queue."""
    base_url, jobs = settings.doors.public_base_url or "", settings.jobs
    announcer = Announcer(
        partial(describe_job, base_url=base_url), partial(describe_batch, base_url=base_url)
    )
    ledger = JobLedger(
        database,
        max_pending=jobs.queue,
        max_attempts=jobs.attempts,
        lease_seconds=jobs.lease_seconds,
        announce=announcer,
    )
    delivery_lease_seconds = settings.webhooks.timeout_seconds + DELIVERY_MARGIN_SECONDS
    deliveries = DeliveryLedger(
        database, pauses_seconds=settings.webhooks.pauses_seconds, lease_seconds=delivery_lease_seconds
    )
    celery, unqueued = LateCelery(settings), Unqueued(database, WORK)
    queue = CeleryQueue(celery, unqueued.add)
    page_rules = _page_rules(settings)
    rules = SweepRules(
        max_attempts=jobs.attempts,
        retention_seconds=jobs.retention_seconds,
        lease_seconds=max(jobs.lease_seconds, delivery_lease_seconds, page_rules.lease_seconds),
    )
    sweeper = Sweeper(database, ledger, queue, unqueued, rules)
    pages = PageLedger(database, page_rules, partial(describe_page, base_url=base_url))
    return Office(ledger, deliveries, pages, Roster(database), celery, queue, unqueued, sweeper)


def _page_rules(settings: Settings) -> PageRules:
    return PageRules(
        max_pages=settings.pages.limit,
        kept_versions=settings.pages.versions,
        changed_bits=settings.pages.changed_bits,
        lease_seconds=2 * settings.providers.timeout_seconds + PAGE_MARGIN_SECONDS,
    )


def build_workshop(
    settings: Settings,
    office: Office,
    trip: Trip,
    storage: Storage,
    accounts: Accounts,
    count_job: Callable[[str], None],
) -> Workshop:
    """The work itself; ``count_job`` hears what became of each attempt at a job."""
    leases = Leases(office.ledger, settings.jobs.lease_seconds / SIGNS_PER_LEASE)
    photographer = Photographer(
        accounts=accounts,
        thumbnails=trip.thumbnails,
        deadline_seconds=settings.providers.timeout_seconds,
    )
    studio = Studio(photographer=photographer, storage=storage, key_template=settings.storage.key_template)
    page_runner = PageRunner(
        ledger=office.pages, photographer=photographer, storage=storage, queue=office.queue
    )
    return Workshop(
        JobRunner(office.ledger, leases, studio, office.queue, retries=_retries(settings), count=count_job),
        page_runner,
        DeliveryRunner(
            office.deliveries,
            _sender(settings, trip),
            _silent_receivers(settings),
            at_once=max(1, settings.jobs.concurrency // 2),
        ),
        leases,
        Housekeeper(office.sweeper, office.roster, worker_id, SWEEP_SECONDS, page_runner.tidy),
    )


def _silent_receivers(settings: Settings) -> SilentReceivers:
    """A message is not to fail without ever having been tried: so the rest is no longer than a pause."""
    webhooks = settings.webhooks
    longest_pause_seconds = max(webhooks.pauses_seconds, default=0.0)
    return SilentReceivers(
        max_silences=webhooks.silences, rest_seconds=min(webhooks.rest_seconds, longest_pause_seconds)
    )


def _retries(settings: Settings) -> int:
    """No more than a job may be begun after its first attempt."""
    return min(settings.jobs.retries, settings.jobs.attempts - 1)


def _sender(settings: Settings, trip: Trip) -> Sender:
    if not settings.webhooks.secrets:
        return UnsignedSender()
    return WebhookSender(
        GuardedSession(trip.guard, pool_size=settings.jobs.concurrency),
        SigningSecrets(settings.webhooks.secrets),
        timeout_seconds=settings.webhooks.timeout_seconds,
    )


class WebJobs:
    """The jobs of a web process: it accepts them, and does them itself where there is no Redis."""

    def __init__(self, office: Office, workshop: Workshop | None) -> None:
        self._office = office
        self._workshop = workshop
        self._worker = EmbeddedWorker(office.celery, workshop.tasks, office.put_off) if workshop else None
        self._opening = threading.Lock()
        self._closed = threading.Event()
        self.desk = JobDesk(
            office.ledger,
            office.deliveries,
            office.pages,
            office.roster,
            office.queue,
            wake=self._wake,
        )

    def resume(self) -> None:
        """Go on with what an earlier process has left, if it has left anything; does not wait for it."""
        if self._workshop is not None:
            self._look_after(self._open_for_leftovers)

    def close(self) -> None:
        """Begin nothing new; what is being done falls to another process unless it ends in time."""
        self._closed.set()
        if self._workshop is not None and self._worker is not None:
            self._worker.stop()
            self._workshop.close()

    def _look_after(self, what: Callable[[], None]) -> None:
        threading.Thread(target=what, name="resume", daemon=True).start()

    def _open_for_leftovers(self) -> None:
        while not self._closed.is_set():
            try:
                if self._office.sweeper.has_work():
                    self._open_at_last()
            except DatabaseUnavailable as error:
                log.warning("jobs_not_resumed", detail=str(error))
                self._closed.wait(RESUME_SECONDS)
            else:
                return

    def _wake(self) -> None:
        """Start the worker with the first job: who has none pays nothing for it.

        Where that cannot be done now, as in a process that may have no more threads, it is tried again: the
        job is in the books, and whoever ordered it has been promised it.
        """
        if not self._open():
            try:
                self._look_after(self._open_at_last)
            except RuntimeError as error:  # no thread even for that: the next job tries again
                log.warning("jobs_not_resumed", detail=str(error))

    def _open_at_last(self) -> None:
        while not self._closed.is_set() and not self._open():
            self._closed.wait(RESUME_SECONDS)

    def _open(self) -> bool:
        """Whether the worker, where there is to be one, has been started."""
        if self._workshop is None or self._worker is None:
            return True
        with self._opening:
            try:
                self._worker.start()
                self._workshop.housekeeper.start()
            except Exception:
                log.exception("worker_not_started")
                return False
            return True


def build_web_jobs(
    settings: Settings,
    database: Database,
    trip: Trip,
    storage: Storage,
    accounts: Accounts,
    count_job: Callable[[str], None],
) -> WebJobs:
    """What a web process needs to accept jobs and, without Redis, to do them."""
    office = build_office(settings, database)
    is_embedded = settings.cache.redis_url is None
    workshop = build_workshop(settings, office, trip, storage, accounts, count_job) if is_embedded else None
    return WebJobs(office, workshop)
