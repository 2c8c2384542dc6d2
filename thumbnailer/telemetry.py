"""What the service says of itself: JSON log lines and the durations of a request's steps."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime

import structlog
from structlog.typing import EventDict

#: Whose lines are of this service's own making.
OWN_LOGGERS = ("app", "blueprints", "celery", "gunicorn", "thumbnailer", "wiring", "worker")


def _escaped(_logger: object, _method: str, line: EventDict) -> EventDict:
    """Leave no control character in what the renderer for terminals writes as it is.

    Tracebacks keep their lines, each behind a margin that no other line has.
    """
    line["event"] = _printable(str(line.get("event", "")))
    if "exception" in line:
        line["exception"] = "\n".join(
            "    | " + _printable(one) for one in str(line["exception"]).split("\n")
        )
    return line


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in text)


def _renderers(*, is_json: bool) -> list[structlog.typing.Processor]:
    if is_json:
        return [structlog.processors.JSONRenderer()]
    return [_escaped, structlog.dev.ConsoleRenderer(colors=False)]


def configure_logging(level: str, *, is_json: bool) -> None:
    """Send every log line, the libraries' too, to standard error: one JSON object a line, or text.

    Nothing that a caller or an upstream sends can forge a line: JSON escapes it, and so is it for the
    terminal. Libraries are heard from ``warning`` on only, whatever ``level`` says: below that, HTTP
    clients tell whole URLs and headers, keys among them.
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
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *_renderers(is_json=is_json),
        ],
    )
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(logging.getLevelNamesMapping()[level.upper()], logging.WARNING))
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(level.upper())
    # It tells the whole URL of an answer with malformed headers, at this very level.
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # It tells of credentials that cannot be renewed by a trace, and the storage does so in a word.
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)


REQUEST_LOGGER = "thumbnailer.request"


def log_facts(facts: Mapping[str, object]) -> str:
    """The part of a request's log line that is the same for all requests alike, as JSON without braces."""
    line = {**facts, "event": "request", "level": "info", "logger": REQUEST_LOGGER}
    return json.dumps(line, default=repr)[1:-1]


class LogLines:
    """Log lines of requests, written several at a time; for one thread, and what it adds it flushes.

    They have the form that ``configure_logging`` gives all others, and go to the same place.
    """

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._is_enabled = logging.getLogger(REQUEST_LOGGER).isEnabledFor(logging.INFO)
        self._lines: list[str] = []

    def add_request(self, facts: str, request_id: str, milliseconds: float) -> None:
        """Add a line; ``facts`` are as ``log_facts`` makes them, ``request_id`` needs no escaping."""
        if self._is_enabled:
            written_at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            own = f'"duration_ms": {milliseconds:.1f}, "request_id": "{request_id}"'
            self._lines.append(f'{{{own}, {facts}, "timestamp": "{written_at}"}}')

    def __len__(self) -> int:
        return len(self._lines)

    def flush(self) -> None:
        """Write what has been added."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        if not self._is_json:
            for line in lines:
                _log_again(json.loads(line))
            return
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler):
                with handler.lock or nullcontext():
                    handler.stream.write("\n".join([*lines, ""]))
                    handler.flush()


def _log_again(line: dict[str, object]) -> None:
    """For readers at a terminal, who have the time."""
    facts = {
        name: value for name, value in line.items() if name not in ("event", "level", "logger", "timestamp")
    }
    structlog.get_logger(REQUEST_LOGGER).info("request", **facts)


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
