"""200 callers, one picture, one call upstream; and one series of attempts where it fails."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import picture_path
from benchmarks.figures import Figure, figure
from benchmarks.scale import Scale
from benchmarks.services import awake_service
from tests.support.answers import Answer, image, json_error
from tests.support.answers import Received as Call
from tests.support.crowds import Crowd, Told
from tests.support.processes import running_redis
from tests.support.upstream import Upstream

CALLERS = 200
CAPTURE_SECONDS = 1.0
RUNS = 3

#: Until the last of them has it, after the capture.
AFTER_GOAL_MS = 150.0

#: ``thumbnailer.providers.fallback``: one attempt and two more, for failures that may pass.
ATTEMPTS = 3


@dataclass(slots=True)
class SlowPage:
    """An upstream's behaviour that takes its time, and remembers when it was last done."""

    answer: Answer
    done_at: float = 0.0

    def __call__(self, _call: Call) -> Answer:
        time.sleep(CAPTURE_SECONDS)
        self.done_at = time.monotonic()
        return self.answer


@dataclass(frozen=True, slots=True)
class Rush:
    """What became of one crowd."""

    answers: list[Told]
    calls: int
    seconds_after_capture: float

    def wrong(self, status: int) -> int:
        """How many answers differ from the first, are cut short or have another status."""
        first = self.answers[0]
        return sum(
            not answer.is_whole or answer.status != status or (status == 200 and answer.body != first.body)
            for answer in self.answers
        )


def rush(upstream: Upstream, service_urls: list[str], page: SlowPage, target: str) -> Rush:
    """Let everybody ask for one picture that nobody has."""
    upstream.behave(page)
    with Crowd(service_urls, CALLERS) as crowd:
        crowd.ask(picture_path("/thumb", target))
        answers = crowd.told()
    seconds = max(answer.ended_at for answer in answers) - page.done_at
    return Rush(answers, len(upstream.requests), seconds)


@contextlib.contextmanager
def instances(upstream: Upstream, kind: str) -> Iterator[list[str]]:
    """The services of one set-up: their URLs."""
    with contextlib.ExitStack() as held:
        environ, count = {}, 1
        if kind != "file cache":
            folder = held.enter_context(tempfile.TemporaryDirectory(prefix="bench-redis-"))
            environ["REDIS_URL"] = held.enter_context(running_redis(Path(folder)))
            count = 2 if kind == "Redis, two instances" else 1
        yield [held.enter_context(awake_service(upstream.url, **environ)).url for _ in range(count)]


def measure(_scale: Scale) -> Iterator[Figure]:
    """Each set-up, with an upstream that delivers and with two that do not."""
    with Upstream() as upstream:
        for kind in ("file cache", "Redis", "Redis, two instances"):
            with instances(upstream, kind) as urls:
                yield from _deliveries(upstream, urls, kind)
                if kind != "Redis":  # one service alone fails alike, whatever its cache is
                    yield from _failures(upstream, urls, kind)


def _deliveries(upstream: Upstream, urls: list[str], kind: str) -> Iterator[Figure]:
    page = SlowPage(image("png", 1280, 720))
    rushes = [rush(upstream, urls, page, f"http://93.184.216.34/good/{run}") for run in range(RUNS)]
    name = f"{CALLERS} callers, {kind}"
    yield figure(f"{name}: upstream calls", "calls", (each.calls for each in rushes), at_most=1, goal=4)
    yield figure(f"{name}: wrong answers", "answers", (each.wrong(200) for each in rushes), at_most=0, goal=4)
    yield figure(
        f"{name}: all answered after the capture",
        "ms",
        (each.seconds_after_capture * 1000 for each in rushes),
        at_most=AFTER_GOAL_MS,
        by_median=True,
        goal=4,
    )


def _failures(upstream: Upstream, urls: list[str], kind: str) -> Iterator[Figure]:
    for status, expected, attempts in ((404, 422, 1), (500, 502, ATTEMPTS)):
        page = SlowPage(json_error(status, {"error": "sorry", "message": "no"}))
        rushes = [
            rush(upstream, urls, page, f"http://93.184.216.34/bad/{status}/{run}") for run in range(RUNS)
        ]
        name = f"{CALLERS} callers, {kind}, upstream says {status}"
        yield figure(f"{name}: upstream calls", "calls", (each.calls for each in rushes), at_most=attempts)
        yield figure(
            f"{name}: wrong answers", "answers", (each.wrong(expected) for each in rushes), at_most=0
        )
        yield figure(
            f"{name}: all told after the last call",
            "ms",
            (each.seconds_after_capture * 1000 for each in rushes),
        )
