"""The browser's proxy, spoken to over plain sockets as a browser would, and as none would."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from tests.support.processes import wait_until
from tests.support.proxy_clients import (
    ask,
    connect,
    is_own,
    password_of,
    place_of,
    proxying,
    read_all,
    say,
    status_of,
)
from tests.support.small_web import Reply, Site, serving
from thumbnailer.egress_proxy import OWN_ANSWER, EgressProxy


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(lambda _: Reply())
    with serving(site):
        yield site


@pytest.fixture
def proxy(site: Site) -> Iterator[EgressProxy]:
    """A proxy that may go to the site."""
    site.reply = lambda _: Reply()
    site.seen.clear()
    with proxying(exceptions=place_of(site)) as proxy:
        yield proxy


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


def test_a_server_keeps_nobody_waiting_by_a_value_that_is_mostly_blanks(
    proxy: EgressProxy, site: Site
) -> None:
    blanks = b" " * 65_000
    site.reply = lambda _: Reply(raw=b"HTTP/1.1 200 OK\r\nX-Blank:  a" + blanks + b"z \r\n\r\nbody")
    answer = ask(proxy, f"http://{place_of(site)}/")
    assert answer == b"HTTP/1.1 200 OK\r\nX-Blank: a" + blanks + b"z\r\nConnection: close\r\n\r\nbody"


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


def test_no_connection_lasts_longer_than_it_may_in_all() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        with proxying(exceptions=place, total_seconds=0.3) as proxy, connect(proxy) as browser:
            browser.sendall(f"CONNECT {place} HTTP/1.1\r\n{password_of(proxy)}\r\n".encode())
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
