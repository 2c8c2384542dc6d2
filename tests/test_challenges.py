"""Pages that ask whether the visitor is a robot are no pictures of the pages behind them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from config import ConfigurationError
from tests.support.answers import Answer, Header, content
from tests.support.chromium import chromium, take
from tests.support.pictures import picture
from tests.support.service import client_of, snapapi_environment
from tests.support.settings import load
from tests.support.upstream import Upstream
from thumbnailer.errors import PageChallenged
from thumbnailer.providers.challenges import Marker, read_markers
from thumbnailer.providers.chromium import ChromiumProvider
from wiring.web import check_settings

PROSE = "<p>" + "Ordinary words about ordinary things. " * 30 + "</p>"
FORM = '<form><label>Name <input name="user"></label><label>Word <input type="password"></label></form>'


def page(title: str, body: str, *headers: Header, status: int = 200) -> Answer:
    html = f"<!doctype html><title>{title}</title><body>{body}</body>"
    return content(html.encode(), "text/html", *headers, status=status)


CHECKS: dict[str, tuple[Answer, str]] = {
    "cloudflare, by header": (
        page("Einen Moment…", "<p>Verify</p>", ("CF-Mitigated", "challenge"), status=403),
        "Cloudflare",
    ),
    "cloudflare, by its page": (
        page(
            "Just a moment...",
            '<script src="/cdn-cgi/challenge-platform/h/b/orchestrate/chl_page/v1?ray=1"></script>',
        ),
        "Cloudflare",
    ),
    "aws waf, silent": (page("", "", ("x-amzn-waf-action", "challenge"), status=202), "AWS WAF"),
    "aws waf, with a puzzle": (
        page("Human Verification", "<div>Puzzle</div>", ("x-amzn-waf-action", "captcha"), status=405),
        "AWS WAF",
    ),
    "vercel": (
        page("Vercel Security Checkpoint", "Checking", ("X-Vercel-Mitigated", "challenge"), status=429),
        "Vercel",
    ),
    "datadome": (
        page(
            "example.com",
            "<p>Please enable JS and disable any ad blocker</p>"
            '<script src="https://ct.captcha-delivery.com/c.js"></script>',
            status=403,
        ),
        "DataDome",
    ),
    "human": (
        page("Access to this page has been denied", '<div id="px-captcha"></div>', status=403),
        "HUMAN",
    ),
    "imperva, with status 200": (
        page(
            "",
            '<iframe id="main-iframe" src="/_Incapsula_Resource?CWUDNSAI=1">Request unsuccessful.</iframe>',
        ),
        "Imperva",
    ),
    "akamai": (
        page(
            "Access Denied",
            "<h1>Access Denied</h1>You don't have permission to access this server.<p>Reference #18.7a1d.1.3",
            status=403,
        ),
        "Akamai",
    ),
    "turnstile": (page("One moment", '<h1>Are you human?</h1><div class="cf-turnstile"></div>'), "Turnstile"),
    "hcaptcha": (
        page(
            "Check",
            '<h1>One more step</h1><div class="h-captcha">'
            '<textarea name="h-captcha-response" hidden></textarea></div>',
        ),
        "hCaptcha",
    ),
}

ORDINARY: dict[str, Answer] = {
    "plain": page("Just a moment...", PROSE),
    "cloudflare's script on a page of its customer": page(
        "A shop", '<script src="/cdn-cgi/challenge-platform/scripts/jsd/main.js"></script>' + PROSE
    ),
    "a header that let the visitor pass": page(
        "A shop", PROSE, ("cf-mitigated", "none"), ("cf-ray", "1-FRA")
    ),
    "datadome's script": page("A shop", '<script src="https://js.datadome.co/tags.js"></script>' + PROSE),
    "imperva's script": page("A shop", '<script src="/_Incapsula_Resource?SWJIYLWA=7"></script>' + PROSE),
    "turnstile beside a form": page("Sign in", FORM + '<div class="cf-turnstile"></div>'),
    "hcaptcha beside a form": page("Sign in", FORM + '<div class="h-captcha"></div>'),
    "turnstile below an article": page("News", PROSE + '<div class="cf-turnstile"></div>'),
    "an article about akamai": page("Access Denied: what it means", PROSE + "Reference #18.7a1d"),
    "a page of an office": page("Access Denied", "<h1>Access Denied</h1><p>Ask the front desk."),
}


@pytest.fixture(scope="module")
def target() -> Iterator[Upstream]:
    with Upstream() as server:
        yield server


@pytest.fixture(scope="module")
def provider() -> Iterator[ChromiumProvider]:
    with chromium(challenge_markers=read_markers()) as provider:
        yield provider


@pytest.mark.parametrize(("answer", "name"), CHECKS.values(), ids=CHECKS)
def test_a_check_is_recognised_and_named(
    provider: ChromiumProvider, target: Upstream, answer: Answer, name: str
) -> None:
    target.behave(answer)
    with pytest.raises(PageChallenged, match=name):
        take(provider, f"{target.url}/page")


@pytest.mark.parametrize("answer", ORDINARY.values(), ids=ORDINARY)
def test_an_ordinary_page_is_photographed(
    provider: ChromiumProvider, target: Upstream, answer: Answer
) -> None:
    target.behave(answer)
    assert take(provider, f"{target.url}/page").startswith(b"\x89PNG")


def test_without_markers_every_page_is_photographed(target: Upstream) -> None:
    target.behave(CHECKS["imperva, with status 200"][0])
    with chromium() as provider:
        assert take(provider, f"{target.url}/page").startswith(b"\x89PNG")


def test_a_selector_that_is_none_matches_nothing_and_hides_no_other(target: Upstream) -> None:
    target.behave(CHECKS["human"][0])
    markers = (Marker(name="broken", selector="##"), *read_markers())
    with chromium(challenge_markers=markers) as provider, pytest.raises(PageChallenged, match="HUMAN"):
        take(provider, f"{target.url}/page")


def environment(target: Upstream, **more: str) -> dict[str, str]:
    host, port = target.url.removeprefix("http://").split(":")
    settings = {"ALLOWED_PRIVATE_TARGETS": f"{host}:{port}", "PROVIDERS": "chromium"}
    return snapapi_environment("http://127.0.0.1:1") | settings | more


def ask(client: FlaskClient, target: Upstream, path: str = "/screenshot") -> TestResponse:
    return client.get(path, query_string={"url": f"{target.url}/page"}, buffered=True)


def visits(target: Upstream) -> int:
    return sum(request.path == "/page" for request in target.requests)


@pytest.mark.parametrize("path", ["/screenshot", "/screenshot/stream", "/thumb"])
def test_a_check_is_visited_once_more_and_then_told_as_the_targets_doing(target: Upstream, path: str) -> None:
    target.behave(CHECKS["imperva, with status 200"][0])
    with client_of(environment(target)) as client:
        response = ask(client, target, path)
        assert response.status_code == 422
        assert response.get_json()["type"] == "/problems/target-unreachable"
        assert "Imperva" in response.get_json()["detail"]
        assert int(response.headers["Retry-After"]) > 0
        assert visits(target) == 2
        assert client.get("/ready").get_json()["providers"][0]["breaker"] == "closed"


def test_a_check_that_lets_the_second_visit_pass_costs_nobody_anything(target: Upstream) -> None:
    target.behave(CHECKS["turnstile"][0], page("Welcome", PROSE))
    with client_of(environment(target)) as client:
        assert ask(client, target).status_code == 200


def test_another_provider_may_not_be_asked(target: Upstream) -> None:
    target.behave(CHECKS["human"][0])
    with Upstream() as snapapi:
        settings = environment(target, PROVIDERS="chromium,snapapi", SNAPAPI_BASE=snapapi.url)
        with client_of(settings) as client:
            response = ask(client, target)
            assert response.data == picture()
            assert ';desc="snapapi"' in response.headers["Server-Timing"]


def test_an_operator_may_let_checks_pass(target: Upstream) -> None:
    target.behave(CHECKS["turnstile"][0])
    with client_of(environment(target, REFUSE_CHALLENGES="false")) as client:
        assert ask(client, target).status_code == 200


def test_an_operator_may_bring_markers(target: Upstream, tmp_path: Path) -> None:
    markers = tmp_path / "markers.toml"
    markers.write_text('[[marker]]\nname = "House rules"\ntitle = "Stop"\n')
    target.behave(page("Stop", PROSE))
    with client_of(environment(target, CHALLENGE_MARKERS=str(markers))) as client:
        assert "House rules" in ask(client, target).get_json()["detail"]


BAD_FILES = {
    "no toml": "marker",
    "nothing": "",
    "another table": '[[markers]]\nname = "x"\ntitle = "y"',
    "no name": '[[marker]]\ntitle = "y"',
    "no condition": '[[marker]]\nname = "x"',
    "a limit alone": '[[marker]]\nname = "x"\nmax_text = 9',
    "an unknown condition": '[[marker]]\nname = "x"\nstatus = 403',
    "a wrong kind": '[[marker]]\nname = "x"\ntitle = 7',
    "half a header": '[[marker]]\nname = "x"\nheader = ["cf-mitigated"]',
    "a header with company": '[[marker]]\nname = "x"\nheader = ["a", "b"]\ntitle = "y"',
}


@pytest.mark.parametrize("text", BAD_FILES.values(), ids=BAD_FILES)
def test_a_file_that_holds_no_markers_stops_the_start(tmp_path: Path, text: str) -> None:
    path = tmp_path / "markers.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="CHALLENGE_MARKERS"):
        check_settings(load({"CHALLENGE_MARKERS": str(path)}))
