"""Signed URLs through the door: good ones are answered, changed ones cause nothing, none outlives its end."""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from tests.support.access import sqlite_url
from tests.support.interpreters import run
from tests.support.processes import executable, free_port, running, wait_until
from tests.support.service import TARGET, client_of, running_service, snapapi_environment
from tests.support.upstream import Upstream
from tests.support.vectors import KEYS, RECIPES, SIGNING_KEYS
from thumbnailer.signing import UrlSigner, parse_signing_keys

SIGNER = UrlSigner(parse_signing_keys(SIGNING_KEYS))
AWKWARD = f"{TARGET}//a/?q=a+b&x=100%25&Köln=🍕'(1)*~!#top"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path) -> Iterator[FlaskClient]:
    settings = {
        "DATABASE_URL": sqlite_url(tmp_path),
        "RATELIMIT_ENABLED": "false",
        "TRUSTED_PROXIES": "127.0.0.1",
    }
    with client_of(snapapi_environment(upstream.url, SIGNING_KEYS=SIGNING_KEYS, **settings)) as client:
        yield client


def signed(url: str = TARGET, *, path: str = "/thumb", exp: int | None = None, **options: str) -> str:
    parameters = {"url": url, **options}
    now = time.time() if exp is None or exp > time.time() else 0
    return str(SIGNER.sign(path, parameters.items(), now=now, exp=exp))


QUERY = urlsplit(signed(thumb_width="400", exp=4_102_444_800)).query
PAST = urlsplit(signed(thumb_width="400", exp=1_700_000_000)).query


@pytest.mark.parametrize(
    ("target", "slug"),
    [
        pytest.param(
            f"/thumb?{QUERY.replace('width=400', 'width=500')}", "signature-invalid", id="a changed value"
        ),
        pytest.param(f"/thumb?{QUERY.replace('page', 'other')}", "signature-invalid", id="another target"),
        pytest.param(
            f"/thumb?{QUERY.replace('thumb_width=400&', '')}", "signature-invalid", id="a missing one"
        ),
        pytest.param(
            f"/thumb?{QUERY.replace('exp=4102444800&', '')}", "signature-invalid", id="the end taken off"
        ),
        pytest.param(
            f"/thumb?{QUERY.replace('exp=41', 'exp=51')}", "signature-invalid", id="the end put off"
        ),
        pytest.param(f"/thumb?{QUERY}&delay=1000", "signature-invalid", id="an added one"),
        pytest.param(f"/thumb?{QUERY}&fresh=true", "signature-invalid", id="a fresh one"),
        pytest.param(f"/thumb?{QUERY}&utm_source=mail", "signature-invalid", id="a tracker"),
        pytest.param(
            f"/thumb?{QUERY}&url=http%3A%2F%2F93.184.216.35%2F", "signature-invalid", id="a second target"
        ),
        pytest.param(f"/screenshot?{QUERY}", "signature-invalid", id="another path"),
        pytest.param(f"/screenshot/stream?{QUERY}", "signature-invalid", id="a stream"),
        pytest.param(f"/thumb?{QUERY.replace('kid=k1', 'kid=k2')}", "signature-invalid", id="another key"),
        pytest.param(f"/thumb?{QUERY.replace('kid=k1', 'kid=k9')}", "signature-invalid", id="an unknown key"),
        pytest.param(f"/thumb?{QUERY}=", "signature-invalid", id="a padded signature"),
        pytest.param(f"/thumb?{QUERY}&sig=a", "signature-invalid", id="two signatures"),
        pytest.param(f"/thumb?{QUERY}%FF", "signature-invalid", id="bytes that are no UTF-8"),
        pytest.param(f"/thumb?{PAST}", "signature-expired", id="one that is over"),
        pytest.param(f"/thumb?{QUERY.partition('&sig=')[0]}", "signature-required", id="no signature"),
    ],
)
@pytest.mark.parametrize("is_cached", [False, True], ids=["uncached", "cached"])
def test_what_was_not_signed_is_refused_and_causes_nothing(
    client: FlaskClient, upstream: Upstream, target: str, slug: str, is_cached: bool
) -> None:
    if is_cached:
        assert client.get(f"/thumb?{QUERY}", buffered=True).status_code == 200
    before = len(upstream.requests)
    for method in ("GET", "HEAD"):
        answer = client.open(target, method=method)
        assert answer.status_code == 403
        assert answer.headers["Cache-Control"] == "no-store"
    assert client.get(target).get_json()["type"] == f"/problems/{slug}"
    shown = client.get(target, headers={"Sec-Fetch-Dest": "image"})
    assert (shown.status_code, shown.headers["X-Problem"]) == (403, slug)
    assert shown.content_type.startswith("image/")
    assert len(upstream.requests) == before


@pytest.mark.parametrize("path", ["/thumb", "/screenshot", "/screenshot/stream"])
def test_what_was_signed_is_answered_and_kept_no_longer_than_it_is_good(
    client: FlaskClient, path: str
) -> None:
    exp = int(time.time()) + 500
    url = signed(path=path, exp=exp)
    for _ in range(2):  # taken anew, then out of the cache
        answer = client.get(url, buffered=True)
        assert answer.status_code == 200
        max_age = int(answer.headers["Cache-Control"].partition("max-age=")[2].split(",")[0])
        assert 0 < max_age - int(answer.headers.get("Age", 0)) <= 500
        assert "stale" not in answer.headers["Cache-Control"]
        assert answer.headers["X-Accel-Expires"] == f"@{exp - 1}"
    assert "X-Accel-Expires" not in client.get(signed(path=path), buffered=True).headers


def test_an_edge_that_asks_for_terms_of_its_own_gets_only_those(client: FlaskClient) -> None:
    url = signed(exp=int(time.time()) + 500)
    assert "X-Accel-Expires" in client.get(url, buffered=True).headers
    asked = client.get(url, headers={"X-Edge-Seconds": "60"}, buffered=True)
    assert "X-Accel-Expires" not in asked.headers
    assert asked.headers["Cache-Control"].startswith("max-age=60")


def test_a_conditional_request_for_an_expired_url_is_no_way_around(client: FlaskClient) -> None:
    etag = client.get(f"/thumb?{QUERY}", buffered=True).headers["ETag"]
    assert client.get(f"/thumb?{QUERY}", headers={"If-None-Match": etag}).status_code == 304
    assert client.get(f"/thumb?{PAST}", headers={"If-None-Match": etag}).status_code == 403


# --- over the wire ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


def get(base: str, target: str) -> Reply:
    """Ask as it stands: nothing between here and the server mends or normalises the URL."""
    connection = http.client.HTTPConnection(urlsplit(base).netloc, timeout=60)
    try:
        connection.putrequest("GET", target)
        connection.endheaders()
        answer = connection.getresponse()
        return Reply(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("signed")


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[str]:
    settings = {
        "SIGNING_KEYS": SIGNING_KEYS,
        "DATABASE_URL": sqlite_url(folder),
        "RATELIMIT_ENABLED": "false",
    }
    with (
        Upstream() as upstream,
        running_service(
            folder, snapapi_environment(upstream.url, WEB_CONCURRENCY="1", **settings)
        ) as service,
    ):
        yield service.url


#: As docs/signing.md has it: a cache of the whole URL, stale periods from the headers alone, and a prefix.
NGINX = """
{user} pid {folder}/nginx.pid; error_log {folder}/error.log warn; daemon off; worker_processes 1;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
    uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    proxy_cache_path {folder}/edge keys_zone=edge:1m;
    server {{
        listen 127.0.0.1:{port};
        location /service/ {{
            proxy_pass {service}/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_cache edge;
            proxy_cache_background_update on;
            add_header X-Edge $upstream_cache_status always;
        }}
    }}
}}
"""


@pytest.fixture(scope="module")
def edge(folder: Path, service: str) -> Iterator[str]:
    """nginx with a cache in front of the service, which it publishes below ``/service``."""
    port = free_port()
    config = folder / "edge.conf"
    # Started by root it would write as somebody who may not enter the tests' folder.
    user = "user root;" if os.geteuid() == 0 else ""
    text = NGINX.format(user=user, folder=folder, port=port, service=service)
    config.write_text(text, encoding="utf-8")
    command = [executable("nginx"), "-c", str(config), "-p", str(folder)]
    with running(command, port=port, log=folder / "edge.log"):
        yield f"http://127.0.0.1:{port}/service"


@pytest.mark.parametrize("way", ["straight", "through nginx, below a path"])
@pytest.mark.parametrize(
    "command",
    [
        ["python3", "signed_url.py"],
        ["php", "signed_url.php"],
        ["node", "signed_url.mjs"],
        ["ruby", "signed_url.rb"],
    ],
    ids=lambda command: command[0],
)
def test_the_url_of_every_recipe_is_answered(service: str, edge: str, command: list[str], way: str) -> None:
    base = service if way == "straight" else edge
    options = [f"url={AWKWARD}", "thumb_width=320", "selector=#a > b + c", "download=Grüße 1.png"]
    environ = {"SIGNING_KEYS": f"k2:{KEYS['k2']}"}
    url = run(command[0], RECIPES / command[1], base, "/thumb", *options, environ=environ).strip()
    reply = get(base, url.removeprefix(f"http://{urlsplit(base).netloc}"))
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/png"), reply.body


def test_an_edge_that_caches_whole_urls_answers_each_by_its_own_signature(edge: str) -> None:
    target = f"/service{signed(f'{TARGET}?edge')}"
    assert [get(edge, target).headers["X-Edge"] for _ in range(2)] == ["MISS", "HIT"]
    bare = target.partition("&sig=")[0]
    for refused in (bare, f"{target}x", f"{target}&delay=5", target.replace("kid=k1", "kid=k2")):
        reply = get(edge, refused)
        assert (reply.status, reply.headers["X-Edge"]) == (403, "MISS"), refused
    assert get(edge, target).headers["X-Edge"] == "HIT", "a refusal does not take the picture's place"


def test_no_edge_answers_with_a_signature_that_is_over(service: str, edge: str) -> None:
    """The picture is older than the URL has left: counted from its ``Age`` it would outlive the URL."""
    page = f"{TARGET}?ends"
    wait_until(
        lambda: int(get(service, signed(page)).headers["Age"]) >= 3, what="a picture that is some seconds old"
    )
    exp = int(time.time()) + 3
    target = f"/service{signed(page, exp=exp)}"
    first = get(edge, target)
    assert (first.status, first.headers["X-Edge"]) == (200, "MISS")
    assert "X-Accel-Expires" not in first.headers
    assert get(edge, target).headers["X-Edge"] == "HIT"
    asked_at, reply = time.time(), get(edge, target)
    while reply.status == 200:
        assert asked_at < exp
        asked_at, reply = time.time(), get(edge, target)
    assert reply.status == 403
    assert asked_at >= exp - 1
