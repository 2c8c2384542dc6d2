"""The shipped nginx before a closed service: its cache gives nobody what the service would refuse them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.access import make_key, sqlite_url
from tests.support.edge import TARGETS, ask, edge_cache, port_of
from tests.support.nginx import Nginx, running_nginx
from tests.support.processes import free_port
from tests.support.service import running_app, running_service, snapapi_environment
from tests.support.upstream import Upstream
from tests.support.vectors import SIGNING_KEYS
from thumbnailer.signing import UrlSigner, parse_signing_keys


@dataclass(frozen=True, slots=True)
class ClosedEdge:
    """nginx before a service with signing keys and one API key, as the header that gives it."""

    nginx: Nginx
    key: str

    @property
    def url(self) -> str:
        return self.nginx.url


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClosedEdge]:
    folder = tmp_path_factory.mktemp("closed")
    with Upstream() as vendor:
        environ = snapapi_environment(
            vendor.url,
            TRUSTED_PROXIES="127.0.0.1",
            WEB_CONCURRENCY="1",
            RATELIMIT_ENABLED="false",
            SIGNING_KEYS=SIGNING_KEYS,
            DATABASE_URL=sqlite_url(folder),
        )
        with running_app(environ) as app:
            [(name, text)] = make_key(app, "tests").items()
        changes = {"rate=600r/m": "rate=600r/s"}
        with (
            running_service(folder, environ) as service,
            running_nginx(folder / "nginx", port_of(service.url), changes=changes) as nginx,
        ):
            yield ClosedEdge(nginx, f"{name}: {text}")


def signed(path: str = "/thumb", *, exp: int | None = None, **parameters: str) -> str:
    """The path and the query of a signed URL that nobody has asked for before."""
    signer = UrlSigner(parse_signing_keys(SIGNING_KEYS))
    given = {"url": next(TARGETS), **parameters}
    url = urlsplit(str(signer.sign(path, given.items(), now=time.time(), exp=exp)))
    return f"{url.path}?{url.query}"


def unsigned(path: str) -> str:
    return "&".join(part for part in path.split("&") if not part.startswith(("sig=", "exp=", "kid=")))


def test_a_signed_url_is_answered_by_the_edge_until_its_end_and_by_nobody_afterwards(
    closed: ClosedEdge,
) -> None:
    ends_at = int(time.time()) + 12
    path = signed(exp=ends_at)
    assert edge_cache(ask(closed.url, path)) == "MISS"
    seen = set()
    while (asked_at := time.time()) < ends_at + 4:
        answer = ask(closed.url, path)
        seen.add(edge_cache(answer))
        if asked_at >= ends_at:
            assert answer.status == 403, f"{asked_at - ends_at} s after the end: {edge_cache(answer)}"
            assert answer.json()["type"] == "/problems/signature-expired"
        time.sleep(0.02)
    assert "HIT" in seen


def test_browsers_keep_no_picture_of_the_edge_beyond_the_end_of_its_url(closed: ClosedEdge) -> None:
    ends_at = int(time.time()) + 300
    path = signed(exp=ends_at)
    for expected in ("MISS", "HIT"):
        answer = ask(closed.url, path)
        assert edge_cache(answer) == expected
        directives = answer.headers["cache-control"].split(", ")
        max_age = next(int(each.removeprefix("max-age=")) for each in directives if "max-age" in each)
        assert "must-revalidate" in directives
        assert time.time() + max_age - int(answer.headers["age"]) <= ends_at


def test_no_other_url_is_answered_by_what_a_signed_one_brought_in(closed: ClosedEdge) -> None:
    path = signed()
    assert [edge_cache(ask(closed.url, path)) for _ in range(2)] == ["MISS", "HIT"]
    for other in (unsigned(path), path[:-1] + ("A" if path[-1] != "A" else "B"), path + "&width=800"):
        answer = ask(closed.url, other)
        assert (answer.status, edge_cache(answer)) == (403, "MISS"), other
        assert answer.headers["cache-control"] == "no-store"


def test_what_was_given_for_a_key_is_given_to_nobody_else(closed: ClosedEdge) -> None:
    path, kept = unsigned(signed()), closed.nginx.kept
    for _ in range(2):
        answer = ask(closed.url, path, closed.key)
        assert (answer.status, edge_cache(answer)) == (200, "BYPASS")
        assert answer.headers["cache-control"].startswith("private, ")
    assert closed.nginx.kept == kept
    assert ask(closed.url, path).status == 403


def test_a_wrong_key_is_refused_although_the_picture_lies_in_the_edge(closed: ClosedEdge) -> None:
    path = signed()
    assert [edge_cache(ask(closed.url, path)) for _ in range(2)] == ["MISS", "HIT"]
    for field in ("X-API-Key: tn_wrong", "Authorization: Bearer tn_wrong"):
        assert ask(closed.url, path, field).status == 401


def test_the_edge_counts_networks_of_ipv6_and_addresses_of_ipv4(tmp_path: Path) -> None:
    """Who has a network has no end of addresses in it."""
    changes = {
        "rate=600r/m": "rate=1r/m",
        "zone=answers burst=300 nodelay": "zone=answers",
        "limit_req_status 429;": "limit_req_status 429; set_real_ip_from 127.0.0.1; real_ip_header X-Client;",
    }
    clients = {
        "2001:db8:0:1::1": 502,
        "2001:db8:0:1:ffff::2": 429,
        "2001:db8:0:2::1": 502,
        "192.0.2.1": 502,
        "192.0.2.2": 502,
        "192.0.2.1 ": 429,
        "::ffff:192.0.2.3": 502,
        "::ffff:192.0.2.4": 502,
        "2001:db8:0a0a:0a0a::1": 502,  # line feeds
        "2001:db8:a0a:a0a::a0a": 429,
    }
    with running_nginx(tmp_path, free_port(), changes=changes) as nginx:
        seen = {client: ask(nginx.url, "/health", f"X-Client: {client}").status for client in clients}
    assert seen == clients
