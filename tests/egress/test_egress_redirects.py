"""Fetches that are redirected: where they may lead, how, and what they keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.fetching import OK, PUBLIC, Fetching, redirect
from tests.support.small_web import Reply
from thumbnailer.errors import InvalidTarget, TargetForbidden, TargetUnreachable

LOCATIONS = {
    "mapped": "http://[::ffff:10.0.0.1]/",
    "nat64": "http://[64:ff9b::a00:1]/",
    "6to4": "http://[2002:a00:1::]/",
    "unique-local": "http://[fd00::1]/",
    "zone": "http://[fe80::1%25eth0]/",
    "decimal": "http://2130706433/",
    "hexadecimal": "http://0x7f000001/",
    "octal": "http://0177.0.0.1/",
    "short": "http://127.1/",
    "full-width": "http://\uff11\uff12\uff17.0.0.1/",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "azure": "http://168.63.129.16/",
    "no-scheme": "//10.0.0.1/",
    "no-scheme-backslash": "\\\\10.0.0.1/",
    "slash-backslash": "/\\10.0.0.1/",
    "user": "https://ok.example.com@10.0.0.1/",
    "tab": "http://10.0.\t0.1/",
    "port-of-redis": "http://ok.example.com:6379/",
    "name-of-a-private-address": "http://ten.attacker.example.com/",
    "name-of-mixed-addresses": "http://mixed.attacker.example.com/",
    "private-name": "http://wiki.corp/",
    "one-label": "http://intranet/",
    "gopher": "gopher://10.0.0.1:6379/_FLUSHALL",
    "data": "data:text/html,x",
    "javascript": "javascript:alert(1)",
    "scheme-without-slashes": "https:10.0.0.1/",
    "one-slash": "https:/10.0.0.1/",
    "upper-case": "HTTP://LOCALHOST/",
    "space": "http://10.0.0.1 .example.com/",
    "too-long": "https://ok.example.com/" + "a" * 2048,
}


@pytest.mark.parametrize("status", [301, 303, 307])
@pytest.mark.parametrize("location", LOCATIONS.values(), ids=LOCATIONS.keys())
def test_a_redirect_to_what_is_not_public_is_refused_before_anybody_connects(
    location: str, status: int, fetching: Callable[..., Fetching]
) -> None:
    answers = OK | {
        "ten.attacker.example.com": [["10.0.0.1"]],
        "mixed.attacker.example.com": [[PUBLIC, "10.0.0.1"]],
    }
    head = f"HTTP/1.1 {status} Moved\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode()
    one = fetching(lambda _: Reply(raw=head), answers)
    with pytest.raises((InvalidTarget, TargetForbidden)) as refusal:
        one.fetch("https://ok.example.com/")
    assert one.internet.dialled == [(PUBLIC, 443)]
    assert "10.0.0.1" not in str(refusal.value)


def test_two_different_places_to_go_to_are_none(fetching: Callable[..., Fetching]) -> None:
    both = (("Location", "https://ok.example.com/a"), ("Location", "http://10.0.0.1/"))
    one = fetching(lambda seen: Reply(302, both) if seen.path == "/" else Reply())
    with pytest.raises(InvalidTarget):
        one.fetch("https://ok.example.com/")


@pytest.mark.parametrize(
    ("location", "arrival"),
    [
        ("/next?a=b#c", "https://ok.example.com/next?a=b#c"),
        ("next", "https://ok.example.com/deep/next"),
        ("?q", "https://ok.example.com/deep/start?q"),
        ("//www.example.com/x", "https://www.example.com/x"),
        ("http://example.com/", "http://example.com/"),
        ("/späti", "https://ok.example.com/sp%C3%A4ti"),
    ],
)
def test_a_redirect_is_followed_as_browsers_read_it(
    location: str, arrival: str, fetching: Callable[..., Fetching]
) -> None:
    head = f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n".encode()
    one = fetching(lambda seen: Reply(raw=head) if seen.path == "/deep/start" else Reply())
    assert one.fetch("https://ok.example.com/deep/start").url == arrival


@pytest.mark.parametrize(("hops", "allowed"), [(4, True), (5, True), (6, False)])
def test_five_redirects_are_followed_and_no_more(
    hops: int, allowed: bool, fetching: Callable[..., Fetching]
) -> None:
    one = fetching(
        lambda seen: redirect(f"/{int(seen.path[1:]) + 1}") if int(seen.path[1:]) < hops else Reply()
    )
    if allowed:
        assert one.fetch("https://ok.example.com/0").url == f"https://ok.example.com/{hops}"
    else:
        with pytest.raises(TargetUnreachable, match="too often"):
            one.fetch("https://ok.example.com/0")
    assert len(one.web.seen()) == min(hops, 5) + 1


def test_with_no_redirect_allowed_a_redirect_is_the_answer(fetching: Callable[..., Fetching]) -> None:
    one = fetching(lambda _: redirect("http://10.0.0.1/"))
    answer = one.fetch("https://ok.example.com/", max_redirects=0)
    assert (answer.status, answer.headers["location"]) == (302, "http://10.0.0.1/")


@pytest.mark.parametrize(
    ("status", "before", "after"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (302, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
    ],
)
def test_the_method_after_a_redirect_is_that_of_browsers(
    status: int, before: str, after: str, fetching: Callable[..., Fetching]
) -> None:
    one = fetching(lambda seen: redirect("/b", status) if seen.path == "/a" else Reply())
    sent: dict[str, Any] = (
        {"headers": {"Content-Type": "text/plain"}, "body": b"x"} if before != "HEAD" else {}
    )
    one.fetch("https://ok.example.com/a", method=before, **sent)
    last = one.web.seen()[-1]
    assert last.method == after
    assert (last.body == b"x") == ("content-type" in last.headers) == (after in ("POST", "PUT"))


SECRETS = {
    "Authorization": "Bearer secret",
    "Cookie": "session=secret",
    "X-API-Key": "secret",
    "X-Vendors-Own-Name-For-A-Key": "secret",
    "Proxy-Authorization": "Basic secret",
    "webhook-signature": "v1,secret",
}


@pytest.mark.parametrize(
    ("start", "location", "kept"),
    [
        pytest.param("https://ok.example.com/a", "/b", True, id="same origin"),
        pytest.param("https://ok.example.com/a", "https://www.example.com/b", False, id="other host"),
        pytest.param("https://ok.example.com/a", "http://ok.example.com/b", False, id="from https to http"),
        pytest.param("http://ok.example.com/a", "https://ok.example.com/b", False, id="from http to https"),
    ],
)
def test_credentials_stay_with_their_origin(
    start: str, location: str, kept: bool, fetching: Callable[..., Fetching]
) -> None:
    one = fetching(lambda seen: redirect(location, 307) if seen.path == "/a" else Reply())
    one.fetch(start, headers={**SECRETS, "Accept": "text/xml"}, method="POST", body=b"x")
    seen = [*one.web.plain.seen, *one.web.secure.seen]
    (last,) = [each for each in seen if each.path == "/b"]
    for name, value in SECRETS.items():
        assert last.headers.get(name.lower()) == (value if kept else None), name
    assert last.headers["accept"] == "text/xml"


def test_credentials_that_were_dropped_do_not_come_back(fetching: Callable[..., Fetching]) -> None:
    ways = {"/1": "https://www.example.com/2", "/2": "https://ok.example.com/3"}
    one = fetching(lambda seen: redirect(ways[seen.path]) if seen.path in ways else Reply())
    one.fetch("https://ok.example.com/1", headers=SECRETS)
    assert [("authorization" in seen.headers) for seen in one.web.secure.seen] == [True, False, False]


def test_no_cookie_is_kept_from_one_hop_or_fetch_to_the_next(fetching: Callable[..., Fetching]) -> None:
    cookie = ("Set-Cookie", "a=b; Domain=example.com; Path=/")
    one = fetching(lambda seen: Reply(302, (("Location", "/b"), cookie)) if seen.path == "/" else Reply())
    for _ in range(2):
        one.fetch("https://ok.example.com/")
    assert [seen.headers.get("cookie") for seen in one.web.seen()] == [None] * 4
