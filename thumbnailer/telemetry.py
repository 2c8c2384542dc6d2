"""What the service says of itself: JSON log lines and the durations of a request's steps."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog


def configure_logging(level: str, *, is_json: bool) -> None:
    """Send every log line, the libraries' too, to standard error: one JSON object a line, or text.

    Values are JSON strings, so nothing that a caller sends can forge a line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    renderer = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer(colors=False)
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            renderer,
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())


class Timings:
    """How long the steps of one request took, in seconds, in the order they ended."""

    def __init__(self) -> None:
        self._steps: dict[str, float] = {}
        self._descriptions: dict[str, str] = {}

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        started_at = time.perf_counter()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - started_at)

    def add(self, name: str, seconds: float) -> None:
        self._steps[name] = self._steps.get(name, 0.0) + seconds

    def describe(self, name: str, description: str) -> None:
        """Say more of a step: printable ASCII without quotes and backslashes."""
        self._descriptions[name] = description

    def server_timing(self) -> str:
        """The value of a Server-Timing header (W3C Server Timing, durations in milliseconds)."""
        return ", ".join(map(self._metric, self._steps))

    def _metric(self, name: str) -> str:
        description = self._descriptions.get(name)
        return f"{name};dur={self._steps[name] * 1000:.1f}" + (
            f';desc="{description}"' if description else ""
        )
