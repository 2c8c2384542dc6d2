"""What an ``<img>`` gets when there is no picture, and what a program gets."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image

from settings.reading import ConfigurationError
from tests.support.answers import Answer, Received, image, json_error
from tests.support.pictures import picture
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.imaging import Dimensions
from thumbnailer.placeholders import PlaceholderKind, draw
from thumbnailer.renditions import RenditionFormat

CHROME_IMG = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
CHROME_PAGE = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"
OLD_IMG = "image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5"


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    with Upstream(json_error(401, {"error": "no such key"})) as upstream:
        yield upstream


@pytest.fixture
def client(upstream: Upstream) -> Iterator[FlaskClient]:
    with client_of(snapapi_environment(upstream.url, RATELIMIT_ENABLED="false")) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "on_error", "is_picture"),
    [
        pytest.param({"Sec-Fetch-Dest": "image", "Accept": CHROME_IMG}, None, True, id="an img"),
        pytest.param({"Accept": OLD_IMG}, None, True, id="an img of an old browser"),
        pytest.param({"Sec-Fetch-Dest": "document", "Accept": CHROME_PAGE}, None, False, id="a person"),
        pytest.param({"Accept": CHROME_PAGE}, None, False, id="a person with an old browser"),
        pytest.param({"Sec-Fetch-Dest": "empty", "Accept": "*/*"}, None, False, id="a script"),
        pytest.param({"Accept": "*/*"}, None, False, id="a program"),
        pytest.param({"Accept": "application/json, image/png"}, None, False, id="a program that reads JSON"),
        pytest.param({}, None, False, id="nobody says"),
        pytest.param({}, "placeholder", True, id="asked for"),
        pytest.param({"Sec-Fetch-Dest": "image"}, "status", False, id="declined"),
    ],
)
def test_who_can_only_show_a_picture_gets_one(
    client: FlaskClient, headers: dict[str, str], on_error: str | None, is_picture: bool
) -> None:
    query = {"url": TARGET} | ({"on_error": on_error} if on_error else {})
    response = client.get("/thumb", query_string=query, headers=headers)
    assert response.status_code == 502
    assert response.content_type.startswith("image/") == is_picture
    assert response.headers.get("X-Problem") == ("upstream-auth" if is_picture else None)
    assert {"accept", "sec-fetch-dest"} <= {one.lower() for one in response.vary}


@pytest.mark.parametrize(
    ("options", "size"),
    [
        pytest.param({"thumb_width": "320", "thumb_height": "200"}, (320, 200), id="both sides"),
        pytest.param({"thumb_width": "160"}, (160, 90), id="width alone"),
        pytest.param({"thumb_height": "90"}, (160, 90), id="height alone"),
        pytest.param({"thumb_width": "160", "dpr": "2"}, (320, 180), id="twice as dense"),
        pytest.param({}, (400, 225), id="none"),
        pytest.param({"thumb_width": "99999", "dpr": "nan"}, (400, 225), id="nonsense"),
    ],
)
def test_a_placeholder_has_the_size_asked_for(
    client: FlaskClient, options: dict[str, str], size: tuple[int, int]
) -> None:
    response = client.get("/thumb", query_string={"url": TARGET, "on_error": "placeholder", **options})
    assert Image.open(io.BytesIO(response.data)).size == size


def test_nobody_keeps_a_placeholder_and_nothing_vouches_for_it(client: FlaskClient) -> None:
    response = client.get("/thumb", query_string={"url": TARGET, "on_error": "placeholder"})
    assert response.headers["Cache-Control"] == "no-store"
    assert "ETag" not in response.headers
    assert "Last-Modified" not in response.headers
    assert {"accept", "sec-fetch-dest"} <= {one.lower() for one in response.vary}
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_the_picture_comes_as_soon_as_there_is_one(client: FlaskClient, upstream: Upstream) -> None:
    query = {"url": TARGET, "on_error": "placeholder"}
    client.get("/thumb", query_string=query)
    upstream.behave(image("png"))
    response = client.get("/thumb", query_string=query)
    assert (response.status_code, response.headers["X-Cache"]) == (200, "MISS")


def test_a_wrong_parameter_is_a_placeholder_too(client: FlaskClient) -> None:
    response = client.get("/thumb?colour=red", headers={"Sec-Fetch-Dest": "image", "Accept": CHROME_IMG})
    assert (response.status_code, response.headers["X-Problem"]) == (400, "invalid-parameters")
    assert response.content_type == "image/avif"


def test_head_has_the_headers_of_the_placeholder(client: FlaskClient) -> None:
    response = client.head("/thumb", query_string={"url": TARGET, "on_error": "placeholder"})
    assert (response.data, response.headers["X-Problem"]) == (b"", "upstream-auth")


def test_json_is_never_answered_with_a_placeholder(client: FlaskClient) -> None:
    response = client.post("/screenshot", json={"url": TARGET}, headers={"Accept": CHROME_IMG})
    assert response.content_type == "application/problem+json"


@pytest.mark.parametrize(
    ("target", "status", "kind"),
    [
        pytest.param("http://10.0.0.1/", 403, PlaceholderKind.FAILED, id="what is never visited"),
        pytest.param(f"{TARGET}?second", 429, PlaceholderKind.PENDING, id="what nobody has tried"),
    ],
)
def test_a_page_that_was_not_tried_does_not_look_broken(
    upstream: Upstream, target: str, status: int, kind: PlaceholderKind
) -> None:
    upstream.behave(image("png"))
    with client_of(snapapi_environment(upstream.url, LIMIT_THUMB="1 per minute")) as client:
        assert client.get("/thumb", query_string={"url": TARGET}, buffered=True).status_code == 200
        query = {"url": target, "thumb_width": "160"}
        response = client.get("/thumb", query_string=query, headers={"Accept": OLD_IMG})
    assert response.status_code == status
    assert response.data == draw(Dimensions(160, 90), kind, RenditionFormat.PNG).body


@pytest.mark.parametrize(
    ("setting", "wait", "status", "is_shown"),
    [
        pytest.param("PLACEHOLDER_IMAGE", "60", 502, True, id="of a failure"),
        pytest.param("PLACEHOLDER_IMAGE", "0", 202, False, id="which is no stand-in"),
        pytest.param("PENDING_IMAGE", "0", 202, True, id="of what is being made"),
        pytest.param("PENDING_IMAGE", "60", 502, False, id="which is no failure"),
    ],
)
def test_the_operators_own_picture_takes_its_place(
    upstream: Upstream, tmp_path: Path, setting: str, wait: str, status: int, is_shown: bool
) -> None:
    own = tmp_path / "own.png"
    own.write_bytes(picture("png", 50, 50))
    go_on = threading.Event()

    def hold(_received: Received) -> Answer:
        assert wait != "0" or go_on.wait(30)
        return json_error(401, {"error": "no such key"})

    upstream.behave(hold)
    with client_of(snapapi_environment(upstream.url, **{setting: str(own)})) as client:
        query = {"url": TARGET, "on_error": "placeholder", "thumb_width": "100", "thumb_height": "100"}
        response = client.get("/thumb", query_string=query | {"wait": wait})
        go_on.set()
    assert response.status_code == status
    shown = Image.open(io.BytesIO(response.data)).convert("RGB")
    red, green, blue = shown.getpixel((10, 5))  # type: ignore[misc]  # RGB has three
    assert (red > 150 > max(green, blue)) == is_shown, "the corner of the picture is red"


@pytest.mark.parametrize("setting", ["PLACEHOLDER_IMAGE", "PENDING_IMAGE"])
def test_an_own_picture_that_is_none_stops_the_start(
    upstream: Upstream, tmp_path: Path, setting: str
) -> None:
    own = tmp_path / "own.png"
    own.write_text("<svg/>")
    with (
        pytest.raises(ConfigurationError, match=setting),
        client_of(snapapi_environment(upstream.url, **{setting: str(own)})),
    ):
        pass


def test_a_preset_stands_for_its_options_and_yields_to_the_request(upstream: Upstream) -> None:
    upstream.behave(image("png", 1280, 720))
    presets = "card:thumb_width=400,format=webp;hero:format=jpeg"
    with client_of(snapapi_environment(upstream.url, PRESETS=presets)) as client:
        card = client.get("/thumb", query_string={"url": TARGET, "preset": "card"})
        small = client.get("/thumb", query_string={"url": TARGET, "preset": "card", "thumb_width": "64"})
        unknown = client.get("/thumb", query_string={"url": TARGET, "preset": "other"})
    assert (card.content_type, Image.open(io.BytesIO(card.data)).width) == ("image/webp", 400)
    assert Image.open(io.BytesIO(small.data)).width == 64
    assert list(unknown.get_json()["errors"]) == ["preset"]


@pytest.mark.parametrize(
    "presets",
    [
        pytest.param("card:thumb_width=9", id="a value out of range"),
        pytest.param("card:colour=red", id="an unknown option"),
        pytest.param("card:url=http://a.example/", id="a target"),
        pytest.param("card:thumb_width=400;card:format=webp", id="a name twice"),
        pytest.param("thumb_width=400", id="no name"),
    ],
)
def test_a_wrong_preset_stops_the_start(upstream: Upstream, presets: str) -> None:
    with (
        pytest.raises(ConfigurationError, match="PRESETS"),
        client_of(snapapi_environment(upstream.url, PRESETS=presets)),
    ):
        pass


@pytest.mark.parametrize("option", ["url=http://a.example/", "sig=a", "exp=4102444800", "fresh=true"])
def test_what_each_request_says_for_itself_has_no_default(upstream: Upstream, option: str) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"THUMB_DEFAULTS.*Has no default"),
        client_of(snapapi_environment(upstream.url, THUMB_DEFAULTS=option)),
    ):
        pass


def test_fresh_takes_a_new_picture_but_not_twice_a_minute(client: FlaskClient, upstream: Upstream) -> None:
    upstream.behave(image("png"))
    pipeline = client.application.extensions["thumbnailer"].thumbnails.pipeline
    query = {"url": TARGET, "fresh": "true"}
    answers = [client.get("/thumb", query_string=query) for _ in range(2)]
    kept = {answer.headers["Cache-Control"] for answer in answers}
    assert kept == {"public, max-age=60, stale-if-error=2592000"}, "caches on the way take a new one, too"
    first = [answer.headers["X-Cache"] for answer in answers]
    now = pipeline._clock
    pipeline._clock = lambda: now() + 61
    second = [client.get("/thumb", query_string=query).headers["X-Cache"] for _ in range(1)]
    assert (first, second) == (["MISS", "HIT"], ["MISS"])
    assert len(upstream.requests) == 2
