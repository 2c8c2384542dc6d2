"""Which attempt follows which: retries at one provider, then the next provider."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pytest
from structlog.testing import capture_logs

from tests.support import answers
from tests.support.pictures import picture
from tests.support.upstream import Upstream
from thumbnailer.breakers import Breakers
from thumbnailer.circuits import BreakerState, LocalCircuits
from thumbnailer.errors import (
    CaptureRefused,
    ImageTooLarge,
    NotAnImage,
    OptionUnsupported,
    TargetForbidden,
    TargetStatus,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamError,
    UpstreamFailed,
    UpstreamQuota,
    UpstreamTimeout,
)
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers import Provider, UpstreamBody, WholeBody
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.fallback import Failover
from thumbnailer.providers.hermesforge import HERMESFORGE
from thumbnailer.providers.remote import RemoteProvider
from thumbnailer.providers.snapapi import SNAPAPI

REQUEST = CaptureRequest(url="https://example.com/", asked=frozenset({"selector"}), selector="h1")


@dataclass
class Scripted:
    """A provider that raises its errors one after the other, then delivers its name."""

    name: str
    errors: list[Exception] = field(default_factory=list)
    lacks: str | None = None
    attempts: int = 0
    is_there: bool = True

    def unsupported_option(self, request: CaptureRequest) -> str | None:
        return self.lacks if self.lacks in request.asked else None

    def capture(self, request: CaptureRequest, deadline: Deadline) -> UpstreamBody:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        return WholeBody(self.name.encode())

    def is_ready(self) -> bool:
        return self.is_there

    def close(self) -> None:
        pass


@dataclass
class Run:
    """One run of a ``Failover`` with nobody waiting: what came of it and how long it paused."""

    providers: Sequence[Scripted]
    seconds: float = 30
    attempts: int = 3
    pauses: list[float] = field(default_factory=list)

    def __call__(self) -> str:
        failover = Failover(
            self.providers, self.attempts, sleep=self.pauses.append, jitter=lambda least, most: most
        )
        deadline = Deadline.after(self.seconds)
        return failover.run(
            REQUEST, deadline, lambda provider, share: b"".join(provider.capture(REQUEST, share)).decode()
        )


def busy(seconds: float | None = None) -> UpstreamBusy:
    return UpstreamBusy("busy", retry_after_seconds=seconds)


def failed(seconds: float | None = None) -> UpstreamFailed:
    return UpstreamFailed("failed", retry_after_seconds=seconds)


@pytest.fixture(autouse=True)
def _shorter_pauses() -> None:
    """Not here: they are what is looked at, and nobody waits for them."""


RETRIES: dict[str, tuple[list[Exception], list[float], int]] = {
    "none-needed": ([], [], 1),
    "failed-once": ([failed()], [1], 2),
    "failed-twice": ([failed(), failed()], [1, 2], 3),
    "failed-with-a-pause": ([failed(4)], [4], 2),
    "busy": ([busy(7)], [7], 2),
    "busy-without-a-pause": ([busy()], [1], 2),
    "busy-then-failed": ([busy(3), failed()], [3, 2], 3),
    "no-image-once": ([NotAnImage("html")], [0], 2),
    "no-image-then-failed": ([NotAnImage("html"), failed()], [0, 2], 3),
    "failed-then-no-image": ([failed(), NotAnImage("html")], [1, 0], 3),
}


@pytest.mark.parametrize(("errors", "pauses", "attempts"), RETRIES.values(), ids=RETRIES)
def test_a_passing_failure_is_outlived_by_trying_again(
    errors: list[Exception], pauses: list[float], attempts: int
) -> None:
    first, second = Scripted("first", list(errors)), Scripted("second")
    run = Run([first, second])

    assert run() == "first"
    assert (run.pauses, first.attempts, second.attempts) == (pauses, attempts, 0)


GOING_ON: dict[str, tuple[list[Exception], int]] = {
    "failed-for-good": ([failed(), failed(), failed()], 3),
    "busy-for-good": ([busy(1), busy(1), busy(1)], 3),
    "busy-beyond-the-deadline": ([busy(600)], 1),
    "failed-beyond-the-deadline": ([failed(600)], 1),
    "no-image-twice": ([NotAnImage("html"), NotAnImage("html")], 2),
    "quota": ([UpstreamQuota("over", retry_after_seconds=1)], 1),
    "auth": ([UpstreamAuth("key")], 1),
    "timeout": ([UpstreamTimeout("slow")], 1),
    "too-large": ([ImageTooLarge("40 MB")], 1),
}


@pytest.mark.parametrize(("errors", "attempts"), GOING_ON.values(), ids=GOING_ON)
def test_the_next_provider_is_taken_when_one_does_not_deliver(errors: list[Exception], attempts: int) -> None:
    first, second = Scripted("first", list(errors)), Scripted("second")

    assert Run([first, second])() == "second"
    assert (first.attempts, second.attempts) == (attempts, 1)


FINAL: dict[str, Callable[[], Exception]] = {
    "capture-refused": lambda: CaptureRefused("no"),
    "target-forbidden": lambda: TargetForbidden("no"),
    "target-unreachable": lambda: TargetUnreachable("gone"),
    "target-status": lambda: TargetStatus(404),
    "a-bug": lambda: ZeroDivisionError("oops"),
}


@pytest.mark.parametrize("make_error", FINAL.values(), ids=FINAL)
def test_what_no_provider_could_mend_is_the_answer_at_once(make_error: Callable[[], Exception]) -> None:
    error = make_error()
    first, second = Scripted("first", [error]), Scripted("second")

    with pytest.raises(type(error)) as caught:
        Run([first, second])()

    assert caught.value is error
    assert (first.attempts, second.attempts) == (1, 0)


TELLING: dict[str, tuple[list[UpstreamError], int]] = {
    "busy-before-failed": ([busy(600), UpstreamTimeout("b")], 0),
    "failed-before-quota": ([UpstreamTimeout("a"), UpstreamQuota("b")], 0),
    "failed-before-auth": ([UpstreamAuth("a"), UpstreamTimeout("b")], 1),
    "the-last-of-equals": ([UpstreamTimeout("a"), ImageTooLarge("b")], 1),
    "the-last-of-the-operators": ([UpstreamAuth("a"), UpstreamQuota("b")], 1),
}


@pytest.mark.parametrize(("errors", "told"), TELLING.values(), ids=TELLING)
def test_the_most_telling_error_is_raised_when_all_providers_fail(
    errors: list[UpstreamError], told: int
) -> None:
    providers = [Scripted(f"number-{number}", [error]) for number, error in enumerate(errors)]

    with pytest.raises(UpstreamError) as caught:
        Run(providers, attempts=1)()

    assert caught.value is errors[told]
    assert caught.value.provider == f"number-{told}"


def test_no_time_is_left_for_a_second_attempt_or_provider_once_the_deadline_has_passed() -> None:
    first, second = Scripted("first", [failed(), failed()]), Scripted("second")

    with pytest.raises(UpstreamFailed):
        Run([first, second], seconds=0)()

    assert (first.attempts, second.attempts) == (1, 0)


def test_a_pause_that_leaves_no_time_for_an_attempt_is_not_begun() -> None:
    """The attempt could only time out, and nobody would learn that the connection failed."""
    only = Scripted("only", [failed(99.8)])
    run = Run([only], seconds=100)

    with pytest.raises(UpstreamFailed):
        run()

    assert (run.pauses, only.attempts) == ([], 1)


def test_pauses_grow_and_are_drawn_between_half_and_the_whole_of_a_bounded_ceiling() -> None:
    drawn: list[tuple[float, float]] = []

    def jitter(least: float, most: float) -> float:
        drawn.append((least, most))
        return 0.0

    provider = Scripted("only", [failed() for _ in range(6)])
    patient = Breakers(LocalCircuits(), threshold=100)
    failover = Failover([provider], 7, breakers=patient, sleep=lambda seconds: None, jitter=jitter)
    deadline = Deadline.after(30)

    failover.run(REQUEST, deadline, lambda chosen, share: chosen.capture(REQUEST, share))

    assert drawn == [(0.5, 1), (1, 2), (2, 4), (4, 8), (4, 8), (4, 8)]


def test_a_provider_that_lacks_an_option_asked_for_is_passed_over() -> None:
    first, second = Scripted("first", lacks="selector"), Scripted("second")

    assert Run([first, second])() == "second"
    assert first.attempts == 0


def test_an_option_that_no_provider_has_is_named_with_the_first_provider() -> None:
    failover = Failover([Scripted("first", lacks="selector"), Scripted("second", lacks="selector")])

    with pytest.raises(OptionUnsupported) as caught:
        failover.refuse_unsupported(REQUEST)

    assert (caught.value.option, caught.value.provider) == ("selector", "first")


def test_who_is_not_ready_is_not_in_charge() -> None:
    failover = Failover([Scripted("first", is_there=False), Scripted("second"), Scripted("third")])
    assert [each.is_in_charge for each in failover.health()] == [False, True, False]


def test_an_option_that_any_provider_has_is_not_refused() -> None:
    Failover([Scripted("first", lacks="selector"), Scripted("second")]).refuse_unsupported(REQUEST)


def test_each_attempt_that_fails_is_logged_with_provider_error_and_seconds() -> None:
    ticks: Iterator[float] = iter([10.0, 12.5, 20.0, 20.25, 30.0, 30.5])
    providers = [Scripted("first", [UpstreamTimeout("x")]), Scripted("second", [failed()])]
    seen: list[tuple[str, str, float]] = []
    failover = Failover(
        providers,
        sleep=lambda seconds: None,
        clock=lambda: next(ticks),
        observe=lambda *attempt: seen.append(attempt),
    )
    deadline = Deadline.after(30)

    with capture_logs() as lines:
        failover.run(REQUEST, deadline, lambda provider, share: provider.capture(REQUEST, share))

    assert [(line["provider"], line["error"], line["seconds"]) for line in lines] == [
        ("first", "UpstreamTimeout", 2.5),
        ("second", "UpstreamFailed", 0.25),
    ]
    assert seen == [
        ("first", "UpstreamTimeout", 2.5),
        ("second", "UpstreamFailed", 0.25),
        ("second", "delivered", 0.5),
    ]


@pytest.mark.parametrize(("providers", "attempts"), [([], 3), ([Scripted("a")], 0)], ids=["nobody", "never"])
def test_a_failover_needs_a_provider_and_an_attempt(providers: list[Provider], attempts: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Failover(providers, attempts)


def test_real_upstreams_take_over_from_each_other() -> None:
    with Upstream() as broken, Upstream() as sound, UpstreamSession() as session:
        broken.behave(
            answers.json_error(503, {"message": "queue"}), answers.json_error(402, {"message": "pay"})
        )
        request, deadline = CaptureRequest(url="https://example.com/"), Deadline.after(20)
        failover = Failover(
            [
                RemoteProvider(SNAPAPI, session, key="k", base_url=broken.url),
                RemoteProvider(HERMESFORGE, session, base_url=sound.url),
            ],
            sleep=lambda seconds: None,
        )

        body = failover.run(
            request, deadline, lambda provider, share: b"".join(provider.capture(request, share))
        )

        assert body == picture()
        assert (len(broken.requests), len(sound.requests)) == (2, 1)


def test_errors_of_the_tree_are_the_only_ones_that_lead_elsewhere() -> None:
    first, second = Scripted("first", [ThumbnailerError("of no kind")]), Scripted("second")

    with pytest.raises(ThumbnailerError, match="of no kind"):
        Run([first, second])()

    assert second.attempts == 0


SHARES: dict[str, tuple[float, float, list[float]]] = {
    "alone": (30, 10, [30]),
    "two": (30, 10, [20, 30]),
    "three": (30, 10, [10, 20, 30]),
    "two-in-little-time": (6, 10, [3, 6]),
    "three-in-little-time": (6, 10, [2, 3, 6]),
    "nothing-kept-back": (30, 0, [30, 30]),
}


@pytest.mark.parametrize(("seconds", "reserve", "ends"), SHARES.values(), ids=SHARES)
def test_each_provider_has_a_share_of_the_time_and_those_after_it_their_reserve(
    seconds: float, reserve: float, ends: list[float]
) -> None:
    """Providers that fail at once: what they leave goes to the next."""
    failover = Failover([Scripted(str(number)) for number in range(len(ends))], reserve_seconds=reserve)
    deadline, shares = Deadline.after(seconds), list[Deadline]()

    def fail(_: Provider, share: Deadline) -> None:
        shares.append(share)
        raise UpstreamTimeout("silent")

    with pytest.raises(UpstreamTimeout):
        failover.run(REQUEST, deadline, fail)
    begun_at = deadline.at - seconds
    assert [share.at - begun_at for share in shares] == pytest.approx(ends, abs=0.5)


def test_no_time_is_kept_back_for_a_provider_whose_breaker_is_open() -> None:
    breakers = Breakers(LocalCircuits(), threshold=1)
    breakers.settle(breakers.admit("second", Deadline.after(1)), UpstreamFailed("down"))
    failover = Failover([Scripted("first"), Scripted("second")], breakers=breakers)
    deadline = Deadline.after(30)

    assert failover.run(REQUEST, deadline, lambda _, share: share.at) == deadline.at


def test_a_breaker_that_opens_in_between_ends_the_attempts_at_its_provider() -> None:
    first, second = Scripted("first", [failed(), failed()]), Scripted("second")
    breakers = Breakers(LocalCircuits(), threshold=2)
    failover = Failover([first, second], 5, breakers=breakers, sleep=lambda seconds: None)
    deadline = Deadline.after(30)

    for _ in range(3):
        body = failover.run(REQUEST, deadline, lambda provider, share: provider.capture(REQUEST, share))
        assert b"".join(body) == b"second"
    assert first.attempts == 2


def test_nothing_is_begun_once_it_is_closed_and_no_provider_blamed() -> None:
    first, second = Scripted("first", [failed()]), Scripted("second")
    breakers = Breakers(LocalCircuits(), threshold=1)
    failover = Failover([first, second], breakers=breakers, sleep=lambda _: None)

    def stopped_meanwhile(provider: Provider, share: Deadline) -> UpstreamBody:
        failover.close()
        return provider.capture(REQUEST, share)

    with pytest.raises(UpstreamFailed, match="being stopped"):
        failover.run(REQUEST, Deadline.after(30), stopped_meanwhile)
    assert (first.attempts, second.attempts) == (1, 0)
    assert breakers.state("first") is BreakerState.CLOSED
