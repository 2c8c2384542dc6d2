"""What Prometheus is told: counters and histograms, of one process or of all that share a folder.

Several worker processes answer as one: each writes its values into files of its own in a common folder, and
whoever is asked adds them up (prometheus_client's multi-process mode). Names and units follow
https://prometheus.io/docs/practices/naming/.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
    start_http_server,
    values,
)
from prometheus_client.core import GaugeMetricFamily, Metric

from thumbnailer.counter_files import CounterFile
from thumbnailer.ended_counters import held_steady

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

logger = logging.getLogger(__name__)

#: prometheus_client reads it for the folder, and nothing else tells it.
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

#: In seconds: from what memory answers to the longest deadline.
REQUEST_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CAPTURE_BUCKETS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60)

#: A gauge that is read when it is asked for: name, what it says, label names, and rows of labels and value.
Reading = tuple[str, str, tuple[str, ...], Iterable[tuple[tuple[str, ...], float]]]


class Metrics:
    """The measurements of one application; safe to use from many threads.

    With a ``folder`` the counters of all processes that have the same one are told together.
    ``count_waiting`` says how many requests wait for something slow in this process, ``waiting_places``
    how many may.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        count_waiting: Callable[[], int] = lambda: 0,
        waiting_places: int = 0,
    ) -> None:
        self._folder = folder
        self._count_waiting = count_waiting
        self._waiting_places = waiting_places
        _keep_values_in(folder)
        self._registry = CollectorRegistry()
        self._requests, self._attempts, self._jobs, self._problems = _counters(self._registry)
        histogram = partial(Histogram, registry=self._registry)
        self._request_seconds = histogram(
            "thumbnailer_request_duration_seconds",
            "Seconds from a request to its answer, where the application answered or others waited for that.",
            ("route",),
            buckets=REQUEST_BUCKETS,
        )
        self._attempt_seconds = histogram(
            "thumbnailer_capture_duration_seconds",
            "Seconds that attempts at a capture took.",
            ("provider",),
            buckets=CAPTURE_BUCKETS,
        )
        self._waiting, self._places = _waiting_gauges(self._registry)
        self._guard = threading.Lock()
        self._held: Tally[tuple[str, str, str]] = Tally()

    def count_request(self, route: str, method: str, status: int, cache: str, seconds: float) -> None:
        """Count an answer of the application; ``route`` is the rule and never a caller's own text."""
        self._requests.labels(route, method, str(status), cache).inc()
        self._request_seconds.labels(route).observe(seconds)

    def count_problem(self, problem: str) -> None:
        """Count an answer that told of a problem, by its slug."""
        self._problems.labels(problem).inc()

    def expect_problem(self, problem: str) -> None:
        """Tell of a problem that nobody has had yet."""
        self._problems.labels(problem)

    def count_replay(self, route: str, method: str, status: str, held_seconds: float | None) -> None:
        """Count an answer from memory: cheaply, and told when somebody asks.

        ``held_seconds`` is how long the request was held until there was one; None where it was not.
        """
        with self._guard:
            self._held[route, method, status] += 1
        if held_seconds is not None:
            self._request_seconds.labels(route).observe(held_seconds)

    def count_attempt(self, provider: str, outcome: str, seconds: float) -> None:
        """Count an attempt at a capture."""
        self._attempts.labels(provider, outcome).inc()
        self._attempt_seconds.labels(provider).observe(seconds)

    def count_job(self, outcome: str) -> None:
        """Count an attempt at a job."""
        self._jobs.labels(outcome).inc()

    def settle(self) -> None:
        """Write down what was counted cheaply, and how many wait, so that other processes can tell it."""
        self._waiting.set(self._count_waiting())
        self._places.set(self._waiting_places)
        if self._held:
            with self._guard:
                held, self._held = self._held, Tally()
            for (route, method, status), count in held.items():
                self._requests.labels(route, method, status, "replay").inc(count)

    def exposition(self, readings: Iterable[Reading]) -> bytes:
        """All of it, and these gauges, in Prometheus' text format; these alone where the folder is gone."""
        self.settle()
        gauges = CollectorRegistry()
        gauges.register(_Gauges(readings))
        return self._counted() + generate_latest(gauges)

    def _counted(self) -> bytes:
        if self._folder is None:
            return generate_latest(self._registry)
        if not self._folder.is_dir():
            logger.error("The folder for what processes count was removed: restart the service.")
            return b""
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=str(self._folder))  # type: ignore[no-untyped-call]
        with held_steady(self._folder):
            return generate_latest(registry)

    def processes(self) -> Sequence[int]:
        """The ids of the processes that are told as one, all that live and have the same folder: gunicorn's
        main process and its workers.
        """
        if self._folder is None:
            return (os.getpid(),)
        files = self._folder.glob("gauge_livesum_*.db")
        return sorted(int(file.stem.rpartition("_")[2]) for file in files)

    def serve(self, address: str, port: int) -> Callable[[], None]:
        """Tell the counters of this process there to everybody; what ends that. Raises OSError."""
        server, thread = start_http_server(port, address, self._registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return close


def _counters(registry: CollectorRegistry) -> tuple[Counter, Counter, Counter, Counter]:
    """Of requests, attempts at captures, attempts at jobs, and problems."""
    counter = partial(Counter, registry=registry)
    return (
        counter(
            "thumbnailer_requests",
            "Requests by route, method, status and what the cache said.",
            ("route", "method", "status", "cache"),
        ),
        counter(
            "thumbnailer_capture_attempts",
            "Attempts at a capture by provider and outcome: delivered, or the kind of failure.",
            ("provider", "outcome"),
        ),
        counter(
            "thumbnailer_job_attempts",
            "Attempts at jobs by outcome: completed, failed, or postponed to another attempt.",
            ("outcome",),
        ),
        counter("thumbnailer_problems", "Answers that told of a problem, by its slug.", ("problem",)),
    )


def _waiting_gauges(registry: CollectorRegistry) -> tuple[Gauge, Gauge]:
    gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
    return (
        gauge(
            "thumbnailer_waiting_requests", "Requests that wait for something slow, as of the last second."
        ),
        gauge("thumbnailer_waiting_places", "Requests that may wait for something slow."),
    )


def _keep_values_in(folder: Path | None) -> None:
    """Have all metrics that are made from now on kept in files there, or in memory.

    The library decides by its environment when it is imported, which here is before the fork.
    """
    values.ValueClass = values.MutexValue
    if folder is not None:
        os.environ[FOLDER_VARIABLE] = str(folder)
        vars(values)["MmapedDict"] = CounterFile  # where MultiProcessValue finds it
        values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]


class _Gauges:
    """Gauges that were read just now, as prometheus_client wants them."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = tuple(readings)

    def collect(self) -> Iterable[Metric]:
        for name, explanation, labels, rows in self._readings:
            family = GaugeMetricFamily(name, explanation, labels=labels)
            for row, value in rows:
                family.add_metric(row, value)
            yield family
