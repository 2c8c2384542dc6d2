"""The browser's only road out: whatever a page tries, it connects to nobody whom the guard forbids."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import quote

import psutil
import pytest
import requests
from playwright.sync_api import sync_playwright

from tests.support.canaries import Canaries, running_canaries
from tests.support.chromium import chromium, guard_with, take
from tests.support.leaks import all_leaks, leaking_pages
from tests.support.pages import GREEN, colour_at
from tests.support.processes import wait_until
from tests.support.small_web import ChangingAnswers, Reply, Site, serving
from thumbnailer.errors import TargetForbidden, TargetUnreachable
from thumbnailer.providers.chromium import ChromiumProvider, find_chromium

LEAKS = all_leaks()

NAMES = {
    "ten.example.com": [["10.0.0.1"]],
    "loop.example.com": [["127.0.0.1"]],
    "six.example.com": [["::1"]],
    "mapped.example.com": [["::ffff:127.0.0.1"]],
    "metadata.example.com": [["169.254.169.254"]],
    "mixed.example.com": [["93.184.216.34", "127.0.0.1"]],
    "unspecified.example.com": [["0.0.0.0"]],
}

#: Where nobody may go, as pages write it; ``{p}`` is the port at which somebody listens.
FORBIDDEN = {
    "loopback": "127.0.0.1:{p}",
    "loopback of six": "[::1]:{p}",
    "mapped": "[::ffff:127.0.0.1]:{p}",
    "compatible": "[::127.0.0.1]:{p}",
    "another loopback": "127.8.8.8:{p}",
    "localhost": "localhost:{p}",
    "below localhost": "a.localhost:{p}",
    "nothing": "0.0.0.0:{p}",
    "nothing of six": "[::]:{p}",
    "decimal": "2130706433:{p}",
    "octal": "0177.0.0.1:{p}",
    "hexadecimal": "0x7f.1:{p}",
    "short": "127.1:{p}",
    "with a dot": "127.0.0.1.:{p}",
    "wide digits": "①②⑦.0.0.1:{p}",
    "ten": "10.0.0.1:{p}",
    "ten at 80": "10.0.0.1:80",
    "metadata": "169.254.169.254:80",
    "metadata of six": "[fd00:ec2::254]:80",
    "shared": "100.64.0.1:{p}",
    "link-local": "[fe80::1]:{p}",
    **{name.partition(".")[0]: f"{name}:{{p}}" for name in NAMES},
}

#: Ways that surely connect where nothing holds them back.
SURE = {"iframe", "img", "fetch", "script", "stylesheet", "websocket", "worker", "xhr", "location"}


#: The others differ in how the guard reads them only, which its own tests hold.
TRIED_IN_EVERY_WAY = {"loopback", "loopback of six", "metadata", "ten", "mixed"}


@pytest.fixture(scope="module")
def canaries() -> Iterator[Canaries]:
    with running_canaries("127.0.0.1", "::1", "127.8.8.8") as canaries:
        yield canaries


@pytest.fixture
def canaries_of_the_control() -> Iterator[Canaries]:
    with running_canaries("127.0.0.1") as canaries:
        yield canaries


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    site = Site(leaking_pages(LEAKS, SURE))
    with serving(site):
        yield site


@pytest.fixture(scope="module")
def provider(site: Site) -> Iterator[ChromiumProvider]:
    """One that may go to the site, and nowhere else."""
    guard = guard_with(f"127.0.0.1:{site.server_port}", resolver=ChangingAnswers(NAMES))
    with chromium(guard) as provider:
        yield provider


def url_of(site: Site, path: str) -> str:
    return f"http://127.0.0.1:{site.server_port}{path}"


@pytest.mark.parametrize("name", FORBIDDEN)
def test_no_way_that_a_page_can_take_reaches_a_forbidden_place(
    provider: ChromiumProvider, site: Site, canaries: Canaries, name: str
) -> None:
    site.seen.clear()
    aim = quote(FORBIDDEN[name].format(p=canaries.port), safe="")
    path, ways = ("/all", set(LEAKS)) if name in TRIED_IN_EVERY_WAY else ("/few", SURE)
    body = take(provider, url_of(site, f"{path}?{aim}"), delay=500, width=800, height=900)
    assert colour_at(body, 5, 5) == GREEN
    assert {seen.path.split("?")[0] for seen in site.seen} >= {f"/way/{way}" for way in ways}
    # None is ever forgotten, so that whoever knocks late is seen by a later test.
    assert [str(knock) for knock in canaries.knocks] == []


def test_no_redirect_leads_a_part_of_a_page_to_a_forbidden_place(
    provider: ChromiumProvider, site: Site, canaries: Canaries
) -> None:
    onward = quote(f"http://[::1]:{canaries.port}/", safe="")
    redirect = f"127.0.0.1:{site.server_port}/to?{onward}#"
    site.seen.clear()
    body = take(provider, url_of(site, f"/all?{quote(redirect, safe='')}"), delay=500, width=800, height=900)
    assert colour_at(body, 5, 5) == GREEN
    assert [seen.path for seen in site.seen].count(f"/to?{onward}") > 20
    assert [str(knock) for knock in canaries.knocks] == []


def test_what_knocks_at_forbidden_places_is_heard_when_there_is_no_proxy(
    site: Site, canaries_of_the_control: Canaries
) -> None:
    """Without this, silence would prove nothing."""
    aim = quote(f"127.0.0.1:{canaries_of_the_control.port}", safe="")
    url = url_of(site, f"/all?{aim}")

    def ways() -> set[str]:
        starts = [knock.start.decode("latin-1") for knock in canaries_of_the_control.knocks]
        return {start.split(" ")[1].strip("/") for start in starts if start.startswith("GET /")}

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(), args=["--no-proxy-server"], chromium_sandbox=False
        )
        with browser.new_page() as page:
            page.goto(url, wait_until="commit")
            wait_until(lambda: ways() >= SURE)
        browser.close()


@pytest.mark.parametrize(
    "way",
    ["clicked-link", "form", "form-get", "header-refresh", "location", "location-https", "meta-refresh"],
)
@pytest.mark.parametrize("host", ["[::1]:{p}", "metadata.example.com:80", "[fd00:ec2::254]:80"])
def test_a_page_that_moves_to_a_forbidden_place_is_forbidden(
    provider: ChromiumProvider, site: Site, canaries: Canaries, way: str, host: str
) -> None:
    aim = quote(host.format(p=canaries.port), safe="")
    with pytest.raises(TargetForbidden):
        take(provider, url_of(site, f"/way/{way}?{aim}"), delay=1000)
    assert [str(knock) for knock in canaries.knocks] == []


@pytest.mark.parametrize(
    "onward",
    [
        "http://127.0.0.1:{p}/",
        "https://[::1]:{p}/",
        "http://mixed.example.com/",
        "https://ten.example.com/",
        "http://user@169.254.169.254/latest/meta-data/",
        "//2130706433:{p}/",
    ],
)
def test_a_redirect_to_a_forbidden_place_is_forbidden(
    provider: ChromiumProvider, site: Site, canaries: Canaries, onward: str
) -> None:
    location = quote(onward.format(p=canaries.port), safe="")
    with pytest.raises(TargetForbidden):
        take(provider, url_of(site, f"/to?{location}"))
    assert [str(knock) for knock in canaries.knocks] == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/hostname",
        "chrome://version/",
        "chrome://crash/",
        "view-source:http://127.0.0.1/",
        "devtools://devtools/bundled/inspector.html",
        "data:text/html,<body style='background:red'>",
    ],
)
@pytest.mark.parametrize("manner", ["moves", "redirects", "frames", "opens"])
def test_no_page_gets_to_what_is_not_of_the_web(
    provider: ChromiumProvider, site: Site, url: str, manner: str
) -> None:
    if manner == "redirects":
        with pytest.raises((TargetUnreachable, TargetForbidden)):
            take(provider, url_of(site, f"/to?{quote(url, safe='')}"))
        return
    script = {
        "moves": f"location = {url!r}",
        "frames": f"document.body.insertAdjacentHTML('beforeend', `<iframe hidden src={url!r}></iframe>`)",
        "opens": f"open({url!r})",
    }[manner]
    body = f"<!doctype html><body style='background: lime'><script>{script}</script>"
    site.reply = lambda _: Reply(200, (("Content-Type", "text/html"),), body.encode())
    try:
        assert colour_at(take(provider, url_of(site, "/x"), delay=300), 5, 5) == GREEN
    finally:
        site.reply = leaking_pages(LEAKS)


def test_a_name_is_looked_up_for_each_connection_and_only_good_answers_are_dialled(
    site: Site, canaries: Canaries
) -> None:
    """A page whose name turns inwards once it is loaded reaches nobody any more."""
    with running_canaries("127.0.0.2", port=site.server_port) as turned:
        resolver = ChangingAnswers({"rebind.example.com": [["127.0.0.1"], ["127.0.0.2"]]})
        guard = guard_with(f"127.0.0.1:{site.server_port}", resolver=resolver)
        aim = quote(f"rebind.example.com:{site.server_port}", safe="")
        with chromium(guard) as provider:
            take(provider, f"http://rebind.example.com:{site.server_port}/way/fetch-post?{aim}", delay=500)
        assert resolver.asked.count("rebind.example.com") > 1
        assert turned.knocks == []


def test_the_browser_lets_nobody_else_through_its_proxy(
    provider: ChromiumProvider, site: Site, canaries: Canaries
) -> None:
    take(provider, url_of(site, "/all?x"))
    listening = {
        connection.laddr.port
        for connection in psutil.Process().net_connections("tcp4")
        if connection.status == psutil.CONN_LISTEN
    }
    site.seen.clear()
    answers = set()
    for port in listening - {site.server_port, canaries.port}:
        with contextlib.suppress(requests.ConnectionError):
            proxies = {"http": f"http://127.0.0.1:{port}"}
            answers.add(requests.get(url_of(site, "/"), proxies=proxies, timeout=5).status_code)
    assert answers == {407}
    assert site.seen == []
