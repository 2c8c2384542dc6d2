"""The guard's verdicts: the shared cases, answers of name servers, and look-ups that hang."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.support.processes import wait_until
from tests.support.resolvers import PUBLIC, PUBLIC_V6, FixedAnswers, guard_with, no_such_name, verdict
from thumbnailer.errors import Overloaded, TargetForbidden, TargetUnreachable, ThumbnailerError
from thumbnailer.guard import Guard, parse_private_exceptions
from thumbnailer.lookup import resolve_with_system
from thumbnailer.model import Deadline

REPOSITORY = Path(__file__).parent.parent
SHARED_CASES = REPOSITORY.parent / "shared" / "ssrf" / "cases.json"
OWN_CASES = REPOSITORY / "tests" / "ssrf" / "cases.json"
CASES = json.loads((SHARED_CASES if SHARED_CASES.is_file() else OWN_CASES).read_text())


@pytest.mark.parametrize("case", CASES, ids=[f"{case['kind']}-{number}" for number, case in enumerate(CASES)])
def test_every_shared_case_comes_out_right_after_no_more_look_ups_than_it_needs(
    case: dict[str, object],
) -> None:
    answers = case["resolves_to"]
    resolver = FixedAnswers(*answers) if isinstance(answers, list) else FixedAnswers(PUBLIC)

    assert verdict(Guard(resolver=resolver), str(case["url"])) == case["expect"], case["why"]
    assert len(resolver.asked) <= (0 if answers is None else 1)


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        ["10.1.2.3", PUBLIC],
        [PUBLIC, "10.1.2.3"],
        [PUBLIC, PUBLIC_V6, "fd12:3456::1"],
        [PUBLIC, "169.254.169.254"],
        [PUBLIC, "168.63.129.16"],
        [PUBLIC, "0.0.0.0"],
        [PUBLIC, "::"],
        [PUBLIC, "224.0.0.251"],
        [PUBLIC, "100.100.100.200"],
        [PUBLIC, "64:ff9b::a00:1"],
        [PUBLIC_V6, "2002:a00:1::"],
        [PUBLIC_V6, "::ffff:127.0.0.1"],
        [PUBLIC_V6, "2606:4700::5efe:10.0.0.1"],
        [PUBLIC_V6, "2606:4700::200:5efe:192.168.0.1"],
        ["fe80::1%eth0"],
        ["2606:4700::1111%eth0"],
        [PUBLIC, "not an address"],
        [PUBLIC, ""],
        [PUBLIC, "127.1"],
    ],
    ids="+".join,
)
def test_a_name_with_one_answer_that_is_not_public_is_forbidden(answers: list[str]) -> None:
    guard = Guard(resolver=FixedAnswers(*answers))
    target = guard.parse("https://example.com/")
    with pytest.raises(TargetForbidden) as refusal:
        guard.check(target)
    assert str(refusal.value) == "The target is not a public web address."


@pytest.mark.parametrize(
    "answers",
    [(PUBLIC,), (PUBLIC_V6, PUBLIC), ("2606:4700::5efe:808:808",), ("192.31.196.1",), ("2620:4f:8000::1",)],
    ids="+".join,
)
def test_a_name_with_public_answers_only_gives_all_of_them_in_order(answers: tuple[str, ...]) -> None:
    resolver = FixedAnswers(*answers)
    guard = Guard(resolver=resolver)
    assert guard.check(guard.parse("https://Example.com/")) == answers
    assert resolver.asked == ["example.com"]


def test_an_address_is_checked_without_asking_anybody() -> None:
    resolver = FixedAnswers("127.0.0.1")
    guard = Guard(resolver=resolver)
    assert guard.check(guard.parse(f"http://[{PUBLIC_V6}]/")) == (PUBLIC_V6,)
    assert guard.check(guard.parse(f"http://{PUBLIC}/")) == (PUBLIC,)
    assert resolver.asked == []


def test_check_judges_targets_that_another_guard_parsed() -> None:
    lenient = guard_with("127.0.0.1:22, redis:6379, 10.0.0.0/8", PUBLIC)
    resolver = FixedAnswers(PUBLIC)
    strict = Guard(resolver=resolver)
    for url in ("http://127.0.0.1:22/", "http://redis:6379/", "http://localhost/", "http://example.com:99/"):
        with pytest.raises(TargetForbidden):
            strict.check(lenient.parse(url))
    assert resolver.asked == [], "nobody hears of a name that is not visited whatever its address"


@pytest.mark.parametrize("resolver", [no_such_name, FixedAnswers()], ids=["raises", "empty"])
def test_a_name_without_an_address_is_unreachable(resolver: FixedAnswers) -> None:
    guard = Guard(resolver=resolver)
    with pytest.raises(TargetUnreachable, match=r"^The target's host does not exist\.$"):
        guard.check(guard.parse("https://nxdomain.example.com/"))


def test_a_fault_of_the_resolver_itself_is_not_taken_for_an_answer() -> None:
    def broken(host: str, port: int) -> Sequence[str]:
        raise ZeroDivisionError

    guard = Guard(resolver=broken)
    with pytest.raises(ZeroDivisionError):
        guard.check(guard.parse("https://example.com/"))


def test_the_system_resolver_finds_localhost_and_no_address_twice() -> None:
    answers = resolve_with_system("localhost", 80)
    assert answers
    assert len(set(answers)) == len(answers)
    assert all(ip_address(answer).is_loopback for answer in answers)


# Look-ups that hang


def test_a_dead_name_server_holds_up_no_caller_and_piles_up_no_threads() -> None:
    answers_again = threading.Event()
    started: list[str] = []

    def hangs(host: str, port: int) -> Sequence[str]:
        started.append(host)
        assert answers_again.wait(60)
        return (PUBLIC,)

    guard = Guard(resolver=hangs, lookup_seconds=0.01)
    targets = [guard.parse(f"https://host{number}.example.com/") for number in range(40)]
    for target in targets[:16]:
        with pytest.raises(TargetUnreachable, match=r"^The target's host was not found in time\.$"):
            guard.check(target)
    for target in targets[16:]:
        with pytest.raises(Overloaded):  # which is not these hosts' fault
            guard.check(target)
    assert len(started) == 16

    answers_again.set()

    def is_back() -> bool:
        with contextlib.suppress(Overloaded):
            return verdict(guard, targets[0].url) == "allow"
        return False

    wait_until(is_back, what="a look-up by a name server that is back")


@pytest.mark.parametrize(("lookup_seconds", "deadline_seconds"), [(3600, 0.01), (0.01, 3600)])
def test_a_look_up_waits_no_longer_than_the_caller_and_the_guards_own_limit(
    lookup_seconds: float, deadline_seconds: float
) -> None:
    answers_again = threading.Event()

    def hangs(host: str, port: int) -> Sequence[str]:
        assert answers_again.wait(60)
        return (PUBLIC,)

    guard = Guard(resolver=hangs, lookup_seconds=lookup_seconds)
    with pytest.raises(TargetUnreachable):
        guard.check(guard.parse("https://example.com/"), Deadline.after(deadline_seconds))
    answers_again.set()


def test_no_refusal_names_what_was_hit() -> None:
    guard = Guard(resolver=FixedAnswers("10.11.12.13"), exceptions=parse_private_exceptions("172.16.0.0/12"))
    for url in (
        "http://example.com/",
        "http://192.168.77.1/",
        "http://wiki.corp/",
        "http://wiki.corp:8443/",
        "http://10.11.12.13:8443/",
    ):
        with pytest.raises(ThumbnailerError) as refusal:
            guard.check(guard.parse(url))
        assert str(refusal.value) == "The target is not a public web address."


@pytest.mark.parametrize("answers", [(), ("10.11.12.13",), (PUBLIC,)], ids=["none", "private", "public"])
@pytest.mark.parametrize("exceptions", ["", "172.16.0.0/12"], ids=["closed", "with an exception"])
@pytest.mark.parametrize("url", ["http://example.com:8443/", f"http://{PUBLIC}:8443/"])
def test_a_port_that_is_not_visited_is_said_to_be_the_fault_whatever_a_name_leads_to(
    url: str, exceptions: str, answers: tuple[str, ...]
) -> None:
    guard = Guard(resolver=FixedAnswers(*answers), exceptions=parse_private_exceptions(exceptions))
    with pytest.raises(TargetForbidden) as refusal:
        guard.check(guard.parse(url))
    assert str(refusal.value) == "The target's port is none that this service visits."
