"""Only true pictures leave by a door or stay in the cache, whatever an upstream sends with status 200."""

from __future__ import annotations

import contextlib
import gzip
import json
import secrets
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, repeat
from pathlib import Path

import pytest
import requests

from tests.support import answers
from tests.support.answers import Answer, content
from tests.support.pictures import (
    PNG_SIGNATURE,
    animation,
    grey_rows,
    picture,
    png_of_chunks,
    png_of_size,
)
from tests.support.processes import wait_until
from tests.support.service import Service, running_service, snapapi_environment
from tests.support.upstream import Upstream

MIB = 2**20
MAX_BYTES = 4 * MIB
HTML = b"<!doctype html><title>Out of order</title><h1>Sorry, out of order</h1>" * 9
SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert("svg")</script></svg>' * 9
JSON = b'{"status": "queued", "position": 4711}' * 9


def damaged(image_format: str) -> bytes:
    """A picture with some bytes in its middle turned around."""
    body = bytearray(picture(image_format))
    body[len(body) // 2 : len(body) // 2 + 8] = b"\x55\xaa" * 4
    return bytes(body)


def jpeg_without_pixels() -> bytes:
    body = picture("jpeg")
    scan = body.index(b"\xff\xda")
    return body[: scan + 2 + int.from_bytes(body[scan + 2 : scan + 4], "big")] + b"\xff\xd9"


def webp_with_html() -> bytes:
    """A WebP that announces a chunk of HTML behind its pixels."""
    body = picture("webp") + b"HTML" + len(HTML).to_bytes(4, "little") + HTML + bytes(len(HTML) % 2)
    return body[:4] + (len(body) - 8).to_bytes(4, "little") + body[8:]


#: What requests raises where a connection ends before the answer does.
BROKEN_OFF = (requests.exceptions.ChunkedEncodingError, requests.ConnectionError)


@dataclass(frozen=True, slots=True)
class Stage:
    """The service, its upstream, and the folder of its cache and stored images."""

    service: Service
    upstream: Upstream
    folder: Path

    def ask(self, path: str, page: str) -> requests.Response:
        """Raises ChunkedEncodingError or the like where the connection breaks."""
        return requests.get(f"{self.service.url}{path}", {"url": page}, timeout=60)

    def files_with(self, traces: list[bytes]) -> list[str]:
        """The files of cache and storage that hold any of the bytes."""
        found = [path for name in ("cache", "media") for path in (self.folder / name).rglob("*")]
        return [path.name for path in found if path.is_file() and any(t in path.read_bytes() for t in traces)]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("service")
    with Upstream() as upstream:
        environ = snapapi_environment(
            upstream.url,
            RATELIMIT_ENABLED="false",
            MAX_IMAGE_BYTES=str(MAX_BYTES),
            BREAKER_FAILURES="10000",
            UPSTREAM_TIMEOUT="10",
            WEB_CONCURRENCY="1",
        )
        with running_service(folder, environ) as service:
            yield Stage(service, upstream, folder)


@pytest.fixture
def page() -> str:
    return f"http://93.184.216.34/{secrets.token_hex(8)}"


def half(image_format: str) -> Answer:
    body = picture(image_format)
    return content(body[: len(body) // 2], f"image/{image_format}")


def tailed(image_format: str, tail: bytes) -> Answer:
    return content(picture(image_format) + tail, f"image/{image_format}")


def too_short_a_length() -> Answer:
    """A Content-Length of less than what follows: a reader who believes it has a picture without its end."""
    return Answer(
        headers=(("Content-Type", "image/png"),),
        chunks=lambda: iter([picture()]),
        length=len(picture()) - 100,
    )


def too_long_a_length() -> Answer:
    body = picture()
    return Answer(
        headers=(("Content-Type", "image/png"),),
        chunks=lambda: iter([body, b""]),
        length=len(body) + 100,
        cut_after=len(body),
    )


def junk_without_end() -> Answer:
    """A PNG whose pixels never come: its next chunk has no name, and none that follows either."""
    return Answer(chunks=lambda: chain([picture()[:33]], repeat(bytes(65536))))


def encoded(body: bytes, coding: str) -> Answer:
    packed = zlib.compress(body, 1) if coding == "deflate" else gzip.compress(body, 1)
    return content(packed, "image/png", ("Content-Encoding", coding))


#: Name: the answer, its slug, and whether a stream shows it in its first bytes.
FALSE: dict[str, tuple[Answer, str, bool]] = {
    "html": (content(HTML, "text/html"), "not-an-image", True),
    "html as png": (content(HTML, "image/png"), "not-an-image", True),
    "json": (content(JSON, "application/json"), "not-an-image", True),
    "svg": (content(SVG, "image/svg+xml"), "not-an-image", True),
    "half a jpeg": (half("jpeg"), "not-an-image", False),
    "half a png": (half("png"), "not-an-image", False),
    "half a webp": (half("webp"), "not-an-image", False),
    "png and html": (tailed("png", HTML), "not-an-image", False),
    "jpeg and html": (tailed("jpeg", HTML), "not-an-image", False),
    "jpeg, html, jpeg's end": (tailed("jpeg", HTML + b"\xff\xd9"), "not-an-image", False),
    "png, html, png's end": (tailed("png", HTML + picture()[-12:]), "not-an-image", False),
    "apng of 301 frames": (content(animation("png", 301), "image/png"), "not-an-image", True),
    "animated webp": (content(animation("webp", 9), "image/webp"), "not-an-image", True),
    "animated avif": (content(animation("avif", 9), "image/avif"), "not-an-image", True),
    "png of no pixels": (content(png_of_chunks((b"IDAT", b"")), "image/png"), "not-an-image", False),
    "png of too few pixels": (
        content(png_of_chunks((b"IDAT", grey_rows(199))), "image/png"),
        "not-an-image",
        False,
    ),
    "png of too many pixels": (
        content(png_of_chunks((b"IDAT", grey_rows(201))), "image/png"),
        "not-an-image",
        False,
    ),
    "png of a bomb": (
        content(png_of_chunks((b"IDAT", zlib.compress(bytes(64 * MIB), 1))), "image/png"),
        "not-an-image",
        False,
    ),
    "png of pixels that do not unpack": (
        content(png_of_chunks((b"IDAT", HTML)), "image/png"),
        "not-an-image",
        False,
    ),
    "png of two headers": (
        content(png_of_chunks((b"IHDR", bytes(13)), (b"IDAT", grey_rows(200))), "image/png"),
        "not-an-image",
        False,
    ),
    "a damaged png": (content(damaged("png"), "image/png"), "not-an-image", False),
    "jpeg without pixels": (content(jpeg_without_pixels(), "image/jpeg"), "not-an-image", False),
    "webp around html": (content(webp_with_html(), "image/webp"), "not-an-image", False),
    "animated gif": (content(animation("gif", 9), "image/gif"), "not-an-image", True),
    "300 megapixels": (content(png_of_size(20_000, 15_000), "image/png"), "image-too-large", True),
    "no pixels": (content(png_of_size(0, 15_000), "image/png"), "not-an-image", True),
    "endless": (answers.endless(), "image-too-large", False),
    "endless junk": (junk_without_end(), "not-an-image", False),
    "endless and announced": (answers.streamed(MAX_BYTES + 1), "image-too-large", True),
    "empty": (answers.empty(), "not-an-image", True),
    "empty and unframed": (content(b"", "image/png", framing="close"), "not-an-image", True),
    "a length too short": (too_short_a_length(), "not-an-image", False),
    "a length too long": (too_long_a_length(), "upstream-failed", False),
    "a pdf": (content(picture("pdf"), "application/pdf"), "not-an-image", True),
    "a pdf as png": (content(picture("pdf"), "image/png"), "not-an-image", True),
    "gzip": (encoded(picture(), "gzip"), "not-an-image", True),
    "deflate": (encoded(picture(), "deflate"), "not-an-image", True),
    "gzip that nobody mentions": (content(gzip.compress(picture()), "image/png"), "not-an-image", True),
    "gzip bomb": (encoded(PNG_SIGNATURE + bytes(256 * MIB), "gzip"), "not-an-image", True),
}


def traces_of(answer: Answer) -> list[bytes]:
    """What would be found of the body wherever it was kept: pieces of its beginning."""
    body = b""
    for chunk in answer.chunks():
        body += chunk
        if len(body) > 4096:
            break
    return [body[at : at + 32] for at in (64, 1024) if len(body) >= at + 32] or ([body] if body else [])


def assert_problem(response: requests.Response, slug: str) -> None:
    assert response.status_code == 502
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Cache-Control"] == "no-store"
    assert response.json()["type"] == f"/problems/{slug}"


@pytest.mark.parametrize(("answer", "slug", "shows_at_once"), FALSE.values(), ids=FALSE)
@pytest.mark.parametrize("path", ["/screenshot", "/thumb"])
def test_no_false_picture_is_an_answer_or_stays_in_the_cache(
    stage: Stage, page: str, path: str, answer: Answer, slug: str, shows_at_once: bool
) -> None:
    stage.upstream.behave(answer)
    assert_problem(stage.ask(path, page), slug)
    assert stage.files_with(traces_of(answer)) == []


@pytest.mark.parametrize(("answer", "slug", "shows_at_once"), FALSE.values(), ids=FALSE)
def test_no_false_picture_is_stored(
    stage: Stage, page: str, answer: Answer, slug: str, shows_at_once: bool
) -> None:
    stage.upstream.behave(answer)
    response = requests.post(f"{stage.service.url}/persist", json={"url": page}, timeout=60)
    assert_problem(response, slug)
    assert stage.files_with(traces_of(answer)) == []


@pytest.mark.parametrize(("answer", "slug", "shows_at_once"), FALSE.values(), ids=FALSE)
def test_a_stream_of_a_false_picture_is_refused_or_broken_off_and_leaves_no_trace(
    stage: Stage, page: str, answer: Answer, slug: str, shows_at_once: bool
) -> None:
    stage.upstream.behave(answer)
    if shows_at_once:
        assert_problem(stage.ask("/screenshot/stream", page), slug)
    else:
        with contextlib.suppress(*BROKEN_OFF):
            # It may be there before the first byte goes out, and is judged then.
            assert_problem(stage.ask("/screenshot/stream", page), slug)
    wait_until(lambda: stage.files_with(traces_of(answer)) == [], what="the abandoned pieces to go")
    stage.upstream.behave(answers.image())
    again = stage.ask("/screenshot/stream", page)
    assert again.status_code == 502 or again.headers["X-Cache"] == "MISS", "nothing was kept of it"


TRUE: dict[str, tuple[Answer, str]] = {
    "png as html": (content(picture(), "text/html"), "image/png"),
    "png as nothing": (Answer(chunks=lambda: iter([picture()]), length=len(picture())), "image/png"),
    "jpeg as png": (content(picture("jpeg"), "image/png"), "image/jpeg"),
    "webp as jpeg": (content(picture("webp"), "image/jpeg"), "image/webp"),
    "png of no encoding": (content(picture(), "image/png", ("Content-Encoding", "identity")), "image/png"),
}


@pytest.mark.parametrize(("answer", "content_type"), TRUE.values(), ids=TRUE)
@pytest.mark.parametrize("path", ["/screenshot", "/screenshot/stream"])
def test_a_true_picture_is_called_what_its_bytes_are(
    stage: Stage, page: str, path: str, answer: Answer, content_type: str
) -> None:
    stage.upstream.behave(answer)
    for x_cache in ("MISS", "HIT"):
        response = stage.ask(path, page)
        assert (response.status_code, response.headers["X-Cache"]) == (200, x_cache)
        assert response.headers["Content-Type"] == content_type
        assert response.content == b"".join(answer.chunks())


def test_bytes_behind_a_length_too_short_do_not_reach_the_next_answer(stage: Stage, page: str) -> None:
    for number in range(4):
        stage.upstream.behave(too_short_a_length(), too_short_a_length(), answers.image())
        assert_problem(stage.ask("/screenshot", f"{page}?{number}"), "not-an-image")
        assert stage.ask("/screenshot", f"{page}?{number}-next").content == picture()


def test_a_picture_inside_html_asked_for_as_pdf_is_no_pdf(stage: Stage, page: str) -> None:
    stage.upstream.behave(answers.image())
    response = requests.get(f"{stage.service.url}/screenshot", {"url": page, "format": "pdf"}, timeout=60)
    assert_problem(response, "not-an-image")


def peak_mib(service: Service) -> float:
    """The most memory that the workers of a service have used so far."""
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children").read_text().split()
    statuses = [Path(f"/proc/{child}/status").read_text() for child in children]
    return sum(int(status.split("VmHWM:")[1].split()[0]) for status in statuses) / 1024


BOMBS = ["300 megapixels", "endless", "gzip bomb", "apng of 301 frames"]


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("path", ["/screenshot", "/screenshot/stream", "/thumb"])
def test_no_bomb_takes_much_memory(stage: Stage, page: str, path: str, name: str) -> None:
    """Decoded, the large ones take 900 and 256 MiB each; a limit of 4 MiB allows four times that in parts."""
    stage.upstream.behave(answers.image())
    assert stage.ask("/thumb", page).status_code == 200  # what is loaded with the first picture
    before = peak_mib(stage.service)
    stage.upstream.behave(FALSE[name][0])

    def ask(number: int) -> None:
        try:
            assert json.loads(stage.ask(path, f"{page}?{number}").content)["status"] == 502
        except BROKEN_OFF:
            assert path == "/screenshot/stream"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(8)))
    assert peak_mib(stage.service) - before < 96
