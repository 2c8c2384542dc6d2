"""The browser's proxy, spoken to over plain sockets as a browser would, and as none would."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest

from tests.support.canaries import Canaries, on_a_loop_of_its_own, running_canaries
from tests.support.processes import free_port, wait_until
from tests.support.small_web import ChangingAnswers, Reply, Seen, Site, serving
from thumbnailer.egress_dial import Stream, open_tcp
from thumbnailer.egress_proxy import OWN_ANSWER, EgressProxy, ProxyBounds, running_proxy
from thumbnailer.errors import TargetForbidden, TargetUnreachable
from thumbnailer.guard import Guard, parse_private_exceptions
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


class Opened:
    """Opens connections to what a test puts in the place of addresses, and remembers each attempt."""

    def __init__(self, places: dict[str, int] | None = None) -> None:
        self.places = places or {}
        self.dialled: list[str] = []

    async def __call__(self, address: str, port: int) -> Stream:
        self.dialled.append(address)
        if address not in self.places:
            return await open_tcp(address, port)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.places[address])
        # The transport says whom the proxy asked for, as the far end itself would.
        writer.transport._extra["peername"] = (address, port)  # type: ignore[attr-defined]  # no public way
        return reader, writer


@contextmanager
def proxying(
    *, exceptions: str = "", resolver: Any = None, opened: Opened | None = None, **bounds: Any
) -> Iterator[EgressProxy]:
    """A proxy on a loop of its own."""
    guard = Guard(exceptions=parse_private_exceptions(exceptions), resolver=resolver or ChangingAnswers({}))
    with on_a_loop_of_its_own(
        lambda: running_proxy(guard, open_connection=opened or open_tcp, bounds=ProxyBounds(**bounds))
    ) as proxy:
        yield proxy


@pytest.fixture
def proxy(site: Site) -> Iterator[EgressProxy]:
    """A proxy that may go to the site."""
    site.reply = lambda _: Reply()
    site.seen.clear()
    with proxying(exceptions=place_of(site)) as proxy:
        yield proxy


def place_of(site: Site) -> str:
    return f"127.0.0.1:{site.server_port}"


def password_of(proxy: EgressProxy) -> str:
    token = base64.b64encode(f"{proxy.username}:{proxy.password}".encode()).decode()
    return f"Proxy-Authorization: Basic {token}\r\n"


def connect(proxy: EgressProxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=20)


def read_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while chunk := connection.recv(65536):
        received += chunk
    return bytes(received)


def say(proxy: EgressProxy, message: str | bytes) -> bytes:
    """All that the proxy answers to these bytes."""
    with connect(proxy) as connection:
        connection.sendall(message if isinstance(message, bytes) else message.encode("latin-1"))
        return read_all(connection)


def ask(proxy: EgressProxy, url: str, *, method: str = "GET", fields: str = "", body: str = "") -> bytes:
    """The answer to a plain request."""
    return say(proxy, f"{method} {url} HTTP/1.1\r\nHost: h\r\n{password_of(proxy)}{fields}\r\n{body}")


def ask_tunnel(proxy: EgressProxy, authority: str) -> bytes:
    return say(proxy, f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{password_of(proxy)}\r\n")


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def is_own(proxy: EgressProxy, answer: bytes) -> bool:
    head = answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return proxy.is_own({name.lower(): value for name, _, value in (line.partition(": ") for line in head)})


# Passing on


def test_a_plain_request_reaches_the_server_without_what_is_between_browser_and_proxy(
    proxy: EgressProxy, site: Site
) -> None:
    fields = (
        "Accept: text/html\r\nProxy-Connection: keep-alive\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        "Upgrade: h2c\r\nConnection: keep-alive, X-Hop\r\nX-Hop: secret\r\nCookie: a=b\r\n"
        "Expect: 100-continue\r\n"
    )
    answer = ask(proxy, f"http://{place_of(site)}/a%20b?c=d", fields=fields)
    assert status_of(answer) == 200
    assert answer.endswith(b"\r\n\r\nhello")
    assert not is_own(proxy, answer)
    (seen,) = site.seen
    assert (seen.method, seen.path, seen.host) == ("GET", "/a%20b?c=d", place_of(site))
    assert seen.headers == {
        "host": place_of(site),
        "accept": "text/html",
        "cookie": "a=b",
        "connection": "close",
    }


LONG_PATH = "/" + "a" * 8000


@pytest.mark.parametrize(
    ("written", "asked"),
    [("", "/"), ("/", "/"), ("?q", "/?q"), ("/a/../b%2f", "/a/../b%2f"), (LONG_PATH, LONG_PATH)],
)
def test_paths_arrive_as_the_browser_wrote_them(
    proxy: EgressProxy, site: Site, written: str, asked: str
) -> None:
    assert status_of(ask(proxy, f"http://{place_of(site)}{written}")) == 200
    assert [seen.path for seen in site.seen] == [asked]


@pytest.mark.parametrize("length", [1, 70_000])
def test_a_body_of_known_length_is_passed_on(proxy: EgressProxy, site: Site, length: int) -> None:
    fields = f"Content-Length: {length}\r\n"
    answer = ask(proxy, f"http://{place_of(site)}/", method="POST", fields=fields, body="x" * length)
    assert status_of(answer) == 200
    assert [len(seen.body) for seen in site.seen] == [length]


def test_an_answer_reaches_the_browser_without_what_is_between_proxy_and_server(
    proxy: EgressProxy, site: Site
) -> None:
    site.reply = lambda _: Reply(
        raw=b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 404 Nope\r\nContent-Length: 5\r\n"
        b"Connection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: Basic\r\n"
        b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nX-Folded: one\r\n two\r\nbroken line\r\n"
        + f"{OWN_ANSWER}: {proxy.token}\r\n\r\nwhole".encode()
    )
    answer = ask(proxy, f"http://{place_of(site)}/")
    assert answer == (
        b"HTTP/1.1 404 Nope\r\nContent-Length: 5\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\n"
        b"X-Folded: one two\r\nConnection: close\r\n\r\nwhole"
    )


def test_an_answer_with_bare_line_feeds_is_understood(proxy: EgressProxy, site: Site) -> None:
    site.reply = lambda _: Reply(raw=b"HTTP/1.0 200 OK\nContent-Type: text/plain\n\nbody")
    answer = ask(proxy, f"http://{place_of(site)}/")
    assert answer == b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nbody"


def test_a_tunnel_carries_bytes_both_ways_and_the_end_of_the_servers(site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with proxying(exceptions=place) as proxy, connect(proxy) as browser:
            browser.sendall(f"CONNECT {place} HTTP/1.1\r\n{password_of(proxy)}\r\nearly".encode())
            server = listener.accept()[0]
            with server:
                assert browser.recv(100).startswith(b"HTTP/1.1 200 ")
                assert server.recv(100) == b"early"
                for number in range(3):
                    browser.sendall(b"up %d" % number)
                    assert server.recv(100) == b"up %d" % number
                    server.sendall(b"down %d" % number)
                    assert browser.recv(100) == b"down %d" % number
                server.sendall(b"last words")
                server.shutdown(socket.SHUT_WR)
                assert read_all(browser) == b"last words"
                browser.sendall(b"still heard")
                assert server.recv(100) == b"still heard"
                browser.close()
                assert server.recv(100) == b""


def test_only_one_request_of_a_connection_is_served(proxy: EgressProxy, site: Site) -> None:
    line = f"GET http://{place_of(site)}/%s HTTP/1.1\r\n{password_of(proxy)}\r\n"
    received = b""
    with connect(proxy) as connection:
        connection.sendall((line % "first" + line % "second").encode())
        with suppress(ConnectionError):
            received = read_all(connection)
    assert received.count(b"HTTP/1.1") <= 1
    assert [seen.path for seen in site.seen] in ([], ["/first"])


@pytest.mark.parametrize(
    "head",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
    ids=["with a length", "without a length"],
)
def test_an_answer_that_its_server_breaks_off_has_no_clean_end(head: bytes, site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with proxying(exceptions=place) as proxy, connect(proxy) as browser:
            browser.sendall(f"GET http://{place}/ HTTP/1.1\r\n{password_of(proxy)}\r\n".encode())
            server = listener.accept()[0]
            server.recv(1000)
            server.sendall(head + b"half")
            assert browser.recv(1000)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            server.close()  # resets the connection
            with pytest.raises(ConnectionResetError):
                read_all(browser)


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


# Malformed requests


MALFORMED = {
    "origin form": "GET / HTTP/1.1\r\nHost: {place}\r\n{password}\r\n",
    "https to be opened here": "GET https://{place}/ HTTP/1.1\r\n{password}\r\n",
    "ftp": "GET ftp://{place}/ HTTP/1.1\r\n{password}\r\n",
    "file": "GET file:///etc/passwd HTTP/1.1\r\n{password}\r\n",
    "no host": "GET http:///x HTTP/1.1\r\n{password}\r\n",
    "asterisk": "OPTIONS * HTTP/1.1\r\n{password}\r\n",
    "fragment": "GET http://{place}/#x HTTP/1.1\r\n{password}\r\n",
    "another version": "GET http://{place}/ HTTP/2.0\r\n{password}\r\n",
    "no version": "GET http://{place}/\r\n{password}\r\n",
    "two spaces": "GET  http://{place}/ HTTP/1.1\r\n{password}\r\n",
    "tab": "GET\thttp://{place}/ HTTP/1.1\r\n{password}\r\n",
    "line feed alone": "GET http://{place}/ HTTP/1.1\n{password}\r\n\r\n",
    "empty line first": "\r\nGET http://{place}/ HTTP/1.1\r\n{password}\r\n",
    "not ASCII": "GET http://{place}/\xe4 HTTP/1.1\r\n{password}\r\n",
    "zero byte": "GET http://{place}/ HTTP/1.1\r\n{password}A: \0\r\n\r\n",
    "carriage return alone": "GET http://{place}/ HTTP/1.1\r\n{password}A: b\rC: d\r\n\r\n",
    "folded field": "GET http://{place}/ HTTP/1.1\r\n{password}A: b\r\n c\r\n\r\n",
    "space before the colon": "GET http://{place}/ HTTP/1.1\r\n{password}Content-Length : 5\r\n\r\nhello",
    "field without a name": "GET http://{place}/ HTTP/1.1\r\n{password}: b\r\n\r\n",
    "two lengths": "POST http://{place}/ HTTP/1.1\r\n{password}Content-Length: 5\r\n"
    "Content-Length: 6\r\n\r\nhello",
    "the same length twice": "POST http://{place}/ HTTP/1.1\r\n{password}Content-Length: 5\r\n"
    "Content-Length: 5\r\n\r\nhello",
    "list of lengths": "POST http://{place}/ HTTP/1.1\r\n{password}Content-Length: 5, 5\r\n\r\nhello",
    "signed length": "POST http://{place}/ HTTP/1.1\r\n{password}Content-Length: +5\r\n\r\nhello",
    "hexadecimal length": "POST http://{place}/ HTTP/1.1\r\n{password}Content-Length: 0x5\r\n\r\nhello",
    "chunks": "POST http://{place}/ HTTP/1.1\r\n{password}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": "POST http://{place}/ HTTP/1.1\r\n{password}Content-Length: 5\r\n"
    "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "odd encoding": "POST http://{place}/ HTTP/1.1\r\n{password}Transfer-Encoding: xchunked\r\n\r\n",
    "tunnel without a port": "CONNECT 127.0.0.1 HTTP/1.1\r\n{password}\r\n",
    "tunnel to a URL": "CONNECT http://{place}/ HTTP/1.1\r\n{password}\r\n",
    "tunnel with a body": "CONNECT {place} HTTP/1.1\r\n{password}Content-Length: 5\r\n\r\nhello",
    "head without an end": "GET http://{place}/ HTTP/1.1\r\n{password}A: {long}",
    "head that is too long": "GET http://{place}/ HTTP/1.1\r\n{password}A: {long}\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n",
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_request_that_is_read_in_more_than_one_way_is_not_read_at_all(
    message: str, proxy: EgressProxy, site: Site
) -> None:
    answer = say(proxy, message.format(place=place_of(site), password=password_of(proxy), long="b" * 70_000))
    assert status_of(answer) == 400
    assert is_own(proxy, answer)
    assert site.seen == []


# Who may ask


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param("", id="none"),
        pytest.param("Proxy-Authorization: Basic YnJvd3Nlcjp3cm9uZw==\r\n", id="wrong"),
        pytest.param("Proxy-Authorization: Basic\r\n", id="empty"),
        pytest.param("Authorization: {right}\r\n", id="in another field"),
        pytest.param("Proxy-Authorization: {right}\r\nProxy-Authorization: {right}\r\n", id="twice"),
        pytest.param("Proxy-Authorization: {right}x\r\n", id="longer"),
    ],
)
def test_who_does_not_know_the_password_is_served_nothing(
    fields: str, proxy: EgressProxy, site: Site
) -> None:
    right = password_of(proxy).partition(": ")[2].strip()
    for line in (f"GET http://{place_of(site)}/ HTTP/1.1", f"CONNECT {place_of(site)} HTTP/1.1"):
        answer = say(proxy, f"{line}\r\n{fields.format(right=right)}\r\n")
        assert status_of(answer) == 407
        assert b'Proxy-Authenticate: Basic realm="egress"' in answer
    assert site.seen == []


def test_two_proxies_have_neither_password_nor_token_in_common_and_show_neither() -> None:
    with proxying() as one, proxying() as other:
        assert len({one.password, one.token, other.password, other.token}) == 4
        assert one.password not in repr(one)
        assert one.token not in repr(one)
        assert not one.is_own({OWN_ANSWER.lower(): other.token})
        assert not one.is_own({})


def test_the_proxy_listens_on_loopback_only() -> None:
    with proxying() as proxy, socket.socket() as other:
        assert proxy.url == f"http://127.0.0.1:{proxy.port}"
        other.bind(("127.0.0.2", proxy.port))  # taken, if the proxy listened on all addresses


# Bounds and ends


@pytest.mark.parametrize(
    "message",
    [
        pytest.param("", id="no request"),
        pytest.param("GET http", id="half a request"),
        pytest.param("GET http://{place}/ HTTP/1.1\r\n{password}\r\n", id="no answer"),
        pytest.param(
            "POST http://{place}/ HTTP/1.1\r\n{password}Content-Length: 9\r\n\r\nhalf", id="half a body"
        ),
        pytest.param("CONNECT {place} HTTP/1.1\r\n{password}\r\n", id="silent tunnel"),
    ],
)
def test_nobody_is_waited_for_longer_than_the_idle_limit(message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        with proxying(exceptions=place, idle_seconds=0.3) as proxy, connect(proxy) as browser:
            browser.sendall(message.format(place=place, password=password_of(proxy)).encode())
            with pytest.raises(ConnectionResetError):
                read_all(browser)


def test_connections_beyond_the_limit_are_turned_away(site: Site) -> None:
    with proxying(exceptions=place_of(site), connections=2) as proxy, ExitStack() as stack:
        site.reply = lambda _: Reply()
        for _ in range(2):
            held = stack.enter_context(connect(proxy))
            held.sendall(f"CONNECT {place_of(site)} HTTP/1.1\r\n{password_of(proxy)}\r\n".encode())
            assert held.recv(100).startswith(b"HTTP/1.1 200")
        answer = ask(proxy, f"http://{place_of(site)}/")
        assert status_of(answer) == 503
        assert is_own(proxy, answer)
        stack.close()
        wait_until(lambda: status_of(ask(proxy, f"http://{place_of(site)}/")) == 200)


def test_the_end_of_the_proxy_ends_its_connections_and_threads() -> None:
    threads = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as stack:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with proxying(exceptions=place) as proxy:
            browser = stack.enter_context(connect(proxy))
            browser.sendall(f"CONNECT {place} HTTP/1.1\r\n{password_of(proxy)}\r\n".encode())
            assert browser.recv(100)
            server = stack.enter_context(listener.accept()[0])
        with pytest.raises(ConnectionRefusedError):
            connect(proxy)
        assert server.recv(100) == b""
        with pytest.raises(ConnectionResetError):
            browser.recv(100)
    wait_until(lambda: threading.active_count() <= threads)


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
