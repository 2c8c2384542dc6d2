"""Checks of the local browser: its program, its driver, its sandbox, and a picture of a page of our own."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path

from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.diagnosis.reasons import causes_of
from thumbnailer.errors import ThumbnailerError, UpstreamTimeout
from thumbnailer.guard import Guard, OpenAddresses
from thumbnailer.libvips import claim, vips
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers import Provider
from thumbnailer.providers.running_browser import NO_SANDBOX

SANDBOX_PAGE = "docs/configuration.md#the-sandbox"

MISSING_LIBRARY = "error while loading shared libraries"

ERROR_LINE = re.compile(r"\[pid=\d+\]\[err\] (.+)")
EXIT_LINE = re.compile(r"<process did exit: (.+)>")
MAX_CHARACTERS = 300

INSTALL = "Run scripts/install-chromium.sh, which brings what it needs."

#: A page that is one colour, which no error page of a browser has.
COLOUR = (18, 120, 86)
PAGE = f"<!doctype html><title>doctor</title><body style='background: rgb{COLOUR}'>".encode()

MakeProvider = Callable[[Guard], Provider]


def is_there(deadline: Deadline, *, program: Path | None) -> Verdict:
    """Looks for the program, and asks it for its version."""
    if program is None:
        return wrong(
            "no browser was found on this machine",
            "Run scripts/install-chromium.sh, or let CHROMIUM_PATH name one.",
        )
    return _with_version(str(program), [str(program), "--version"], deadline)


def driver_is_there(deadline: Deadline) -> Verdict:
    """Has Playwright's driver, a program of Node.js that steers the browser, say its version."""
    return _with_version("Playwright's driver", [sys.executable, "-m", "playwright", "--version"], deadline)


def _with_version(name: str, command: list[str], deadline: Deadline) -> Verdict:
    try:
        asked = subprocess.run(  # noqa: S603  # the operator's own programs
            command, capture_output=True, text=True, timeout=deadline.remaining_seconds(), check=False
        )
    except subprocess.TimeoutExpired:
        return wrong(f"{name} does not say its version in time", "Start it by hand, as the service's user.")
    if asked.returncode != 0:
        last = (asked.stderr.strip().splitlines() or [f"status {asked.returncode}"])[-1]
        return wrong(f"{name} does not start: {last}", INSTALL)
    return well(f"{asked.stdout.strip()}, {name}")


def is_in_its_sandbox(_deadline: Deadline, *, is_sandboxed: bool) -> Verdict:
    """Looks at the setting; that the sandbox works is seen by the picture."""
    if is_sandboxed:
        return well("pages run in Chromium's sandbox")
    return doubtful(
        "pages run without Chromium's sandbox",
        "Set CHROMIUM_SANDBOX to true where the machine allows it; until then photograph trusted pages only.",
    )


def takes_a_picture(deadline: Deadline, *, make: MakeProvider) -> Verdict:
    """Has a browser of its own photograph a page of our own, by the way that all pages take.

    The guard of that browser opens one port of the loopback address; the service's own stays as it is.
    """
    with _own_page() as port:
        guard = Guard(exceptions=(OpenAddresses(ip_network("127.0.0.1/32"), port),))
        with closing(make(guard)) as provider:
            try:
                request = CaptureRequest(url=f"http://127.0.0.1:{port}/", width=320, height=240)
                body = b"".join(provider.capture(request, deadline))
            except ThumbnailerError as error:
                return _trouble(error)
    return _judged(body)


def _judged(body: bytes) -> Verdict:
    claim()
    library = vips()
    try:
        picture = library.Image.new_from_buffer(body, "")
        seen = tuple(round(value) for value in picture(picture.width // 2, picture.height // 2)[:3])
    except library.Error:
        return wrong("what came is no picture", "Try another Chromium by CHROMIUM_PATH.")
    if any(abs(mine - theirs) > 3 for mine, theirs in zip(seen, COLOUR, strict=True)):
        return wrong(
            "the picture does not show our page",
            "See whether a policy or proxy of this machine changes what Chromium loads.",
        )
    return well(f"a page of our own was photographed: {picture.width} x {picture.height} pixels")


def _trouble(error: ThumbnailerError) -> Verdict:
    told = "\n".join(str(cause) for cause in causes_of(error))
    if NO_SANDBOX in told:
        advice = "Let it allow user namespaces, or set CHROMIUM_SANDBOX to false for trusted pages."
        return wrong("this machine forbids the browser its sandbox", advice, SANDBOX_PAGE)
    if isinstance(error, UpstreamTimeout):
        return wrong(
            "no picture in time",
            "Give the check more time by --timeout, or the service more processor and memory.",
        )
    words = _last_words(told)
    if MISSING_LIBRARY in words:
        return wrong(words, INSTALL)
    if not words:
        return wrong(str(error), "Give the check more time by --timeout, or start the program by hand.")
    return wrong(
        f"{error} {words}", "Start the program by hand, as the service's user, and see what it says."
    )


def _last_words(told: str) -> str:
    """What the browser wrote last, else how its process ended: all that counts in a long log."""
    for pattern in (ERROR_LINE, EXIT_LINE):
        found = pattern.findall(told)
        if found:
            return str(found[-1]).strip()[:MAX_CHARACTERS]
    return ""


@contextmanager
def _own_page() -> Iterator[int]:
    """A server of one page on a free port of the loopback address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _OnePage)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class _OnePage(BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the name that http.server calls
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # http.server's signature
        """Nobody wants to know."""
