"""The shipped nginx with the real service behind it: what it keeps, for whom and for how long."""

from __future__ import annotations

import contextlib
import http.client
import io
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from PIL import Image

from tests.support.answers import Answer, Received, content, json_error
from tests.support.edge import SECOND, TARGETS, ask, edge_cache, port_of, thumb_path
from tests.support.nginx import Nginx, running_nginx
from tests.support.pictures import picture
from tests.support.processes import free_port, wait_until
from tests.support.raw_http import exchange, head
from tests.support.service import TARGET, running_service, snapapi_environment
from tests.support.upstream import Upstream

PROBLEM = "application/problem+json"
CLIENT_CACHE_CONTROL = "public, max-age=86400, stale-while-revalidate=604800, stale-if-error=2592000"


@dataclass(frozen=True, slots=True)
class Edge:
    """nginx, the service behind it, and the vendor behind that."""

    nginx: Nginx
    vendor: Upstream
    service_url: str
    log: Path

    @property
    def url(self) -> str:
        return self.nginx.url


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    """Patient with tests, who all come from one address."""
    folder = tmp_path_factory.mktemp("edge")
    with Upstream() as vendor:
        environ = snapapi_environment(
            vendor.url,
            TRUSTED_PROXIES="127.0.0.1",
            WEB_CONCURRENCY="1",
            RATELIMIT_ENABLED="false",
            LOG_LEVEL="info",
        )
        changes = {"rate=600r/m": "rate=600r/s"}
        with (
            running_service(folder, environ) as service,
            running_nginx(folder / "nginx", port_of(service.url), changes=changes) as nginx,
        ):
            yield Edge(nginx, vendor, service.url, service.log)


def test_the_second_answer_comes_from_the_edge_alone(edge: Edge) -> None:
    path = thumb_path()
    first, second = ask(edge.url, path), ask(edge.url, path)
    assert (first.status, edge_cache(first), first.headers["x-cache"]) == (200, "MISS", "MISS")
    assert (second.status, edge_cache(second), second.headers["x-cache"]) == (200, "HIT", "HIT")
    assert first.body == second.body


def test_clients_are_told_what_concerns_them_and_not_what_the_edge_does(edge: Edge) -> None:
    path = thumb_path()
    for answer in (ask(edge.url, path), ask(edge.url, path)):
        assert answer.headers["cache-control"] == CLIENT_CACHE_CONTROL
        assert not [name for name in answer.headers if name.startswith(("x-edge-client", "x-accel"))]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "cross-origin"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/openapi.json",
        "/static/playground.js",
        "/static/playground.css",
        "/docs/assets/swagger-ui.css",
    ],
)
def test_pages_for_people_and_what_they_load_are_compressed(edge: Edge, path: str) -> None:
    plain = requests.get(edge.url + path, headers={"Accept-Encoding": "identity"}, timeout=30)
    packed = requests.get(edge.url + path, headers={"Accept-Encoding": "gzip"}, timeout=30)
    assert (plain.status_code, "Content-Encoding" in plain.headers) == (200, False)
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert packed.content == plain.content
    if "ETag" in packed.headers:
        known = {"Accept-Encoding": "gzip", "If-None-Match": packed.headers["ETag"]}
        assert requests.get(edge.url + path, headers=known, timeout=30).status_code == 304


def test_nothing_else_is_compressed(edge: Edge) -> None:
    for path in (thumb_path(), "/problem", f"/explain?url={TARGET}&{'x' * 2000}", "/ready", "/metrics"):
        answer = requests.get(edge.url + path, headers={"Accept-Encoding": "gzip"}, timeout=30)
        assert "Content-Encoding" not in answer.headers, path


def test_an_answer_of_the_edge_is_never_younger_than_it_says(edge: Edge) -> None:
    path = thumb_path()
    first, second = ask(edge.url, path), ask(edge.url, path)
    assert int(first.headers["age"]) < 30
    assert 60 + 60 <= int(second.headers["age"]) < 60 + 60 + 30


def test_each_request_has_its_own_name_and_times_of_nobody_else(edge: Edge) -> None:
    path = thumb_path()
    first = ask(edge.url, path, "X-Request-ID: mine-0001")
    named = ask(edge.url, path, "X-Request-ID: mine-0002")
    nameless = ask(edge.url, path)
    odd = ask(edge.url, path, "X-Request-ID: <script>")
    assert first.headers["x-request-id"] == "mine-0001"
    assert "server-timing" in first.headers
    assert [edge_cache(each) for each in (named, nameless, odd)] == ["HIT"] * 3
    assert named.headers["x-request-id"] == "mine-0002"
    names = {each.headers["x-request-id"] for each in (first, named, nameless, odd)}
    assert len(names) == 4
    assert "<script>" not in names
    assert all("server-timing" not in each.headers for each in (named, nameless, odd))
    wait_until(lambda: "mine-0001" in edge.log.read_text(), what="the line of the request in the log")


def test_both_caches_say_what_they_did(edge: Edge) -> None:
    path = thumb_path()
    ask(edge.service_url, path)
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", edge.nginx.port, timeout=20)
    ) as connection:
        said = []
        for _ in range(2):
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
            said.append([answer.headers["X-Cache"], *answer.headers.get_all("Cache-Status", [])])
    assert said[0][0] == "HIT"
    assert said[0][1].startswith("thumbnailer; hit; ttl=")
    assert said[0][2:] == ["edge; fwd=uri-miss"]
    assert said[1][2:] == ["edge; hit"]


@pytest.mark.parametrize("path", ["/", "/static/playground.js", "/static/playground.css", "/static/icon.svg"])
def test_the_playground_comes_through_as_it_is_and_lies_nowhere(edge: Edge, path: str) -> None:
    before = edge.nginx.kept
    for _ in range(2):
        through, direct = ask(edge.url, path), ask(edge.service_url, path)
        assert (through.status, through.body) == (200, direct.body)
        for name in ("content-type", "content-security-policy", "cache-control", "etag"):
            assert through.headers[name] == direct.headers[name], name
        assert through.headers["cache-control"] == "no-cache"
        known = ask(edge.url, path, f"If-None-Match: {through.headers['etag']}")
        assert (known.status, known.body) == (304, b"")
    assert edge.nginx.kept == before
    missing = ask(edge.url, "/static/nothing.js")
    assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")


#: As browsers send it, and others.
ACCEPTS = {
    "AVIF, an image of Chrome": (
        "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
        "image/avif",
    ),
    "AVIF, a page of Firefox": (
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
        "image/avif",
    ),
    "WebP, an image of an older Chrome": (
        "image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8",
        "image/webp",
    ),
    "WebP, in capitals": ("IMAGE/WEBP , */*;q=0.1", "image/webp"),
    "neither, an image of Safari": ("image/svg+xml,image/*;q=0.8,video/*;q=0.8,*/*;q=0.5", "image/jpeg"),
    "neither, curl": ("*/*", "image/jpeg"),
    "neither, no image at all": ("text/plain", "image/jpeg"),
}

#: Those whom no class fits: who is asked is the service.
ODD_ACCEPTS = {
    "no AVIF": ("image/avif;q=0, image/webp", "image/webp"),
    "rather WebP": ("image/avif;q=0.5, image/webp;q=0.9, */*;q=0.1", "image/webp"),
    "PNG": ("image/png", "image/png"),
    "JPEG": ("image/jpeg, image/*;q=0.5", "image/jpeg"),
}


def test_one_url_has_three_copies_at_most_and_everybody_gets_what_they_can_show(edge: Edge) -> None:
    path, before = thumb_path(format="auto"), edge.nginx.kept
    for accept, content_type in ODD_ACCEPTS.values():
        answer = ask(edge.url, path, f"Accept: {accept}")
        assert (answer.headers["content-type"], edge_cache(answer)) == (content_type, "BYPASS"), accept
    assert edge.nginx.kept == before
    seen: Counter[str | None] = Counter()
    for accept, content_type in ACCEPTS.values():
        answer = ask(edge.url, path, f"Accept: {accept}")
        assert answer.headers["content-type"] == content_type, accept
        assert answer.headers["vary"] == "Accept"
        seen[edge_cache(answer)] += 1
    assert seen == {"MISS": 3, "HIT": len(ACCEPTS) - 3}
    assert edge.nginx.kept == before + 3
    for accept, content_type in ODD_ACCEPTS.values():
        answer = ask(edge.url, path, f"Accept: {accept}")
        assert (answer.headers["content-type"], edge_cache(answer)) == (content_type, "BYPASS"), accept


def test_a_class_that_was_read_wrongly_is_kept_by_nobody(edge: Edge) -> None:
    path = thumb_path(format="auto")
    said = ask(edge.url, path, "Accept: image/avif, image/avif;q=0")  # the last word counts
    assert (edge_cache(said), said.headers["content-type"]) == ("MISS", "image/jpeg")
    answer = ask(edge.url, path, "Accept: image/avif")
    assert (edge_cache(answer), answer.headers["content-type"]) == ("MISS", "image/avif")


PERSONAL = {
    "an API key": ("", "X-API-Key: tn_none"),
    "a token": ("", "Authorization: Bearer tn_none"),
    "a new picture": ("&fresh=true", "Accept: */*"),
    "a stream": ("&stream=true", "Accept: */*"),
}


@pytest.mark.parametrize(("query", "field"), PERSONAL.values(), ids=PERSONAL.keys())
def test_what_is_for_one_caller_is_neither_kept_nor_taken_from_what_is(
    edge: Edge, query: str, field: str
) -> None:
    path = thumb_path().replace("/thumb?", "/screenshot?") + query
    before = edge.nginx.kept
    for _ in range(2):
        assert edge_cache(ask(edge.url, path, field)) == "BYPASS"
    assert edge.nginx.kept == before
    ask(edge.url, path.removesuffix(query))
    assert edge_cache(ask(edge.url, path, field)) == "BYPASS"


@pytest.fixture
def broken_pages(edge: Edge) -> Iterator[None]:
    """A vendor that fails for some pages."""

    def answer(call: Received) -> Answer:
        if "/dead" in call.json["url"]:
            return json_error(404, {"statusCode": 404, "error": "Not Found", "message": "no"})
        return content(picture("png", 320, 200), "image/png")

    edge.vendor.behave(answer)
    yield
    edge.vendor.behave(lambda _call: content(picture("png", 320, 200), "image/png"))


NO_PICTURES = {
    "a problem document": ({}, "Accept: application/json", 422),
    "a placeholder": ({"on_error": "placeholder"}, "Accept: image/*", 422),
    "a wrong option": ({"width": "1"}, "Accept: */*", 400),
}


@pytest.mark.usefixtures("broken_pages")
@pytest.mark.parametrize(("options", "field", "status"), NO_PICTURES.values(), ids=NO_PICTURES.keys())
def test_errors_and_placeholders_are_not_kept(
    edge: Edge, options: dict[str, str], field: str, status: int
) -> None:
    path, before = thumb_path(next(TARGETS) + "/dead", **options), edge.nginx.kept
    for _ in range(2):
        answer = ask(edge.url, path, field)
        assert (answer.status, edge_cache(answer)) == (status, "MISS")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-request-id"]
    assert edge.nginx.kept == before


def test_the_stand_in_for_a_picture_that_is_being_made_is_not_kept(edge: Edge) -> None:
    proceed = threading.Event()

    def slow(_call: Received) -> Answer:
        assert proceed.wait(20)
        return content(picture("png", 320, 200), "image/png")

    edge.vendor.behave(slow)
    path = thumb_path(wait="0")
    assert [ask(edge.url, path).status for _ in range(2)] == [202, 202]
    proceed.set()
    wait_until(lambda: ask(edge.url, path).status == 200, what="the picture")


@pytest.mark.parametrize("options", [{}, {"thumb_width": "200"}], ids=["a capture", "a thumbnail"])
def test_parts_conditions_and_heads_are_answered_by_the_edge(edge: Edge, options: dict[str, str]) -> None:
    path = thumb_path(**options)
    whole = ask(edge.url, path)
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    size_bytes = len(whole.body)

    part = ask(edge.url, path, "Range: bytes=10-19")
    assert (part.status, part.body) == (206, whole.body[10:20])
    assert part.headers["content-range"] == f"bytes 10-19/{size_bytes}"
    other = ask(edge.url, path, "Range: bytes=10-19", 'If-Range: "other"')
    assert (other.status, other.body) == (200, whole.body)
    several = ask(edge.url, path, "Range: bytes=0-1,4-5")
    assert (several.status, several.body) == (200, whole.body)
    beyond = ask(edge.url, path, f"Range: bytes={size_bytes}-")
    assert (beyond.status, beyond.headers["content-range"]) == (416, f"bytes */{size_bytes}")

    for condition in (f"If-None-Match: {etag}", f"If-Modified-Since: {modified}"):
        unchanged = ask(edge.url, path, condition)
        assert (unchanged.status, unchanged.body) == (304, b"")
        assert unchanged.headers["etag"] == etag
        assert unchanged.headers["cache-control"] == CLIENT_CACHE_CONTROL
    changed = ask(edge.url, path, 'If-None-Match: "other"')
    assert (changed.status, changed.body) == (200, whole.body)

    headers_only = ask(edge.url, path, method="HEAD")
    assert (headers_only.status, headers_only.body) == (200, b"")
    assert headers_only.headers["content-length"] == str(size_bytes)
    answers = (part, other, several, beyond, unchanged, changed, headers_only)
    assert [edge_cache(each) for each in answers] == ["HIT"] * 7


def test_a_body_that_is_too_large_costs_nobody_else_an_answer(edge: Edge) -> None:
    """The service leaves its connection, which the edge must not go on with."""
    body = b" " * 1_200_000  # more than the service's MAX_BODY_BYTES, less than nginx refuses by itself
    request = head("POST /screenshot HTTP/1.1", f"Content-Length: {len(body)}") + body
    answers = [(exchange(edge.url, request).status, ask(edge.url, "/health").status) for _ in range(20)]
    assert answers == [(413, 200)] * 20


@pytest.mark.parametrize("field", ['If-Match: "other"', "Range: bytes=999999-"])
@pytest.mark.parametrize(
    ("route", "end", "content_type"),
    [
        pytest.param("/thumb", "", PROBLEM, id="thumb"),
        pytest.param("/thumb", "&exp=1999999999", PROBLEM, id="a URL that ends"),
        pytest.param("/v1/screenshot", "", "application/json", id="SnapSharp"),
        pytest.param("/api/screenshot", "", "application/json", id="hermesforge"),
    ],
)
def test_what_the_edge_refuses_of_a_picture_it_refuses_as_the_service_does(
    edge: Edge, field: str, route: str, end: str, content_type: str
) -> None:
    path = thumb_path().replace("/thumb", route) + end
    assert [edge_cache(ask(edge.url, path)) for _ in range(2)] == ["MISS", "HIT"]
    by_the_edge, by_the_service = ask(edge.url, path, field), ask(edge.service_url, path, field)
    assert by_the_edge.status == by_the_service.status
    assert by_the_edge.headers["content-type"] == by_the_service.headers["content-type"] == content_type
    assert by_the_edge.headers.get("x-problem") == by_the_service.headers.get("x-problem")
    assert by_the_edge.headers["cache-control"] == "no-store", "whatever was said of the picture before"
    assert by_the_edge.headers.get("content-range") == by_the_service.headers.get("content-range")
    assert {**by_the_edge.json(), "request_id": ""} == {**by_the_service.json(), "request_id": ""}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param(("GET", "Range: bytes=0-9"), id="a part"),
        pytest.param(("GET", 'If-None-Match: "other"'), id="a condition"),
        pytest.param(("HEAD", "Accept: */*"), id="a head"),
    ],
)
def test_what_the_first_asks_for_does_not_change_what_is_kept(edge: Edge, fields: tuple[str, str]) -> None:
    path, (method, field) = thumb_path(), fields
    ask(edge.url, path, field, method=method)
    answer = ask(edge.url, path)
    assert (answer.status, edge_cache(answer)) == (200, "HIT")
    assert Image.open(io.BytesIO(answer.body)).size == (320, 200)


def test_a_purge_gets_through_to_everybody(edge: Edge, tmp_path: Path) -> None:
    numbers = itertools.count(300)
    edge.vendor.behave(lambda _call: content(picture("png", next(numbers), 200), "image/png"))
    path = thumb_path()
    target = path.partition("?")[2]
    with running_nginx(tmp_path, port_of(edge.service_url), changes=SECOND) as nginx:
        before = ask(nginx.url, path)
        assert edge_cache(ask(nginx.url, path)) in {"HIT", "STALE", "UPDATING"}
        assert ask(nginx.url, f"/cache?{target}", method="DELETE").status == 200
        wait_until(lambda: ask(nginx.url, path).body != before.body, what="the new picture")
        assert ask(nginx.url, path).body != before.body, "the old one does not come back"


def test_a_service_that_does_not_trust_the_edge_has_nothing_kept(tmp_path: Path) -> None:
    with Upstream() as vendor, running_service(tmp_path, snapapi_environment(vendor.url)) as service:
        untrusted = ask(service.url, path := thumb_path(), "X-Edge-Seconds: 60")
        assert untrusted.headers["cache-control"] == CLIENT_CACHE_CONTROL
        with running_nginx(tmp_path / "nginx", port_of(service.url)) as nginx:
            answers = [ask(nginx.url, path) for _ in range(2)]
            assert [edge_cache(each) for each in answers] == ["MISS", "MISS"]
            assert [each.headers["cache-control"] for each in answers] == [CLIENT_CACHE_CONTROL] * 2
            assert nginx.kept == 0


def v1_path(**options: str) -> str:
    return thumb_path(**options).replace("/thumb", "/v1/screenshot")


def test_a_vendors_pictures_are_kept_as_others_are(edge: Edge) -> None:
    path = v1_path()
    first, second = ask(edge.url, path), ask(edge.url, path)
    assert [(each.status, edge_cache(each)) for each in (first, second)] == [(200, "MISS"), (200, "HIT")]
    assert first.body == second.body
    assert not [name for name in second.headers if name.startswith(("x-ratelimit", "x-quota"))]


def test_nothing_else_of_a_vendors_api_is_kept(edge: Edge) -> None:
    kept = edge.nginx.kept
    wrong = v1_path(format="gif")
    for _ in range(2):
        refused = ask(edge.url, wrong)
        assert (refused.status, refused.json()["error"]) == (400, "validation_error")
        assert ask(edge.url, "/v1/usage").status == 200
        nowhere = ask(edge.url, "/v1/nowhere")
        assert (nowhere.status, nowhere.json()["error"]) == (404, "not_found")
        posted = post(edge.url, "/v1/screenshot", {"url": f"{next(TARGETS)}"})
        assert (posted.status_code, posted.headers["Content-Type"]) == (200, "image/png")
        assert posted.headers["Cache-Control"] == "no-store"
    assert edge.nginx.kept == kept


def test_a_key_in_a_url_is_neither_kept_nor_written_anywhere(edge: Edge, tmp_path: Path) -> None:
    kept = edge.nginx.kept
    with running_nginx(tmp_path / "nginx", free_port()) as lonely:  # nobody is behind it
        for name in ("access_key", "access%5Fkey"):
            for url, path in (
                (edge.url, f"/v1/screenshot?{name}=tn_hidden"),
                (edge.url, f"/v1/usage?{name}=tn_hidden"),
                (lonely.url, f"/v1/screenshot?{name}=tn_hidden"),
                (lonely.url, f"/v1/usage?{name}=tn_hidden"),
            ):
                post(url, path, {"url": TARGET, "fullPage": False})
                ask(url, path)
        assert ask(lonely.url, "/v1/usage?shown").status == 502
        wait_until(lambda: "/v1/usage?shown" in written(lonely.folder), what="the note of what went wrong")
        assert "tn_hidden" not in written(lonely.folder)
    assert edge.nginx.kept == kept
    assert "tn_hidden" not in written(edge.nginx.folder) + edge.log.read_text()


def post(url: str, path: str, body: dict[str, object]) -> requests.Response:
    return requests.post(url + path, json=body, timeout=30)


def written(folder: Path) -> str:
    """All that nginx has written: logs, and the cache."""
    return "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())
