"""Sizes and formats through the door: one capture, many renditions."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from threading import Event
from typing import cast

import pytest
from flask.testing import FlaskClient
from PIL import Image

from tests.support.ageing import age_pictures, age_pictures_in_redis
from tests.support.answers import image, json_error
from tests.support.processes import running_redis, wait_until
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.bounded_calls import BoundedCalls
from thumbnailer.encoding import Rendered
from thumbnailer.errands import Errand, Errands
from thumbnailer.errors import CallerLimited, ImageTooLarge, Overloaded
from thumbnailer.failures import FailureBoard
from thumbnailer.flights import Flights
from thumbnailer.imaging import PictureLimits
from thumbnailer.locks import MemoryLocks
from thumbnailer.model import CaptureRequest, Deadline, capture_key
from thumbnailer.picture_cache import Boarding, PictureCache
from thumbnailer.pipeline import Pipeline
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import Rendition, RenditionFormat
from thumbnailer.sites import Kind, PictureKey, Site
from thumbnailer.telemetry import Timings
from thumbnailer.terms import CacheStatus, Delivery, Terms
from thumbnailer.thumbnails import ThumbnailRequest, Thumbnails

CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(image("png", 1280, 720)) as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    with client_of(snapapi_environment(upstream.url)) as client:
        yield client


def _size(body: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(body)).size


@pytest.mark.parametrize(
    ("options", "size"),
    [
        pytest.param({"thumb_width": "400"}, (400, 225), id="width alone keeps the proportions"),
        pytest.param({"thumb_height": "90"}, (160, 90), id="height alone keeps the proportions"),
        pytest.param({"thumb_width": "400", "thumb_height": "400"}, (400, 225), id="inside the box"),
        pytest.param({"thumb_width": "2000"}, (1280, 720), id="inside never enlarges"),
        pytest.param({"thumb_width": "200", "thumb_height": "200", "fit": "cover"}, (200, 200), id="cover"),
        pytest.param(
            {"thumb_width": "200", "thumb_height": "200", "fit": "contain"}, (200, 200), id="contain"
        ),
        pytest.param({"thumb_width": "200", "dpr": "2"}, (400, 225), id="twice as dense"),
    ],
)
def test_a_thumbnail_has_the_size_asked_for(
    client: FlaskClient, options: dict[str, str], size: tuple[int, int]
) -> None:
    response = client.get("/thumb", query_string={"url": TARGET, **options})
    assert response.status_code == 200, response.text
    assert _size(response.data) == size


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp", "avif"])
def test_a_thumbnail_has_the_format_asked_for(client: FlaskClient, image_format: str) -> None:
    response = client.get("/thumb", query_string={"url": TARGET, "thumb_width": "64", "format": image_format})
    assert response.content_type == f"image/{image_format}"
    assert _size(response.data) == (64, 36)


def test_ten_sizes_and_formats_cost_one_capture(client: FlaskClient, upstream: Upstream) -> None:
    for width in range(100, 1100, 100):
        for image_format in ("webp", "jpeg"):
            query = {"url": TARGET, "thumb_width": str(width), "format": image_format}
            assert client.get("/thumb", query_string=query).status_code == 200
    assert len(upstream.requests) == 1
    assert upstream.requests[0].json["format"] == "png"


def test_a_dead_page_keeps_its_thumbnail_although_its_capture_has_gone(
    client: FlaskClient, upstream: Upstream
) -> None:
    """The cache is bounded: captures are large, and nobody looks at them while their thumbnails are fresh."""
    query = {"url": TARGET, "thumb_width": "100", "ttl": "60"}
    old = client.get("/thumb", query_string=query)
    thumbnails = client.application.extensions["thumbnailer"].thumbnails
    capture = CaptureRequest(url=TARGET, block_ads=True, block_cookie_banners=True)
    address = Site.of(TARGET).address(Kind.CAPTURE, capture_key(capture))
    assert thumbnails._pictures._cache.record_of(address)
    thumbnails._pictures._cache.forget(address)
    thumbnails._clock = thumbnails.pipeline._clock = lambda: time.time() + 3600
    upstream.behave(json_error(404, {"error": "gone"}))
    stale = client.get("/thumb", query_string=query)
    assert (stale.status_code, stale.headers["X-Cache"], stale.data) == (200, "STALE", old.data)
    wait_until(lambda: len(upstream.requests) == 1)
    wait_until(lambda: "X-Problem" in client.get("/thumb", query_string=query).headers)
    marked = client.get("/thumb", query_string=query)
    assert (marked.data, marked.headers["X-Problem"]) == (old.data, "target-unreachable")
    assert marked.headers["Cache-Status"].endswith("; detail=target-unreachable")
    assert len(upstream.requests) == 1


def test_an_old_thumbnail_is_no_answer_where_its_page_is_purged_meanwhile(client: FlaskClient) -> None:
    client.get("/thumb", query_string={"url": TARGET, "thumb_width": "100"})
    services = client.application.extensions["thumbnailer"]
    capture = CaptureRequest(url=TARGET, block_ads=True, block_cookie_banners=True)
    request = ThumbnailRequest(capture, Rendition(format=RenditionFormat.PNG, thumb_width=100))
    is_purged = False

    def admit() -> None:
        if is_purged:
            services.purges.mark([Site.of(TARGET).scope], time.time())
        raise Overloaded("There is no room for another capture.")

    terms = Terms(
        max_age_seconds=60, deadline=Deadline.after(60), admit=admit, timings=Timings(), recapture=True
    )
    assert services.thumbnails.fetch_within(request, terms, 20).cache_status is CacheStatus.STALE
    is_purged = True
    with pytest.raises(Overloaded):
        services.thumbnails.fetch_within(request, terms, 20)


@pytest.mark.parametrize("kind", ["files", "redis"])
def test_what_a_clock_has_taken_that_was_set_back_since_is_old_and_taken_anew(
    upstream: Upstream, tmp_path: Path, kind: str
) -> None:
    settings = snapapi_environment(upstream.url, CACHE_DIR=str(tmp_path))
    query = {"url": TARGET, "thumb_width": "100"}
    with ExitStack() as held:
        age: Callable[[float], int] = partial(age_pictures, tmp_path)
        if kind == "redis":
            settings["REDIS_URL"] = held.enter_context(running_redis(tmp_path))
            age = partial(age_pictures_in_redis, settings["REDIS_URL"])
        client = held.enter_context(client_of(settings))
        old = client.get("/thumb", query_string=query)
        assert age(-86_400) == 2
        stale = client.get("/thumb", query_string=query)
        assert (stale.headers["X-Cache"], stale.data) == ("STALE", old.data)
        assert int(stale.headers["Age"]) > 86_400, "caches on the way keep it no longer either"
        wait_until(lambda: client.get("/thumb", query_string=query).headers["X-Cache"] == "HIT")
        renewed = client.get("/thumb", query_string=query)
        assert int(renewed.headers["Age"]) < 600
        assert len(upstream.requests) == 2


@pytest.mark.parametrize("wait", [{}, {"wait": "20"}], ids=["without an errand", "by errands"])
def test_a_new_capture_is_not_answered_by_an_old_one_that_is_being_rendered(
    client: FlaskClient, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, wait: dict[str, str]
) -> None:
    client.get("/thumb", query_string={"url": TARGET})
    thumbnails = client.application.extensions["thumbnailer"].thumbnails
    thumbnails._clock = thumbnails.pipeline._clock = lambda: time.time() + 120
    upstream.behave(image("png", 1280, 1280))
    has_begun, go_on = Event(), Event()
    render: Callable[[bytes, Rendition], Rendered] = thumbnails._renderer.render

    def rendered_slowly(body: bytes, rendition: Rendition) -> Rendered:
        has_begun.set()
        assert go_on.wait(20)
        return render(body, rendition)

    def size(**options: str) -> tuple[int, int]:
        query = {"url": TARGET, "thumb_width": "100", **wait, **options}
        return _size(client.application.test_client().get("/thumb", query_string=query).data)

    monkeypatch.setattr(thumbnails._renderer, "render", rendered_slowly)
    with ThreadPoolExecutor() as callers:
        old = callers.submit(size)
        assert has_begun.wait(20)
        new = callers.submit(size, fresh="true")
        wait_until(lambda: any(seat.company.is_set() for seat in thumbnails._flights._seats.values()))
        go_on.set()
    assert (old.result(20), new.result(20)) == ((100, 56), (100, 100))
    assert size() == (100, 100)


def test_a_rendition_that_failed_keeps_nobody_from_the_next(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_body: bytes, _rendition: Rendition) -> Rendered:
        raise ImageTooLarge("There are too many pixels.")

    query = {"url": TARGET, "thumb_width": "100"}
    with monkeypatch.context() as failing:
        failing.setattr(client.application.extensions["thumbnailer"].thumbnails._renderer, "render", fail)
        assert client.get("/thumb", query_string=query).status_code == 502
    assert _size(client.get("/thumb", query_string=query).data) == (100, 56)


def test_a_rendition_is_cached_with_an_entity_tag_of_its_own(client: FlaskClient) -> None:
    query = {"url": TARGET, "thumb_width": "100"}
    first, second = (client.get("/thumb", query_string=query) for _ in range(2))
    other = client.get("/thumb", query_string=query | {"thumb_width": "101"})
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert first.data == second.data
    assert first.headers["ETag"] == second.headers["ETag"] != other.headers["ETag"]
    assert first.headers["Last-Modified"] == other.headers["Last-Modified"]


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        pytest.param(CHROME, "image/avif", id="a browser that shows avif"),
        pytest.param("image/webp,*/*", "image/webp", id="a browser that shows webp"),
        pytest.param("*/*", "image/jpeg", id="a program"),
        pytest.param(None, "image/jpeg", id="nobody says"),
    ],
)
def test_auto_goes_by_accept_and_says_so(client: FlaskClient, accept: str | None, content_type: str) -> None:
    headers = {"Accept": accept} if accept else {}
    query = {"url": TARGET, "thumb_width": "64", "format": "auto"}
    for _ in range(2):
        response = client.get("/thumb", query_string=query, headers=headers)
        assert response.content_type == content_type
        assert "Accept" in response.vary
    unchanged = client.get(
        "/thumb", query_string=query, headers={**headers, "If-None-Match": response.headers["ETag"]}
    )
    assert unchanged.status_code == 304
    assert "Accept" in unchanged.vary


def test_a_format_that_is_fixed_does_not_vary(client: FlaskClient) -> None:
    response = client.get("/thumb", query_string={"url": TARGET, "thumb_width": "64", "format": "webp"})
    assert "Accept" not in response.vary


@pytest.mark.parametrize(
    ("options", "field"),
    [
        pytest.param({"thumb_width": "15"}, "thumb_width", id="too narrow"),
        pytest.param({"thumb_height": "2001"}, "thumb_height", id="too high"),
        pytest.param({"thumb_width": "64", "fit": "stretch"}, "fit", id="no such fit"),
        pytest.param({"fit": "cover"}, "fit", id="a fit for nothing"),
        pytest.param({"dpr": "2"}, "dpr", id="a density of nothing"),
        pytest.param({"thumb_width": "64", "dpr": "4"}, "dpr", id="too dense"),
        pytest.param({"thumb_width": "64", "quality": "50"}, "quality", id="quality of a png"),
    ],
)
def test_what_makes_no_thumbnail_is_named(client: FlaskClient, options: dict[str, str], field: str) -> None:
    response = client.get("/thumb", query_string={"url": TARGET, **options})
    assert response.status_code == 400
    assert list(response.get_json()["errors"]) == [field]


def test_a_pdf_has_no_thumbnail(client: FlaskClient) -> None:
    response = client.get("/screenshot", query_string={"url": TARGET, "format": "pdf", "thumb_width": "64"})
    assert list(response.get_json()["errors"]) == ["format"]


def test_a_preset_makes_no_pdf_of_a_thumbnail(upstream: Upstream) -> None:
    with client_of(snapapi_environment(upstream.url, PRESETS="print:format=pdf")) as client:
        answer = client.get("/thumb", query_string={"url": TARGET, "preset": "print"})
    assert (answer.status_code, list(answer.json["errors"])) == (400, ["preset"])  # type: ignore[index]
    assert not upstream.requests


def test_the_stream_of_a_thumbnail_is_the_thumbnail(client: FlaskClient) -> None:
    response = client.get("/screenshot/stream", query_string={"url": TARGET, "thumb_width": "64"})
    assert _size(response.data) == (64, 36)


def test_a_thumbnail_is_persisted_as_it_is(client: FlaskClient) -> None:
    body = {"url": TARGET, "thumb_width": 64, "format": "avif"}
    first = client.post("/persist", json=body).get_json()
    second = client.post("/persist", json=body)
    assert (first["width"], first["height"], first["content_type"]) == (64, 36, "image/avif")
    assert first["key"].endswith(".avif")
    assert (second.status_code, second.get_json()["cached"]) == (200, True)


def test_a_failure_is_no_thumbnail(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(json_error(500, {"error": "broken"}))
    response = client.get("/thumb", query_string={"url": TARGET, "thumb_width": "64"})
    assert response.status_code == 502


def test_the_operator_can_make_every_thumb_small(upstream: Upstream) -> None:
    environment = snapapi_environment(upstream.url, THUMB_DEFAULTS="thumb_width=400,format=auto")
    with client_of(environment) as client:
        response = client.get("/thumb", query_string={"url": TARGET}, headers={"Accept": CHROME})
    assert response.content_type == "image/avif"
    assert _size(response.data) == (400, 225)


def test_who_waited_for_anothers_picture_in_vain_waits_for_the_next_no_longer_than_is_left() -> None:
    waits: list[float] = []

    class Refused(Errand):
        def wait(self, seconds: float) -> Delivery | None:
            waits.append(seconds)
            if len(waits) == 1:
                raise CallerLimited("The other caller has used up a limit.", retry_after_seconds=60)
            return None

    class Crowd:
        def join(self, _key: str, _run: object) -> tuple[Errand, bool]:
            return Refused(), False

    class NoPictures:
        def load(self, _key: object) -> None:
            return None

        def board(self, key: PictureKey) -> Boarding:
            return Boarding(key, 0.0)

    class Anything:
        def judge(self, _request: CaptureRequest) -> None:
            return None

    thumbnails = Thumbnails(
        pipeline=cast(Pipeline, Anything()),
        renderer=Renderer(PictureLimits(), concurrency=1),
        pictures=cast(PictureCache, NoPictures()),
        flights=Flights(MemoryLocks(), cast(FailureBoard, None)),
        calls=BoundedCalls(1),
        errands=cast(Errands, Crowd()),
        retention_seconds=60,
    )
    terms = Terms(max_age_seconds=60, deadline=Deadline.after(60), admit=lambda: None, timings=Timings())
    at_once = 1e-9
    request = ThumbnailRequest(CaptureRequest(url=TARGET))
    assert thumbnails.fetch_within(request, terms, at_once) is None
    assert waits == [waits[0], 0.0]
