"""What the browser's proxy refuses, cannot reach, and records of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.support.canaries import Canaries, running_canaries
from tests.support.processes import free_port
from tests.support.proxy_clients import (
    Opened,
    ask,
    connect,
    is_own,
    password_of,
    place_of,
    proxying,
    say,
    status_of,
)
from tests.support.small_web import ChangingAnswers, Reply, Seen, Site, serving
from thumbnailer.egress_dial import Stream, open_tcp
from thumbnailer.egress_proxy import EgressProxy
from thumbnailer.errors import TargetForbidden, TargetUnreachable
from thumbnailer.refusals import Refusals

PUBLIC = "93.184.216.34"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(lambda _: Reply())
    with serving(site):
        yield site


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    with running_canaries() as canaries:
        yield canaries


@pytest.fixture
def proxy(site: Site) -> Iterator[EgressProxy]:
    """A proxy that may go to the site."""
    site.reply = lambda _: Reply()
    site.seen.clear()
    with proxying(exceptions=place_of(site)) as proxy:
        yield proxy


def ask_tunnel(proxy: EgressProxy, authority: str) -> bytes:
    return say(proxy, f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{password_of(proxy)}\r\n")


# Refusing


RESOLVED = {
    "private.example.com": [["10.0.0.1"]],
    "loopback.example.com": [["127.0.0.1"]],
    "loopback6.example.com": [["::1"]],
    "metadata.example.com": [["169.254.169.254"]],
    "mixed.example.com": [[PUBLIC, "127.0.0.1"]],
    "mapped.example.com": [["::ffff:127.0.0.1"]],
    "public.example.com": [[PUBLIC]],
}

FORBIDDEN = [
    "127.0.0.1",
    "127.0.0.1:{port}",
    "127.1.2.3:{port}",
    "[::1]:{port}",
    "[::]:{port}",
    "[::ffff:127.0.0.1]:{port}",
    "[::ffff:7f00:1]",
    "0.0.0.0:{port}",
    "10.0.0.1",
    "169.254.169.254",
    "168.63.129.16",
    "[fd00:ec2::254]",
    "localhost:{port}",
    "LOCALHOST",
    "foo.localhost",
    "wiki.corp",
    "2130706433:{port}",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "user@127.0.0.1",
    "127.0.0.1%09",
    "public.example.com:22",
    "public.example.com:{port}",
    *RESOLVED.keys() - {"public.example.com"},
]


@pytest.mark.parametrize("kind", ["plain", "tunnel"])
@pytest.mark.parametrize("authority", sorted(FORBIDDEN))
def test_what_is_not_public_is_refused_before_anybody_connects(
    authority: str, kind: str, canaries: Canaries
) -> None:
    authority = authority.format(port=canaries.port)
    opened = Opened()
    with proxying(resolver=ChangingAnswers(RESOLVED), opened=opened) as proxy:
        if kind == "plain":
            answer, url = ask(proxy, f"http://{authority}/"), f"http://{authority}/"
        else:
            has_port = authority.rstrip("0123456789").endswith(":")
            authority = authority if has_port else f"{authority}:443"
            answer, url = ask_tunnel(proxy, authority), f"https://{authority}/"
        if "@" in authority and kind == "tunnel":
            assert status_of(answer) == 400
        else:
            assert status_of(answer) == 403
            assert isinstance(proxy.refusals.of_url(url.replace("user@", "")), TargetForbidden) or "@" in url
        assert is_own(proxy, answer)
        assert answer.endswith(b"\r\n\r\n")
    assert opened.dialled == []
    assert canaries.knocks == []


def test_the_proxy_cannot_be_reached_through_itself() -> None:
    with proxying() as proxy:
        for authority in (f"127.0.0.1:{proxy.port}", f"localhost:{proxy.port}"):
            assert status_of(ask(proxy, f"http://{authority}/")) == 403
            assert status_of(ask_tunnel(proxy, authority)) == 403


def test_each_connection_is_resolved_once_and_checked_anew(site: Site) -> None:
    resolver = ChangingAnswers({"rebind.example.com": [[PUBLIC], ["127.0.0.1"], [PUBLIC, "::1"]]})
    opened = Opened({PUBLIC: site.server_port})
    site.reply = lambda _: Reply()
    with proxying(resolver=resolver, opened=opened) as proxy:
        statuses = [status_of(ask(proxy, "http://rebind.example.com/")) for _ in range(3)]
        assert statuses == [200, 403, 403]
        assert resolver.asked == ["rebind.example.com"] * 3
        assert status_of(ask_tunnel(proxy, "rebind.example.com:443")) == 403
    assert opened.dialled == [PUBLIC]


def test_a_connection_that_has_reached_another_address_is_refused(site: Site) -> None:
    class Diverted(Opened):
        async def __call__(self, address: str, port: int) -> Stream:
            return await open_tcp("127.0.0.1", site.server_port)

    site.seen.clear()
    with proxying(resolver=ChangingAnswers(RESOLVED), opened=Diverted()) as proxy:
        assert status_of(ask(proxy, "http://public.example.com/")) == 403
        assert status_of(ask_tunnel(proxy, "public.example.com:443")) == 403
    assert site.seen == []


def test_addresses_are_tried_in_order_until_one_answers(site: Site) -> None:
    class Picky(Opened):
        async def __call__(self, address: str, port: int) -> Stream:
            if address not in self.places:
                self.dialled.append(address)
                raise ConnectionRefusedError
            return await super().__call__(address, port)

    answers = ["2606:4700::1111", "1.1.1.1", PUBLIC, "8.8.8.8"]
    opened = Picky({PUBLIC: site.server_port})
    resolver = ChangingAnswers({"many.example.com": [answers]})
    with proxying(resolver=resolver, opened=opened) as proxy:
        assert status_of(ask(proxy, "http://many.example.com/")) == 200
    assert opened.dialled == answers[:3]


def test_what_follows_the_body_of_a_request_is_not_passed_on() -> None:
    """It would be a request that nobody has looked at."""
    received = bytearray()

    def take_in(server: socket.socket) -> None:
        with server.accept()[0] as connection, suppress(ConnectionError):
            while chunk := connection.recv(65536):
                received.extend(chunk)

    with socket.create_server(("127.0.0.1", 0)) as server, ThreadPoolExecutor(1) as threads:
        place = f"127.0.0.1:{server.getsockname()[1]}"
        taken = threads.submit(take_in, server)
        with proxying(exceptions=place) as proxy, connect(proxy) as browser:
            head = (
                f"POST http://{place}/ HTTP/1.1\r\nHost: h\r\n{password_of(proxy)}Content-Length: 4\r\n\r\n"
            )
            browser.sendall(f"{head}abcdGET http://{place}/behind HTTP/1.1\r\n\r\n".encode())
            taken.result(20)
    assert received.startswith(b"POST / HTTP/1.1")
    assert received.endswith(b"\r\n\r\nabcd")


def test_a_refusal_reaches_a_browser_that_is_still_sending(canaries: Canaries) -> None:
    with proxying() as proxy:
        answer = ask(
            proxy,
            f"http://127.0.0.1:{canaries.port}/",
            method="POST",
            fields="Content-Length: 500000\r\n",
            body="x" * 500_000,
        )
        assert status_of(answer) == 403
        assert is_own(proxy, answer)


# Not reaching


def unreachable(raw: bytes) -> Callable[[Seen], Reply]:
    return lambda _: Reply(raw=raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        pytest.param(b"", "broke the connection", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: b\r\n", "broke the connection", id="half a head"),
        pytest.param(b"SSH-2.0-OpenSSH_9\r\n\r\n", "no valid answer", id="another protocol"),
        pytest.param(b"HTTP/2 200 OK\r\n\r\n", "no valid answer", id="another version"),
        pytest.param(b"HTTP/1.1 99 What\r\n\r\n", "no valid answer", id="no status"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "no valid answer", id="an upgrade"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 50, "no valid answer", id="not yet, for ever"),
        pytest.param(b"HTTP/1.1 407 Login\r\nProxy-Authenticate: Basic\r\n\r\n", "no valid answer", id="407"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 20_000, "no valid answer", id="endless head"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000, "no valid answer", id="endless line"),
    ],
)
def test_a_server_that_speaks_no_http_is_unreachable(
    raw: bytes, words: str, proxy: EgressProxy, site: Site
) -> None:
    site.reply = unreachable(raw)
    url = f"http://{place_of(site)}/"
    answer = ask(proxy, url)
    assert status_of(answer) == 502
    assert is_own(proxy, answer)
    refusal = proxy.refusals.of_url(url)
    assert isinstance(refusal, TargetUnreachable)
    assert words in str(refusal)

    site.reply = lambda _: Reply()
    assert status_of(ask(proxy, url)) == 200
    assert proxy.refusals.of_url(url) is None


def test_who_is_not_there_is_unreachable(site: Site) -> None:
    place = f"127.0.0.1:{free_port()}"
    with proxying(exceptions=place) as proxy:
        assert status_of(ask_tunnel(proxy, place)) == 502
        assert str(proxy.refusals.of_url(f"https://{place}/x")) == "The target's host refuses the connection."
        assert status_of(ask(proxy, "http://nowhere.example.com/")) == 502
        assert "does not exist" in str(proxy.refusals.of_url("http://nowhere.example.com/a?b"))


def test_an_address_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Opened):
        async def __call__(self, address: str, port: int) -> Stream:
            self.dialled.append(address)
            raise TimeoutError

    opened = Silent()
    resolver = ChangingAnswers({"slow.example.com": [["1.1.1.1", "8.8.8.8"]]})
    with proxying(resolver=resolver, opened=opened) as proxy:
        assert status_of(ask(proxy, "http://slow.example.com/")) == 502
        assert "does not answer" in str(proxy.refusals.of_url("http://slow.example.com/"))
    assert opened.dialled == ["1.1.1.1", "8.8.8.8"]


# The record of refusals


@pytest.mark.parametrize(
    ("authority", "default_port", "url"),
    [
        ("a.example:443", 443, "https://a.example/x?y#z"),
        ("a.example:8443", 443, "https://a.example:8443/"),
        ("A.example", 80, "http://a.EXAMPLE/"),
        ("a.example", 80, "http://user:pw@a.example:80/"),
        ("[::1]:443", 443, "https://[::1]/"),
        ("[::1]", 80, "http://[::1]/"),
    ],
)
def test_a_refusal_is_found_by_the_url_that_met_it(authority: str, default_port: int, url: str) -> None:
    refusals, error = Refusals(), TargetForbidden("no")
    refusals.note(authority, default_port, error)
    assert refusals.of_url(url) is error
    for other in (
        "https://b.example/",
        "https://a.example:444/",
        "http://[::2]/",
        "data:text/html,a.example",
    ):
        assert refusals.of_url(other) is None
    refusals.forget(authority, default_port)
    assert refusals.of_url(url) is None


def test_the_oldest_refusals_are_forgotten_first() -> None:
    refusals = Refusals(remembered=2)
    hosts: Sequence[str] = ("a.example", "b.example", "a.example", "c.example")
    for host in hosts:
        refusals.note(host, 80, TargetForbidden("no"))
    known = [host for host in "abc" if refusals.of_url(f"http://{host}.example/")]
    assert known == ["a", "c"]
