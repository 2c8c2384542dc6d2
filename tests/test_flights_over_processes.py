"""One capture per key, over processes: by a folder they share, or by a Redis as several machines would."""

from __future__ import annotations

import collections
import contextlib
import json
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.support.flight_crew import Orders
from tests.support.processes import wait_until


@contextlib.contextmanager
def crews(*orders: Orders) -> Iterator[list[subprocess.Popen[str]]]:
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.flight_crew", json.dumps(asdict(order))],
            cwd=Path(__file__).parent.parent,
            stdout=subprocess.PIPE,
            text=True,
        )
        for order in orders
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def outcome_of(*processes: subprocess.Popen[str]) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for process in processes:
        output, _ = process.communicate(timeout=100)
        total.update(json.loads(output))
    return total


@pytest.fixture(params=["file", "redis"])
def shared_redis(request: pytest.FixtureRequest) -> str | None:
    """Over what the processes coordinate: a folder, or a Redis as several machines would."""
    return str(request.getfixturevalue("redis_url")) if request.param == "redis" else None


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [("land", "capture"), ("crash", "UpstreamQuota: The quota is used up.")],
    ids=["succeeds", "fails"],
)
def test_200_threads_of_4_processes_make_one_call(
    tmp_path: Path, shared_redis: str | None, ending: str, outcome: str
) -> None:
    order = Orders(
        folder=str(tmp_path),
        key=secrets.token_hex(8),
        threads=50,
        awaited=200,
        ending=ending,
        redis_url=shared_redis,
    )
    with crews(*[order] * 4) as processes:
        assert outcome_of(*processes) == {outcome: 200}
    assert order.count("calls") == 1


def test_when_the_leader_is_killed_another_process_takes_over(
    tmp_path: Path, shared_redis: str | None
) -> None:
    key = secrets.token_hex(8)
    doomed = Orders(str(tmp_path), key, 3, 0, "hang", shared_redis, deadline_seconds=3, margin_seconds=0.2)
    heir = Orders(str(tmp_path), key, 3, 0, "land", shared_redis)
    with crews(doomed) as (first,):
        wait_until(lambda: doomed.count("calls") == 1, what="the first call")
        with crews(heir) as (second,):
            wait_until(lambda: heir.count("arrivals") == 6, what="the heirs' arrival")
            first.send_signal(signal.SIGKILL)
            assert outcome_of(second) == {"capture": 3}
    assert heir.count("calls") == 2
