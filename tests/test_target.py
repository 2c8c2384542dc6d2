"""URLs: which are read, as what, and which are refused before anybody is asked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest

from tests.support.spellings import FORBIDDEN, MALFORMED, READ
from thumbnailer.errors import InvalidTarget, TargetForbidden
from thumbnailer.guard import Guard
from thumbnailer.target import Target


def nobody_is_asked(host: str, port: int) -> tuple[str, ...]:
    raise AssertionError(f"{host} was looked up")


GUARD = Guard(resolver=nobody_is_asked)


def rows(table: dict[str, list[str]]) -> list[object]:
    return [
        pytest.param(url, id=f"{kind}-{number}")
        for kind, urls in table.items()
        for number, url in enumerate(urls)
    ]


@pytest.mark.parametrize("url", rows(MALFORMED))
def test_a_url_that_parsers_may_read_differently_is_invalid(url: str) -> None:
    with pytest.raises(InvalidTarget):
        GUARD.parse(url)


@pytest.mark.parametrize("url", rows(FORBIDDEN))
def test_a_well_formed_url_that_is_no_public_web_page_is_forbidden(url: str) -> None:
    with pytest.raises(TargetForbidden):
        GUARD.parse(url)


@pytest.mark.parametrize(
    ("url", "normalised"), [pytest.param(*row, id=ascii(row[0])) for row in READ.items()]
)
def test_a_public_url_is_brought_to_one_form(url: str, normalised: str) -> None:
    target = GUARD.parse(url)
    assert target.url == normalised
    assert GUARD.parse(target.url) == target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("HTTP://Example.com./x", Target("http://example.com/x", "http", "example.com", 80)),
        ("https://example.com:80", Target("https://example.com:80/", "https", "example.com", 80)),
        (
            "https://[2606:4700:0::1]",
            Target("https://[2606:4700::1]/", "https", "2606:4700::1", 443),
        ),
    ],
    ids=["name", "other-port", "ipv6"],
)
def test_a_target_knows_where_to_connect(url: str, target: Target) -> None:
    assert GUARD.parse(url) == target


def test_the_length_is_bounded_as_given_and_as_normalised() -> None:
    longest = "https://example.com/" + "a" * 2028
    assert GUARD.parse(longest).url == longest
    for too_long in (longest + "a", "https://example.com:443/" + "a" * 2028, longest[:-1] + "\u00e4"):
        with pytest.raises(InvalidTarget, match="longer than 2048 characters"):
            GUARD.parse(too_long)


def test_a_host_without_end_is_refused_with_little_work() -> None:
    """Punycode takes the square of a label's length: such a URL took a fifth of a second."""
    calls: list[str] = []
    sys.setprofile(lambda _frame, event, _argument: calls.append(event))
    try:
        with pytest.raises(InvalidTarget):
            GUARD.parse("http://" + "".join(map(chr, range(0x4E00, 0x4E00 + 1000))) + ".com/")
    finally:
        sys.setprofile(None)
    assert len(calls) < 20_000


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js, a reader by the WHATWG rules, is not here")
def test_browsers_read_the_same_host_and_port_from_the_normalised_url() -> None:
    targets = [GUARD.parse(url) for url in READ]
    script = (
        "const urls = JSON.parse(require('fs').readFileSync(0));"
        "const read = text => { const url = new URL(text); return [url.hostname, url.port] };"
        "console.log(JSON.stringify(urls.map(read)))"
    )
    reading = subprocess.run(
        [str(shutil.which("node")), "-e", script],
        input=json.dumps([target.url for target in targets]),
        capture_output=True,
        text=True,
        check=True,
    )
    expected = []
    for target in targets:
        is_default = target.port == {"http": 80, "https": 443}[target.scheme]
        host = f"[{target.host}]" if ":" in target.host else target.host
        expected.append([host, "" if is_default else str(target.port)])
    assert json.loads(reading.stdout) == expected


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        ("/a/../b", "/b"),
        ("/a/./b", "/a/b"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/../../a", "/a"),
        ("/a//..//b", "/a//b"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/a/%252e%252e/b", "/a/%252e%252e/b"),
        ("/a%2f..%2fb", "/a%2F..%2Fb"),
        ("/?x=/a/../b", "/?x=/a/../b"),
        ("/#/a/../b", "/#/a/../b"),
    ],
)
def test_dots_in_a_path_are_resolved_as_browsers_do(path: str, resolved: str) -> None:
    assert GUARD.parse(f"https://example.com{path}").url == f"https://example.com{resolved}"
