"""A small web of target pages on loopback.

Colours carry the result: ``GREEN`` where something worked, ``RED`` where it did not.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Iterator
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, urlsplit

from PIL import Image

from tests.support.site_pages import SITE_PAGES
from tests.support.target_pages import FILL, PAGES, TURN_GREEN, Answer, box, document

RED = (255, 0, 0)
GREEN = (0, 255, 0)
BLUE = (0, 0, 255)
WHITE = (255, 255, 255)

#: How far a lossy format may be off, of 255.
TOLERANCE = 12


class PageServer(ThreadingHTTPServer):
    """Serves ``PAGES`` and ``SITE_PAGES``, and remembers what it was asked for.

    Besides: ``/status/N`` answers with that status; ``/check?js=`` is green where the expression is
    true; ``/to?to=`` leads there; ``/hang`` answers when the server ends, ``/late.svg`` half a second later;
    ``/pairs`` answers when two ask for it at once; an event stream goes on until the server ends;
    ``/breaks-off-once`` is whole the second time, ``/breaks-off-anywhere`` gets a little further each time.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _PageDoor)
        self.requests: list[str] = []
        self.headers: dict[str, Message] = {}  # of the last request for each path
        self.ending = threading.Event()
        self.pair = threading.Barrier(2)
        self.at_once = 0
        self.most_at_once = 0
        self.counting = threading.Lock()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"

    def check(self, expression: str) -> str:
        return self.url(f"/check?js={quote(expression, safe='')}")

    def answer(self, target: str) -> Answer:
        parts = urlsplit(target)
        if parts.path.startswith("/status/"):
            return Answer(document(box("lime", height="100vh")), status=int(parts.path.rpartition("/")[2]))
        if parts.path == "/to":
            return Answer("", status=302, headers=(("Location", parse_qs(parts.query)["to"][0]),))
        if parts.path == "/check":
            return Answer(_check(parse_qs(parts.query)["js"][0]))
        if parts.path == "/hang":
            self.ending.wait(60)
        if parts.path == "/late.svg":
            self.ending.wait(0.5)
        if parts.path.startswith("/breaks-off"):
            return self._break_off(parts.path)
        if parts.path == "/pairs":
            return self._answer_in_pairs()
        return (PAGES | SITE_PAGES).get(parts.path, Answer("nothing here", status=404))

    def _break_off(self, path: str) -> Answer:
        times = self.requests.count(path)
        if path == "/breaks-off-once" and times > 1:
            return PAGES["/plain"]
        return Answer(document(box("red", height="100vh") + "text " * 100 * times), missing=9_000)

    def _answer_in_pairs(self) -> Answer:
        with self.counting:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        with contextlib.suppress(threading.BrokenBarrierError):
            self.pair.wait(20)
        with self.counting:
            self.at_once -= 1
        return PAGES["/plain"]


def _check(expression: str) -> str:
    script = f"(async () => {{ if (await ({expression})) {{ {TURN_GREEN} }} }})()"
    return document(
        f"<script>{script}</script>", style=FILL, head='<meta name="viewport" content="width=device-width">'
    )


class _PageDoor(BaseHTTPRequestHandler):
    server: PageServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.headers[urlsplit(self.path).path] = self.headers
        answer = self.server.answer(self.path)
        body = answer.body.encode()
        with contextlib.suppress(ConnectionError):
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.content_type)
            self.send_header("Content-Length", str(len(body) + answer.missing))
            for name, value in answer.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            if answer.content_type == "text/event-stream":
                self.server.ending.wait(60)
            self.close_connection = answer.missing > 0

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the parent's name
        """Keep quiet."""


@contextlib.contextmanager
def running_pages() -> Iterator[PageServer]:
    server = PageServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.pair.abort()
        server.shutdown()
        server.server_close()
        thread.join(5)


def picture_of(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def colours_at(content: bytes, *points: tuple[int, int]) -> list[tuple[int, ...]]:
    """The colours of these pixels, snapped to pure ones where a lossy format is a little off."""
    picture = picture_of(content)
    pixels = [picture.getpixel(point) for point in points]
    return [tuple(_snap(int(channel)) for channel in pixel) for pixel in pixels if isinstance(pixel, tuple)]


def colour_at(content: bytes, x: int, y: int) -> tuple[int, ...]:
    return colours_at(content, (x, y))[0]


def _snap(channel: int) -> int:
    if channel <= TOLERANCE:
        return 0
    return 255 if channel >= 255 - TOLERANCE else channel
