"""The queue by Celery: on Redis for workers of their own, else in this very process."""

from __future__ import annotations

import importlib
import os
import secrets
import socket
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import structlog
from redis.exceptions import RedisError

from config import Settings
from thumbnailer.cooldown import CoolDown
from thumbnailer.errors import DatabaseUnavailable
from wiring.trip import redis_bounds

if TYPE_CHECKING:
    from celery import Celery
    from celery.worker import WorkController

log = structlog.get_logger(__name__)

QUEUE = "thumbnailer"
JOB_TASK = "thumbnailer.job"
DELIVERY_TASK = "thumbnailer.delivery"
PAGE_TASK = "thumbnailer.page"
SWEEP_TASK = "thumbnailer.sweep"

#: How often Celery's beat has a sweep made, where it runs. Workers sweep by themselves as well, more often.
BEAT_SECONDS = 10.0

#: How often a queue in memory is looked at, in seconds.
MEMORY_POLL_SECONDS = 0.1

#: Redis hands a message out again that was not acknowledged for so long, in seconds. Jobs are begun
#: again by their leases, much sooner, and a job that has ended is not done again: this is a last resort.
VISIBILITY_SECONDS = 3600

T = TypeVar("T")

#: The kinds of work by name; each is told the id of what it is about.
Tasks = Mapping[str, Callable[[str], None]]

#: Hears a kind of work by its name, and the id of what it is about.
Told = Callable[[str, str], None]


class LateCelery:
    """Celery, loaded and made when it is first called for; safe to call from many threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._making = threading.Lock()
        self._app: Celery | None = None

    def __call__(self) -> Celery:
        with self._making:
            if self._app is None:
                self._app = _make_celery(self._settings)
            return self._app


def _make_celery(settings: Settings) -> Celery:
    """Celery as it is used here; tasks are known by their names.

    Messages are acknowledged late and fetched one at a time, so that a worker that is killed loses
    none and hoards none.
    """
    from celery import Celery

    if not settings.cache.redis_url:
        importlib.import_module("celery.worker")  # no other thread may be loading half of it

    app = Celery("thumbnailer", broker=_broker_url(settings.cache.redis_url), set_as_current=False)
    app.conf.update(
        task_default_queue=_queue_name(settings),
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        worker_pool="threads",
        worker_concurrency=settings.jobs.concurrency,
        worker_hijack_root_logger=False,
        worker_enable_remote_control=False,
        worker_soft_shutdown_timeout=settings.providers.timeout_seconds,
        worker_enable_soft_shutdown_on_idle=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker would end after three quarters of an hour
        beat_schedule=_beat_schedule(settings),
        beat_scheduler="wiring.beat:QuietScheduler",  # it has nothing to remember, so it needs no file
        broker_transport_options=_transport_options(settings),
    )
    # And what queueing would load, perhaps while the worker is started; it opens nothing.
    _ = app.amqp.producer_pool, app.amqp.send_task_message, app.backend, app.AsyncResult, app.Task
    transport = app.connection_for_write().get_transport_cls()
    if settings.cache.redis_url:
        from wiring.broker import use_redis_patiently

        use_redis_patiently(transport)
        app.conf.worker_consumer = "wiring.consumer:PatientConsumer"
    return app


def _broker_url(redis_url: str | None) -> str:
    """What Celery calls the Redis, or the queue in memory; a socket has a spelling of its own there."""
    if redis_url is None:
        return "memory://localhost/"  # without a host Celery warns of its absence
    parts = urlsplit(redis_url)
    if parts.scheme != "unix":
        return redis_url
    database = parse_qs(parts.query).get("db", ["0"])[0]
    return f"redis+socket://{parts.netloc}{parts.path}?virtual_host={database}"


def _beat_schedule(settings: Settings) -> dict[str, Any]:
    """What beat does: a sweep that no worker has begun by the next one is not worth keeping."""
    if not settings.cache.redis_url:
        return {}
    sweep = {"task": SWEEP_TASK, "schedule": BEAT_SECONDS, "args": ["all"]}
    return {"sweep": sweep | {"options": {"queue": QUEUE, "expires": BEAT_SECONDS}}}


def _queue_name(settings: Settings) -> str:
    """Queues in memory are the whole process's, whichever application they belong to."""
    return QUEUE if settings.cache.redis_url else f"{QUEUE}-{secrets.token_hex(8)}"


def _transport_options(settings: Settings) -> dict[str, Any]:
    if not settings.cache.redis_url:
        return {"polling_interval": MEMORY_POLL_SECONDS}
    return {
        **redis_bounds(settings),
        # kombu would try for 4 s and more to reach a Redis that is gone, each time that something is queued.
        "max_retries": 0,
        "visibility_timeout": VISIBILITY_SECONDS,
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,
        "global_keyprefix": f"{settings.cache.key_prefix}queue:",
    }


class CeleryQueue:
    """Puts messages into Celery's queue; ``missed`` hears task and subject of what cannot be put there.

    A queue that has just failed is left alone: a batch of a hundred jobs would wait for it a hundred times.
    """

    def __init__(self, celery: LateCelery, missed: Told) -> None:
        self._celery = celery
        self._missed = missed
        self._cool_down = CoolDown("The job queue")

    def put_job(self, job_id: str) -> None:
        self._put(JOB_TASK, job_id)

    def put_delivery(self, delivery_id: str) -> None:
        self._put(DELIVERY_TASK, delivery_id)

    def put_page(self, page_id: str) -> None:
        self._put(PAGE_TASK, page_id)

    def is_empty(self) -> bool | None:
        app = self._celery()

        def count() -> int:
            with app.connection_for_read() as connection:
                declared = connection.default_channel.queue_declare(queue=app.conf.task_default_queue)
                return int(declared.message_count)

        waiting = self._call(count)
        return None if waiting is None else waiting == 0

    def _put(self, task: str, subject: str) -> None:
        app = self._celery()
        queue = app.conf.task_default_queue
        sent = self._call(
            lambda: app.send_task(task, args=[subject], queue=queue, retry=False, ignore_result=True)
        )
        if sent is None:
            self._missed(task, subject)

    def _call(self, operation: Callable[[], T]) -> T | None:
        """What ``operation`` returns; None where the queue does not answer, or is left alone."""
        from kombu.exceptions import OperationalError

        return self._cool_down.call(operation, (OperationalError, RedisError, OSError))


class EmbeddedWorker:
    """A Celery worker in a thread of this process, for a queue in its memory."""

    def __init__(self, celery: LateCelery, tasks: Tasks, put_off: Told) -> None:
        self._celery = celery
        self._tasks = tasks
        self._put_off = put_off
        self._controller: WorkController | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start it, unless it was started. Not for two threads at once."""
        if self._thread is not None:
            return
        if self._controller is None:
            self._controller = self._make_controller()
        thread = threading.Thread(target=self._controller.start, name="jobs", daemon=True)
        thread.start()
        self._thread = thread

    def _make_controller(self) -> WorkController:
        app = self._celery()
        from celery.worker import WorkController

        register_tasks(app, self._tasks, self._put_off)
        app.set_default()  # the pool's threads look there for the tasks
        app.finalize()
        return WorkController(
            app=app,
            hostname=worker_id(),
            without_heartbeat=True,
            without_mingle=True,
            without_gossip=True,
        )

    def stop(self) -> None:
        """Begin nothing new; does nothing where it was never started."""
        if self._controller is not None:
            self._controller.stop()


def worker_id() -> str:
    """This process among all workers on all machines."""
    return f"{socket.gethostname()}-{os.getpid()}"


def register_tasks(app: Celery, tasks: Tasks, put_off: Told) -> None:
    """Say what the kinds of work are; ``put_off`` hears of what wants a database that is not there now."""
    for name, work in tasks.items():
        app.task(_plain(name, work, put_off), name=name, shared=False)


def _plain(name: str, work: Callable[[str], None], put_off: Told) -> Callable[[str], None]:
    """A function, whatever ``work`` is: Celery reads signatures, and stumbles over those of methods."""

    def task(subject: str) -> None:
        try:
            work(subject)
        except DatabaseUnavailable as error:
            log.warning("task_put_off", task=name, id=subject, detail=str(error))
            put_off(name, subject)

    return task
