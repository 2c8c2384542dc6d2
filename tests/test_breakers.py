"""A provider that is down is left alone, by all who share a Redis, and tried again by one."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from structlog.testing import capture_logs

from tests.support.clocks import Clock
from tests.support.processes import free_port, running_redis
from tests.support.stores import redis_pid, silent_server
from thumbnailer.breakers import PROBE_MARGIN_SECONDS, Breakers
from thumbnailer.circuits import BreakerState, Circuits, LocalCircuits, RedisCircuits
from thumbnailer.errors import (
    CaptureRefused,
    ImageTooLarge,
    NotAnImage,
    PageCrashed,
    TargetForbidden,
    TargetStatus,
    TargetTooSlow,
    TargetUnreachable,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamError,
    UpstreamFailed,
    UpstreamQuota,
    UpstreamTimeout,
)
from thumbnailer.model import Deadline

NAME = "snapsharp"
PAUSE = 30.0
DAY = 86_400


@contextlib.contextmanager
def redis_circuits(url: str, prefix: str) -> Iterator[RedisCircuits]:
    client = redis.Redis.from_url(url, socket_timeout=0.3, socket_connect_timeout=0.3)
    try:
        yield RedisCircuits(client, LocalCircuits(), prefix=prefix)
    finally:
        client.close()


@pytest.fixture(params=["process", "redis", "redis-refused", "redis-silent"])
def circuits(request: pytest.FixtureRequest) -> Iterator[Circuits]:
    """Where circuits are kept, and what becomes of those in Redis without it."""
    if request.param == "process":
        yield LocalCircuits()
        return
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            url = request.getfixturevalue("redis_url")
        elif request.param == "redis-refused":
            url = "redis://127.0.0.1:1/0"
        else:
            url, _ = stack.enter_context(silent_server())
        yield stack.enter_context(redis_circuits(url, f"{secrets.token_hex(4)}:"))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breakers(circuits: Circuits, clock: Clock) -> Breakers:
    return Breakers(circuits, pause_seconds=PAUSE, clock=clock)


def soon() -> Deadline:
    return Deadline.after(20)


def call(breakers: Breakers, error: BaseException | None = None, *, times: int = 1) -> None:
    """One call after the other that ends like this."""
    for _ in range(times):
        breakers.settle(breakers.admit(NAME, soon()), error)


def failed() -> UpstreamFailed:
    return UpstreamFailed("down")


def is_refused(breakers: Breakers) -> bool:
    try:
        breakers.admit(NAME, soon())
    except UpstreamError:
        return True
    return False


def test_five_failures_in_a_row_open_it_and_no_fewer(breakers: Breakers) -> None:
    call(breakers, failed(), times=4)
    assert breakers.state(NAME) is BreakerState.CLOSED
    call(breakers, failed())
    assert breakers.state(NAME) is BreakerState.OPEN
    assert is_refused(breakers)


def test_a_success_in_between_begins_the_row_anew(breakers: Breakers) -> None:
    for _ in range(3):
        call(breakers, failed(), times=4)
        call(breakers)
    assert breakers.state(NAME) is BreakerState.CLOSED


def test_providers_have_a_breaker_each(breakers: Breakers) -> None:
    call(breakers, failed(), times=5)
    assert breakers.state("snapapi") is BreakerState.CLOSED


def test_after_the_pause_one_caller_of_many_is_the_probe(breakers: Breakers, clock: Clock) -> None:
    call(breakers, failed(), times=5)
    clock.turn(PAUSE - 1)
    assert is_refused(breakers)
    clock.turn(1)
    assert breakers.state(NAME) is BreakerState.HALF_OPEN
    with ThreadPoolExecutor(20) as pool:
        refused = list(pool.map(lambda _: is_refused(breakers), range(20)))
    assert refused.count(False) == 1


def test_a_probe_that_delivers_closes_it_and_forgets_the_failures(breakers: Breakers, clock: Clock) -> None:
    call(breakers, failed(), times=5)
    clock.turn(PAUSE)
    call(breakers)
    assert breakers.state(NAME) is BreakerState.CLOSED
    call(breakers, failed(), times=4)
    assert breakers.state(NAME) is BreakerState.CLOSED


def test_a_probe_that_fails_opens_it_for_the_whole_pause_again(breakers: Breakers, clock: Clock) -> None:
    call(breakers, failed(), times=5)
    clock.turn(PAUSE)
    call(breakers, failed())
    clock.turn(PAUSE - 1)
    assert breakers.state(NAME) is BreakerState.OPEN
    clock.turn(1)
    assert breakers.state(NAME) is BreakerState.HALF_OPEN


def test_a_probe_that_teaches_nothing_is_handed_to_the_next_caller(breakers: Breakers, clock: Clock) -> None:
    call(breakers, failed(), times=5)
    clock.turn(PAUSE)
    call(breakers, TargetStatus(404))
    assert breakers.state(NAME) is BreakerState.HALF_OPEN
    call(breakers)
    assert breakers.state(NAME) is BreakerState.CLOSED


def test_a_probe_whose_process_died_is_replaced_after_its_deadline(breakers: Breakers, clock: Clock) -> None:
    call(breakers, failed(), times=5)
    clock.turn(PAUSE)
    breakers.admit(NAME, Deadline.after(10))
    clock.turn(9)
    assert is_refused(breakers)
    clock.turn(1 + PROBE_MARGIN_SECONDS)
    assert not is_refused(breakers)


def test_a_clock_that_is_set_back_does_not_make_the_pause_longer(breakers: Breakers, clock: Clock) -> None:
    call(breakers, failed(), times=5)
    assert is_refused(breakers)
    clock.turn(-DAY)
    assert breakers.state(NAME) is BreakerState.HALF_OPEN
    call(breakers, failed())
    assert breakers.state(NAME) is BreakerState.OPEN
    clock.turn(PAUSE)
    call(breakers)
    assert breakers.state(NAME) is BreakerState.CLOSED


def test_a_clock_that_is_set_back_does_not_wait_for_a_probe_that_died(
    breakers: Breakers, clock: Clock
) -> None:
    call(breakers, failed(), times=5)
    clock.turn(2 * DAY)
    assert breakers.admit(NAME, soon()).is_probe
    assert is_refused(breakers)
    clock.turn(-DAY)
    assert breakers.admit(NAME, soon()).is_probe


def test_failures_of_calls_from_before_do_not_prolong_the_pause(breakers: Breakers, clock: Clock) -> None:
    late = breakers.admit(NAME, soon())
    call(breakers, failed(), times=5)
    clock.turn(PAUSE / 2)
    breakers.settle(late, failed())
    clock.turn(PAUSE / 2)
    assert breakers.state(NAME) is BreakerState.HALF_OPEN


COUNTED = {
    "failed": UpstreamFailed("down"),
    "auth": UpstreamAuth("key"),
    "quota": UpstreamQuota("over"),
    "silence": UpstreamTimeout("silent"),
    "no-image": NotAnImage("html"),
}
NOT_COUNTED = {
    "busy": UpstreamBusy("later"),
    "page-too-slow": TargetTooSlow("504"),
    "page-unreachable": TargetUnreachable("gone"),
    "page-status": TargetStatus(500),
    "refused": CaptureRefused("option"),
    "forbidden": TargetForbidden("private"),
    "too-large": ImageTooLarge("300 MP"),
    "page-crashed": PageCrashed("memory"),
    "a-bug": ZeroDivisionError("oops"),
}


@pytest.mark.parametrize("error", COUNTED.values(), ids=COUNTED)
def test_what_says_that_the_provider_is_down_counts(error: BaseException, clock: Clock) -> None:
    breakers = Breakers(LocalCircuits(), clock=clock)
    call(breakers, error, times=5)
    assert breakers.state(NAME) is BreakerState.OPEN


@pytest.mark.parametrize("error", NOT_COUNTED.values(), ids=NOT_COUNTED)
def test_what_the_page_or_the_request_is_at_fault_for_does_not(error: BaseException, clock: Clock) -> None:
    breakers = Breakers(LocalCircuits(), clock=clock)
    call(breakers, failed(), times=4)
    call(breakers, error, times=50)
    assert breakers.state(NAME) is BreakerState.CLOSED
    call(breakers, failed())
    assert breakers.state(NAME) is BreakerState.OPEN, "nor does it break the row"


@pytest.mark.parametrize(("seconds", "is_blamed"), [(4.0, False), (10.0, True)], ids=["hurried", "patient"])
def test_silence_is_blamed_on_a_provider_that_had_its_time(
    clock: Clock, seconds: float, is_blamed: bool
) -> None:
    breakers = Breakers(LocalCircuits(), threshold=1, fair_seconds=7.5, clock=clock)
    breakers.settle(breakers.admit(NAME, Deadline.after(seconds)), UpstreamTimeout("silent"))
    assert (breakers.state(NAME) is BreakerState.OPEN) == is_blamed


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UpstreamAuth("key"), UpstreamAuth),
        (UpstreamQuota("over"), UpstreamQuota),
        (failed(), UpstreamFailed),
        (UpstreamTimeout("silent"), UpstreamFailed),
        (NotAnImage("html"), UpstreamFailed),
    ],
    ids=["auth", "quota", "failed", "silence", "no-image"],
)
def test_who_is_refused_hears_why_and_when_to_come_back(
    clock: Clock, error: UpstreamError, kind: type[UpstreamError]
) -> None:
    breakers = Breakers(LocalCircuits(), pause_seconds=PAUSE, clock=clock)
    call(breakers, error, times=5)
    clock.turn(10)
    with pytest.raises(UpstreamError) as refused:
        breakers.admit(NAME, soon())
    assert type(refused.value) is kind
    assert refused.value.retry_after_seconds == PAUSE - 10
    assert refused.value.provider == NAME


def test_changes_are_logged_once_each(clock: Clock) -> None:
    breakers = Breakers(LocalCircuits(), pause_seconds=PAUSE, clock=clock)
    with capture_logs() as lines:
        call(breakers, failed(), times=5)
        clock.turn(PAUSE)
        call(breakers, failed())
        clock.turn(PAUSE)
        call(breakers, times=3)
    assert [(line["event"], line["provider"], line["before"], line["after"]) for line in lines] == [
        ("breaker_changed", NAME, "closed", "open"),
        ("breaker_changed", NAME, "open", "half-open"),
        ("breaker_changed", NAME, "half-open", "open"),
        ("breaker_changed", NAME, "open", "half-open"),
        ("breaker_changed", NAME, "half-open", "closed"),
    ]


def test_it_is_known_when_a_provider_last_delivered(breakers: Breakers, clock: Clock) -> None:
    assert breakers.answered_at(NAME) is None
    call(breakers)
    at = clock.now
    clock.turn(60)
    call(breakers, failed(), times=5)
    assert breakers.answered_at(NAME) == at
    clock.turn(PAUSE)
    call(breakers)
    assert breakers.answered_at(NAME) == clock.now


def test_who_shares_a_redis_shares_the_breaker(redis_url: str, clock: Clock) -> None:
    prefix = f"{secrets.token_hex(4)}:"
    with redis_circuits(redis_url, prefix) as here, redis_circuits(redis_url, prefix) as there:
        one, other = Breakers(here, pause_seconds=PAUSE, clock=clock), Breakers(there, clock=clock)
        call(one, failed(), times=3)
        call(other, failed(), times=2)
        assert is_refused(one)
        assert is_refused(other)
        clock.turn(PAUSE)
        probe = one.admit(NAME, soon())
        assert is_refused(other), "the other machine has the probe"
        one.settle(probe, None)
        assert not is_refused(other)


def test_failures_at_the_same_moment_are_all_counted(redis_url: str, clock: Clock) -> None:
    with redis_circuits(redis_url, f"{secrets.token_hex(4)}:") as circuits:
        breakers = Breakers(circuits, threshold=40, clock=clock)
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda _: call(breakers, failed()), range(39)))
        assert breakers.state(NAME) is BreakerState.CLOSED
        call(breakers, failed())
        assert breakers.state(NAME) is BreakerState.OPEN


def test_each_process_goes_on_by_itself_when_redis_dies(tmp_path: Path, clock: Clock) -> None:
    port = free_port()
    url = f"redis://127.0.0.1:{port}/0"
    with running_redis(tmp_path, port=port), redis_circuits(url, "dies:") as circuits:
        breakers = Breakers(circuits, clock=clock)
        call(breakers, failed(), times=4)
        os.kill(redis_pid(url), signal.SIGKILL)
        call(breakers, failed(), times=4)
        assert breakers.state(NAME) is BreakerState.CLOSED, "this process has counted four"
        call(breakers, failed())
        assert breakers.state(NAME) is BreakerState.OPEN


@pytest.mark.parametrize(
    "content",
    [
        b"nonsense",
        b"[1]",
        b"[" * 100_000,
        b"\xff",
        b'{"failures": "many"}',
        b'{"failures": 1e999}',
        b'{"answered_at": 1e300}',
        b'{"answered_at": NaN}',
        b'{"open_until": -1}',
    ],
    ids=lambda content: content.decode(errors="replace")[:30],
)
def test_what_somebody_else_wrote_is_no_circuit(redis_url: str, clock: Clock, content: bytes) -> None:
    prefix = f"{secrets.token_hex(4)}:"
    with redis_circuits(redis_url, prefix) as circuits:
        with contextlib.closing(redis.Redis.from_url(redis_url)) as client:
            client.set(prefix + NAME, content)
        breakers = Breakers(circuits, clock=clock)
        assert breakers.answered_at(NAME) is None
        assert breakers.state(NAME) is BreakerState.CLOSED
        call(breakers, failed(), times=5)
        assert breakers.state(NAME) is BreakerState.OPEN
