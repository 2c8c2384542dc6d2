"""Fetches go to the addresses that were checked and nowhere else, whatever names and redirects do."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.fetching import OK, OTHER_PUBLIC, PUBLIC, Behaviour, Fetching, redirect
from tests.support.small_web import ChangingAnswers, Reply, Seen, SmallWeb, running_small_web
from tests.support.stores import silent_server
from thumbnailer.egress import GuardedSession
from thumbnailer.errors import RequestRefused, TargetForbidden, TargetUnreachable
from thumbnailer.guard import Guard, parse_private_exceptions
from thumbnailer.model import Deadline
from thumbnailer.wire import CONNECT_SECONDS, Cutoff

REPOSITORY = Path(__file__).parent.parent.parent
SHARED_CASES = REPOSITORY.parent / "shared" / "ssrf" / "dynamic.json"
OWN_CASES = REPOSITORY / "tests" / "ssrf" / "dynamic.json"
CASES: list[dict[str, Any]] = json.loads((SHARED_CASES if SHARED_CASES.is_file() else OWN_CASES).read_text())


def cases_of(*kinds: str) -> list[Any]:
    return [
        pytest.param(case, id=f"{case['kind']}-{number}")
        for number, case in enumerate(CASES)
        if case["kind"] in kinds
    ]


def behaviour_of(case: Mapping[str, Any]) -> Behaviour:
    """How the sites behave in a shared case."""
    status = case.get("status", 302)

    def reply(seen: Seen) -> Reply:
        is_start = case.get("start", "").endswith(f"{seen.host}{seen.path}")
        if "hops" in case:
            number = int(seen.path.strip("/"))
            return redirect(f"/{number + 1}") if number < case["hops"] else Reply()
        if "location" in case and (
            is_start and not (case["kind"] == "redirect-downgrade" and not seen.server_name)
        ):
            return redirect(case["location"], status)
        return Reply()

    return reply


@pytest.mark.parametrize(
    "case",
    cases_of(
        "redirect",
        "redirect-count",
        "redirect-loop",
        "redirect-public",
        "redirect-downgrade",
        "rebind",
        "cname",
    ),
)
def test_every_shared_case_comes_out_right_and_connects_to_nobody_it_must_not(
    case: dict[str, Any], fetching: Callable[..., Fetching]
) -> None:
    answers = {name: [addresses] for name, addresses in case.get("resolves", {}).items()}
    if case["kind"] == "rebind":
        answers = {"rebind.attacker.example.com": case["answers_in_order"]}
    one = fetching(behaviour_of(case), answers)

    try:
        verdict = "allow" if one.fetch(case.get("start") or case["url"]).status == 200 else "odd"
    except (RequestRefused, TargetUnreachable):
        verdict = "block"
    assert verdict == case["expect"], case
    assert not set(one.internet.addresses()) & set(case.get("never_connect", []))
    assert set(one.internet.addresses()) <= {PUBLIC, OTHER_PUBLIC}


def test_each_connection_looks_up_once_and_a_new_one_checks_anew(fetching: Callable[..., Fetching]) -> None:
    name = "rebind.attacker.example.com"
    one = fetching(answers={name: [[PUBLIC], ["10.0.0.1"]]})
    for _ in range(3):  # the connection stays open and is used again
        assert one.fetch(f"https://{name}/").body == b"hello"
    assert one.resolver.asked == [name]
    assert one.internet.dialled == [(PUBLIC, 443)]

    one.session.close()
    with pytest.raises(TargetForbidden):
        one.fetch(f"https://{name}/")
    assert one.internet.dialled == [(PUBLIC, 443)]


# Connecting


def test_addresses_are_tried_in_order_until_one_answers(fetching: Callable[..., Fetching]) -> None:
    answers = ["2606:4700::1111", OTHER_PUBLIC, PUBLIC, "8.8.8.8"]
    one = fetching(answers={"ok.example.com": [answers]}, absent=answers[:2])
    assert one.fetch("http://ok.example.com/").status == 200
    assert one.internet.addresses() == answers[:3]


def test_an_address_that_does_not_answer_leaves_time_for_the_next(fetching: Callable[..., Fetching]) -> None:
    one = fetching(answers={"ok.example.com": [[OTHER_PUBLIC, PUBLIC]]}, absent=[OTHER_PUBLIC])
    assert one.fetch("http://ok.example.com/", seconds=3600).status == 200
    assert one.internet.granted_seconds == [CONNECT_SECONDS] * 2


def test_a_host_none_of_whose_addresses_answers_is_unreachable(fetching: Callable[..., Fetching]) -> None:
    one = fetching(absent=[PUBLIC])
    with pytest.raises(TargetUnreachable, match=r"^The target could not be reached\.$"):
        one.fetch("http://ok.example.com/")


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_connection_that_has_reached_another_address_is_dropped_unused(
    scheme: str, fetching: Callable[..., Fetching]
) -> None:
    one = fetching(far_end="127.0.0.1")
    with pytest.raises(TargetForbidden):
        one.fetch(f"{scheme}://ok.example.com/")
    assert one.web.seen() == []


def test_proxies_and_passwords_of_the_environment_are_not_taken(
    fetching: Callable[..., Fetching], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine ok.example.com login user password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    one = fetching()
    for scheme in ("http", "https"):
        assert one.fetch(f"{scheme}://ok.example.com/").status == 200
    assert one.internet.dialled == [(PUBLIC, 80), (PUBLIC, 443)]
    assert all("authorization" not in seen.headers for seen in one.web.seen())


def test_what_the_operator_opens_is_fetched(web: SmallWeb) -> None:
    place = f"127.0.0.1:{web.plain.server_port}"
    web.plain.reply = lambda _: Reply()
    with closing(GuardedSession(Guard(exceptions=parse_private_exceptions(place)))) as session:
        answer = session.fetch("GET", f"http://{place}/", deadline=Deadline.after(20), max_bytes=100)
        assert (answer.status, answer.body) == (200, b"hello")
        with pytest.raises(TargetForbidden):
            session.fetch("GET", "http://127.0.0.1:1/", deadline=Deadline.after(20), max_bytes=100)


# TLS


def test_the_name_and_not_the_address_is_asked_for_and_verified(fetching: Callable[..., Fetching]) -> None:
    one = fetching()
    assert one.fetch("https://ok.example.com/").status == 200
    assert [(seen.server_name, seen.host) for seen in one.web.secure.seen] == [("ok.example.com",) * 2]


def test_a_certificate_of_another_name_is_refused(fetching: Callable[..., Fetching]) -> None:
    one = fetching(answers={"other.example.com": [[PUBLIC]]})
    for url in ("https://other.example.com/", f"https://{PUBLIC}/"):
        with pytest.raises(TargetUnreachable, match="certificate"):
            one.fetch(url)
    assert one.web.seen() == []


def test_a_certificate_of_an_unknown_authority_or_out_of_date_is_refused(tmp_path: Path) -> None:
    with running_small_web(tmp_path, lambda _: Reply(), names=["ok.example.com"], is_expired=True) as stale:
        for ca in (None, str(stale.ca)):
            guard = Guard(resolver=ChangingAnswers(OK))
            with (
                closing(GuardedSession(guard, connect=stale.internet().connect, ca_bundle=ca)) as session,
                pytest.raises(TargetUnreachable, match="certificate"),
            ):
                session.fetch("GET", "https://ok.example.com/", deadline=Deadline.after(20), max_bytes=100)


# Bounds


def test_a_body_over_the_limit_is_not_read_to_its_end(fetching: Callable[..., Fetching]) -> None:
    one = fetching(lambda _: Reply(body=b"x" * 1000))
    assert len(one.fetch("https://ok.example.com/", max_bytes=1000).body) == 1000
    with pytest.raises(TargetUnreachable, match="longer than 999 bytes"):
        one.fetch("https://ok.example.com/", max_bytes=999)


def test_a_body_that_is_cut_off_is_no_answer(fetching: Callable[..., Fetching]) -> None:
    one = fetching(lambda _: Reply(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"))
    with pytest.raises(TargetUnreachable):
        one.fetch("https://ok.example.com/")


def test_bodies_stay_encoded_so_that_none_can_unfold(fetching: Callable[..., Fetching]) -> None:
    one = fetching(lambda _: Reply(headers=(("Content-Encoding", "gzip"),), body=b"\x1f\x8b raw"))
    assert one.fetch("https://ok.example.com/").body == b"\x1f\x8b raw"
    assert one.web.seen()[0].headers["accept-encoding"] == "identity"


@contextmanager
def dripping(start: bytes) -> Iterator[int]:
    """A server that sends ``start`` and then a byte now and then, for ever; yields its port."""
    ended = threading.Event()

    def drip(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            connection.sendall(start)
            try:
                while not ended.wait(0.02):
                    connection.sendall(b"x")
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            thread.join(5)


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(b"", id="status line"),
        pytest.param(b"HTTP/1.1 200 OK\r\nX-Slow: ", id="headers"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="body without a length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", id="body with a length"),
    ],
)
def test_a_server_that_drips_is_cut_off_at_the_deadline(
    start: bytes, fetching: Callable[..., Fetching]
) -> None:
    with dripping(start) as port:
        one = fetching(exceptions="127.0.0.1:81")
        one.internet.sites = {81: port}
        with pytest.raises(TargetUnreachable, match="in time"):
            one.fetch("http://127.0.0.1:81/", seconds=0.5)


def test_the_deadline_holds_over_all_redirects_together(fetching: Callable[..., Fetching]) -> None:
    hold = threading.Event()

    def slow(seen: Seen) -> Reply:
        hold.wait(0.2)
        return redirect(f"{seen.path}x")

    one = fetching(slow)
    with pytest.raises(TargetUnreachable, match="in time"):
        one.fetch("https://ok.example.com/", seconds=0.5)
    assert len(one.web.seen()) < 5


@pytest.mark.timeout(30)
def test_a_silent_server_is_given_up_though_the_watch_over_its_connection_never_strikes(
    fetching: Callable[..., Fetching], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cutoff, "_strike", lambda _: None)
    with silent_server() as (url, _):
        one = fetching(exceptions="127.0.0.1:81")
        one.internet.sites = {81: urlsplit(url).port or 0}
        with pytest.raises(TargetUnreachable, match="in time"):
            one.fetch("http://127.0.0.1:81/", seconds=0.4)


def test_after_the_deadline_nobody_is_asked(fetching: Callable[..., Fetching]) -> None:
    one = fetching()
    with pytest.raises(TargetUnreachable, match="in time"):
        one.fetch("https://ok.example.com/", seconds=0)
    assert one.internet.dialled == []
