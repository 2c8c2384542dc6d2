"""Purges through the door, over every cache: what is gone, what stays, and what was under way."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from tests.support.answers import Answer, Received, image, json_error, refusing_url, streamed
from tests.support.pictures import picture
from tests.support.processes import wait_until
from tests.support.service import client_of, running_app, snapapi_environment
from tests.support.stores import silent_server
from tests.support.upstream import Upstream

ADDRESS = "93.184.216.34"
PAGE, OTHER = f"http://{ADDRESS}/page", f"http://{ADDRESS}/other"
NOTHING = {"captures": 0, "renditions": 0, "failures": 0}


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(image("png", 640, 360)) as upstream:
        yield upstream


@pytest.fixture(params=["memory", "files", "redis"])
def settings(request: pytest.FixtureRequest, upstream: Upstream, tmp_path: Path) -> dict[str, str]:
    """Every kind of cache there is."""
    more = {"MEDIA_DIR": str(tmp_path / "media"), "RATELIMIT_ENABLED": "false"}
    if request.param == "files":
        more["CACHE_DIR"] = str(tmp_path / "cache")
    if request.param == "redis":
        more["REDIS_URL"] = request.getfixturevalue("redis_url")
        more["CACHE_KEY_PREFIX"] = f"purge-{secrets.token_hex(4)}:"
        more["REDIS_TIMEOUT"] = "5"
    return snapapi_environment(upstream.url, **more)


@pytest.fixture
def app(settings: dict[str, str]) -> Iterator[Flask]:
    with running_app(settings) as app:
        yield app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def ask(client: FlaskClient, target: str, path: str = "/thumb", **options: str) -> str:
    """What the cache says of one picture."""
    response = client.get(path, query_string={"url": target, **options}, buffered=True)
    assert response.status_code == 200, response.text
    return str(response.headers["X-Cache"])


def purge_page(client: FlaskClient, target: str) -> dict[str, Any]:
    response = client.delete("/cache", query_string={"url": target})
    assert response.status_code == 200, response.text
    assert response.headers["Cache-Control"] == "no-store"
    answer: dict[str, Any] = response.get_json()
    return answer


def purge(client: FlaskClient, **body: Any) -> dict[str, Any]:
    response = client.post("/cache/purge", json=body)
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.get_json()
    return answer


def counts(answer: dict[str, Any]) -> dict[str, int]:
    return {name: answer[name] for name in NOTHING}


def test_all_pictures_of_a_page_go_and_those_of_another_stay(client: FlaskClient, upstream: Upstream) -> None:
    choices: list[dict[str, str]] = [
        {},
        {"thumb_width": "100"},
        {"thumb_width": "200", "format": "webp"},
        {"format": "jpeg", "quality": "50"},
        {"dark_mode": "true", "width": "800"},
    ]
    for target in (PAGE, OTHER):
        asked = [ask(client, target, **options) for options in choices]
        assert asked == ["MISS", "HIT", "HIT", "MISS", "MISS"], "thumbnails are made of the first capture"
    before = time.time()
    answer = purge_page(client, PAGE)
    assert counts(answer) == {"captures": 3, "renditions": 2, "failures": 0}
    assert answer["complete"] is True
    assert before <= datetime.fromisoformat(answer["before"]).timestamp() <= time.time()
    assert {ask(client, OTHER, **options) for options in choices} == {"HIT"}
    taken = len(upstream.requests)
    assert ask(client, PAGE) == "MISS"
    assert len(upstream.requests) == taken + 1
    assert ask(client, PAGE) == "HIT", "what is taken after the purge is kept as ever"


def test_a_second_purge_finds_nothing(client: FlaskClient) -> None:
    ask(client, PAGE, thumb_width="100")
    purge_page(client, PAGE)
    assert counts(purge_page(client, PAGE)) == NOTHING


@pytest.mark.parametrize(
    "spelling",
    [
        pytest.param(f"HTTP://{ADDRESS}:80/page", id="scheme and port"),
        pytest.param(f"{PAGE}#part", id="a fragment"),
        pytest.param(f"http://{ADDRESS}/p%61ge", id="not this: an escape is another page"),
    ],
)
def test_a_page_is_found_by_any_spelling_of_its_url(client: FlaskClient, spelling: str) -> None:
    ask(client, f"{PAGE}#top")
    expected = 0 if "%61" in spelling else 1
    assert purge_page(client, spelling)["captures"] == expected


HOSTS = {
    "example.com": "http://example.com/",
    "www": "http://www.example.com/",
    "deep": "http://a.b.www.example.com/",
    "evil": "http://notexample.com/",
    "tail": "http://example.com.evil.org/",
    "address": f"http://{ADDRESS}/",
    "neighbour": "http://93.184.216.3/",
    "v6": "http://[2606:2800:220:1::248]/",
}


@pytest.mark.parametrize(
    ("hosts", "gone"),
    [
        pytest.param(["example.com"], {"example.com"}, id="a host alone"),
        pytest.param(["EXAMPLE.com."], {"example.com"}, id="in another spelling"),
        pytest.param(["*.example.com"], {"example.com", "www", "deep"}, id="with all below it"),
        pytest.param(["*.www.example.com"], {"www", "deep"}, id="a part of a domain"),
        pytest.param(["*.com"], {"example.com", "www", "deep", "evil"}, id="a whole top-level domain"),
        pytest.param([ADDRESS], {"address"}, id="an address"),
        pytest.param(["2606:2800:220:1::248"], {"v6"}, id="an IPv6 address"),
        pytest.param(["[2606:2800:220:1::248]"], {"v6"}, id="in brackets"),
        pytest.param(["www.example.com", ADDRESS], {"www", "address"}, id="several"),
    ],
)
def test_hosts_are_purged_with_and_without_what_is_below_them(
    app: Flask, monkeypatch: pytest.MonkeyPatch, hosts: list[str], gone: set[str]
) -> None:
    monkeypatch.setattr(
        "thumbnailer.guard.Guard.check", lambda *_: ("93.184.216.34",)
    )  # no name is looked up
    client = app.test_client()
    for target in HOSTS.values():
        assert ask(client, target) == "MISS"
    assert purge(client, hosts=hosts)["captures"] == len(gone)
    assert {name for name, target in HOSTS.items() if ask(client, target) == "MISS"} == gone


def test_everything_is_purged(client: FlaskClient) -> None:
    for number in range(5):
        ask(client, f"{PAGE}?{number}", thumb_width="100")
    assert counts(purge(client, everything=True)) == {"captures": 5, "renditions": 5, "failures": 0}
    assert {ask(client, f"{PAGE}?{number}", thumb_width="100") for number in range(5)} == {"MISS"}


@pytest.mark.parametrize("spelling", ["unix", "rfc 3339"])
def test_only_what_was_captured_before_a_time_is_purged(client: FlaskClient, spelling: str) -> None:
    ask(client, PAGE, thumb_width="100")
    between = time.time()
    before: float | str = between
    if spelling == "rfc 3339":
        before = datetime.fromtimestamp(between, UTC).isoformat().replace("+00:00", "Z")
    ask(client, OTHER, thumb_width="100")
    answer = purge(client, hosts=[ADDRESS], before=before)
    assert counts(answer) == {"captures": 1, "renditions": 1, "failures": 0}
    assert datetime.fromisoformat(answer["before"]).timestamp() == pytest.approx(between, abs=1e-5)
    assert [ask(client, target, thumb_width="100") for target in (PAGE, OTHER)] == ["MISS", "HIT"]


def test_a_time_that_is_before_all_times_purges_nothing(client: FlaskClient) -> None:
    answer = purge(client, targets=[PAGE], before="0001-01-01T00:00:00+01:00")
    assert answer["before"] == "0001-01-01T00:00:00+00:00"


def test_a_purge_of_the_past_takes_nothing_back(client: FlaskClient) -> None:
    ask(client, PAGE)
    purge(client, targets=[PAGE])
    purge(client, targets=[PAGE], before=0)
    assert ask(client, PAGE) == "MISS"


def test_a_time_that_is_yet_to_come_means_now(client: FlaskClient) -> None:
    purge(client, everything=True, before=time.time() + 3600)
    assert [ask(client, PAGE), ask(client, PAGE)] == ["MISS", "HIT"]


def test_a_page_that_failed_is_tried_again_at_once(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(json_error(404, {"error": "sorry", "message": "no"}), image())
    for _ in range(2):
        assert client.get("/thumb", query_string={"url": PAGE}).status_code == 422
    assert len(upstream.requests) == 1, "the failure is remembered"
    assert counts(purge_page(client, PAGE)) == {"captures": 0, "renditions": 0, "failures": 1}
    assert ask(client, PAGE) == "MISS"


def test_stored_images_are_not_touched(client: FlaskClient) -> None:
    stored = client.post("/persist", json={"url": PAGE}).get_json()
    purge(client, everything=True)
    assert client.get(f"/media/{stored['key']}", buffered=True).status_code == 200


def test_nothing_of_a_large_picture_is_left_in_redis(
    upstream: Upstream, redis_url: str, tmp_path: Path
) -> None:
    prefix = f"left-{secrets.token_hex(4)}:"
    upstream.behave(streamed(1_500_000))
    settings = snapapi_environment(upstream.url, REDIS_URL=redis_url, CACHE_KEY_PREFIX=prefix)
    with client_of(settings) as client, redis.Redis.from_url(redis_url) as store:
        ask(client, PAGE)
        assert len(list(store.scan_iter(f"{prefix}target|*"))) > 10, "it lies there in chunks"
        purge_page(client, PAGE)
        assert list(store.scan_iter(f"{prefix}target|*")) == []


def test_nothing_of_a_large_picture_is_left_in_the_folder(upstream: Upstream, tmp_path: Path) -> None:
    upstream.behave(streamed(1_500_000))
    with client_of(snapapi_environment(upstream.url, CACHE_DIR=str(tmp_path))) as client:
        ask(client, PAGE)
        purge_page(client, PAGE)
    kept = [path for path in (tmp_path / "entries").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in kept) < 1000, "only the mark"


@dataclass
class Held:
    """An upstream whose first picture is under way until it is let go; later ones come at once."""

    go_on: threading.Event = field(default_factory=threading.Event)
    calls: int = 0

    def __call__(self, _received: Received) -> Answer:
        self.calls += 1
        if self.calls == 1:
            assert self.go_on.wait(30)
            return image("png", 640, 360)
        return image("png", 320, 180)


@pytest.mark.parametrize("options", [{}, {"thumb_width": "64"}], ids=["capture", "rendition"])
def test_a_capture_that_was_under_way_is_given_to_who_waited_and_to_nobody_else(
    app: Flask, upstream: Upstream, options: dict[str, str]
) -> None:
    held = Held()
    upstream.behave(held)

    def want() -> Any:
        return app.test_client().get("/thumb", query_string={"url": PAGE, **options}, buffered=True)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(want) for _ in range(3)]
        wait_until(lambda: held.calls == 1, what="the capture")
        purge_page(app.test_client(), PAGE)
        late = pool.submit(want).result(20)  # while the first is still under way
        held.go_on.set()
        answers = [each.result() for each in waiting]
    assert late.status_code == 200
    assert late.headers["X-Cache"] in ("MISS", "HIT"), "one of the three may have come after the purge, too"
    assert late.headers["Cache-Control"].startswith("public, max-age=")
    assert [answer.status_code for answer in answers] == [200] * 3
    for answer in answers:
        if answer.data != late.data:  # who came to the queue after the purge got the new one
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Cache-Status"] == "thumbnailer; fwd=miss; detail=purged"
    again = want()
    assert (again.headers["X-Cache"], again.data) == ("HIT", late.data)


def test_a_stream_that_was_under_way_breaks_and_is_not_kept(app: Flask, upstream: Upstream) -> None:
    held, body = Held(), picture("png", 640, 360)

    def halves() -> Iterator[bytes]:
        yield body[: len(body) // 2]
        held.calls += 1
        assert held.go_on.wait(30)
        yield body[len(body) // 2 :]

    headers = (("Content-Type", "image/png"),)
    upstream.behave(Answer(headers=headers, chunks=halves, length=len(body)), image())
    client = app.test_client()
    response = client.get("/screenshot/stream", query_string={"url": PAGE})
    wait_until(lambda: held.calls == 1, what="the first half")
    purge_page(app.test_client(), PAGE)
    held.go_on.set()
    with pytest.raises(Exception, match="purged"):
        list(response.response)
    response.close()
    assert ask(app.test_client(), PAGE, "/screenshot") == "MISS"


def test_what_was_under_way_is_not_stored_for_good(app: Flask, upstream: Upstream, tmp_path: Path) -> None:
    held = Held()
    upstream.behave(held)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: app.test_client().post("/persist", json={"url": PAGE}))
        wait_until(lambda: held.calls == 1, what="the capture")
        purge_page(app.test_client(), PAGE)
        held.go_on.set()
        response = waiting.result(20)
    assert response.status_code == 503
    assert response.get_json()["retryable"] is True
    assert not list((tmp_path / "media").rglob("*.png"))


@pytest.mark.parametrize("store", ["refuses", "is silent", "cannot be written"])
def test_without_its_cache_a_purge_is_no_success(upstream: Upstream, store: str, tmp_path: Path) -> None:
    settings = {"REDIS_URL": refusing_url().replace("http", "redis")}
    if store == "cannot be written":
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "entries").write_text("a file where a folder should be")
        settings = {"CACHE_DIR": str(tmp_path / "cache")}
    with silent_server() as (silent_url, _):
        if store == "is silent":
            settings = {"REDIS_URL": silent_url}
        with client_of(snapapi_environment(upstream.url, **settings)) as client:
            response = client.delete("/cache", query_string={"url": PAGE})
    assert response.status_code == 503
    assert response.get_json()["type"] == "/problems/cache-unavailable"
    assert response.get_json()["retryable"] is True
    assert "Retry-After" in response.headers


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({}, "targets", id="nothing named"),
        pytest.param({"before": 5}, "targets", id="a time alone"),
        pytest.param({"everything": False}, "targets", id="not everything"),
        pytest.param({"targets": []}, "targets", id="no target"),
        pytest.param({"targets": ["nonsense"]}, "targets", id="no URL"),
        pytest.param({"targets": ["ftp://example.com/"]}, "targets", id="another scheme"),
        pytest.param({"targets": [PAGE] * 101}, "targets", id="too many targets"),
        pytest.param({"hosts": ["http://example.com"]}, "hosts", id="a URL for a host"),
        pytest.param({"hosts": ["example.com/path"]}, "hosts", id="a path"),
        pytest.param({"hosts": ["*"]}, "hosts", id="a star alone"),
        pytest.param({"hosts": ["exam*.com"]}, "hosts", id="a star within"),
        pytest.param({"hosts": ["*.93.184.216.34"]}, "hosts", id="below an address"),
        pytest.param({"hosts": ["example.com:80"]}, "hosts", id="a port"),
        pytest.param({"everything": True, "before": "yesterday"}, "before", id="no time"),
        pytest.param({"everything": True, "before": "2026-01-01T00:00:00"}, "before", id="no offset"),
        pytest.param({"everything": True, "before": "2026-13-01T00:00:00Z"}, "before", id="no month"),
        pytest.param({"everything": True, "before": True}, "before", id="a flag for a time"),
        pytest.param({"everything": True, "url": PAGE}, "url", id="an unknown field"),
        pytest.param({"everything": "true"}, "everything", id="a text for a flag"),
    ],
)
def test_what_is_no_purge_is_refused(upstream: Upstream, body: dict[str, Any], field: str) -> None:
    with client_of(snapapi_environment(upstream.url)) as client:
        ask(client, PAGE)
        response = client.post("/cache/purge", json=body)
        assert response.status_code == 400, response.text
        assert list(response.get_json()["errors"]) == [field]
        assert ask(client, PAGE) == "HIT"


def test_what_is_named_wrongly_is_quoted_with_what_it_has_to_be(client: FlaskClient) -> None:
    body = {"targets": [PAGE, "nonsense"], "hosts": ["a.com:80", "*"]}
    assert client.post("/cache/purge", json=body).get_json()["errors"] == {
        "targets": ["'nonsense' is no URL of a web page."],
        "hosts": [
            f"{host!r} is no host, such as example.com or *.example.com." for host in ("a.com:80", "*")
        ],
    }


@pytest.mark.parametrize("query", [{}, {"url": "nonsense"}, {"url": PAGE, "hosts": "a.com"}])
def test_a_page_has_to_be_named_by_its_url(upstream: Upstream, query: dict[str, str]) -> None:
    with client_of(snapapi_environment(upstream.url)) as client:
        assert client.delete("/cache", query_string=query).status_code == 400


def test_a_page_that_is_no_longer_visited_can_still_be_purged(upstream: Upstream, tmp_path: Path) -> None:
    settings = snapapi_environment(upstream.url, CACHE_DIR=str(tmp_path))
    private = "http://10.0.0.1/"
    with client_of(settings | {"ALLOWED_PRIVATE_TARGETS": "10.0.0.1"}) as client:
        ask(client, private)
    with client_of(settings) as client:
        assert purge_page(client, private)["captures"] == 1


def test_purges_are_limited(upstream: Upstream) -> None:
    with client_of(snapapi_environment(upstream.url, LIMIT_PURGE="2 per hour")) as client:
        statuses = [
            client.delete("/cache", query_string={"url": PAGE}).status_code,
            client.post("/cache/purge", json={"everything": True}).status_code,
            client.delete("/cache", query_string={"url": PAGE}).status_code,
        ]
    assert statuses == [200, 200, 429]


def test_tags_name_every_purge_that_would_take_the_picture(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "thumbnailer.guard.Guard.check", lambda *_: ("93.184.216.34",)
    )  # no name is looked up
    settings = snapapi_environment(upstream.url, CACHE_TAGS="Cache-Tag,Surrogate-Key")
    target = "http://www.example.com/a"
    with client_of(settings) as client:
        answers = [
            client.get(path, query_string={"url": target, **options}, buffered=True)
            for path, options in (
                ("/thumb", {}),
                ("/thumb", {"thumb_width": "64"}),
                ("/screenshot/stream", {}),
            )
        ]
        (tags,) = {answer.headers["Cache-Tag"] for answer in answers}
        assert {answer.headers["Surrogate-Key"] for answer in answers} == {tags.replace(",", " ")}
        wanted = [
            *purge(client, everything=True)["tags"],
            *purge(client, hosts=["*.example.com", "*.www.example.com", "www.example.com"])["tags"],
            *purge_page(client, f"{target}#part")["tags"],
        ]
        assert tags.split(",") == wanted
        other = purge(client, targets=["http://www.example.com/b"], hosts=["*.com", "example.com"])["tags"]
        assert not set(other) & set(wanted)
    assert all(tag.isascii() and tag.replace("-", "").isalnum() and tag.islower() for tag in wanted)
    assert "example" not in tags


def test_tags_are_given_only_where_the_operator_wants_them(upstream: Upstream) -> None:
    with client_of(snapapi_environment(upstream.url, CACHE_TAGS="Surrogate-Key")) as client:
        response = client.get("/thumb", query_string={"url": PAGE})
        assert ("Cache-Tag" in response.headers, "Surrogate-Key" in response.headers) == (False, True)
    with client_of(snapapi_environment(upstream.url)) as client:
        response = client.get("/thumb", query_string={"url": PAGE})
        assert not {"Cache-Tag", "Surrogate-Key"} & set(response.headers.keys())
