"""Captures by the local Chromium: against bare Playwright, and against a browser started for each picture."""

from __future__ import annotations

import contextlib
import http.server
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import count
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from benchmarks.clients import fetch, picture_path
from benchmarks.figures import Figure, figure, ratio
from benchmarks.machine import PROJECT
from benchmarks.scale import Scale
from benchmarks.services import WIDE_LIMITS
from tests.support.service import running_service
from tests.support.small_web import serving
from thumbnailer.providers.chromium import find_chromium

PAGES = PROJECT / "docs" / "images" / "example"
WIDTH, HEIGHT = 1280, 720
WARM_UPS = 5
#: As many at a time as there are cores on the smallest machine that is sensible.
AT_ONCE = 2
SLOWDOWN_GOAL, SPEEDUP_GOAL = 1.1, 3.0
#: What a shell script would call.
WHOLE_BROWSER = "chromium"

#: Takes a picture of a page that nobody has asked for.
Capture = Callable[[str], None]


class _Pages(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_arguments: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def _page_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Pages, directory=str(PAGES)))
    with serving(server):
        yield f"http://127.0.0.1:{server.server_port}/index.html"


def _program() -> str:
    found = find_chromium()
    if found is None:
        raise FileNotFoundError("there is no Chromium: run make setup-tests")
    return str(found)


def _with_service(service_url: str, page: str) -> None:
    answer = fetch(service_url, picture_path("/screenshot", page))
    if (answer.status, answer.headers.get("x-cache")) != (200, "MISS"):
        raise ValueError(f"a capture ended with {answer.status}")


def _with_playwright(browser: Browser, page: str) -> None:
    with browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}) as context:
        tab = context.new_page()
        tab.goto(page)
        tab.screenshot(type="png")


def _with_new_browser(program: str, folder: Path, page: str) -> None:
    file = folder / f"{threading.get_ident()}.png"
    command = [program, "--headless", "--no-sandbox", f"--window-size={WIDTH},{HEIGHT}"]
    subprocess.run([*command, f"--screenshot={file}", page], check=True, capture_output=True, timeout=60)
    file.unlink()


class Measurement:
    """Each way to take a picture, by turns."""

    def __init__(self, page: str, repeats: int) -> None:
        self._pages = (f"{page}?{number}" for number in count())
        self._guard = threading.Lock()
        self._repeats = repeats

    def _next_page(self) -> str:
        with self._guard:
            return next(self._pages)

    def milliseconds(self, ways: Mapping[str, Capture]) -> dict[str, float]:
        """The median of one capture after the other, a picture of each way by turns."""
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(self._repeats):
            for name, capture in ways.items():
                started_at = time.perf_counter()
                capture(self._next_page())
                taken[name].append((time.perf_counter() - started_at) * 1000)
        return {name: statistics.median(values) for name, values in taken.items()}

    def per_second(self, capture: Capture) -> float:
        """As many as there are while two are always under way."""
        started_at = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for done in [pool.submit(capture, self._next_page()) for _ in range(self._repeats)]:
                done.result()
        return self._repeats / (time.perf_counter() - started_at)


def measure(scale: Scale) -> Iterator[Figure]:
    """The page of the README, 1280x720, as PNG; the browsers of the first two are warm."""
    with contextlib.ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="bench-captures-")))
        page = held.enter_context(_page_server())
        environ = {"PROVIDERS": "chromium", "ALLOWED_PRIVATE_TARGETS": "127.0.0.0/8", "WEB_CONCURRENCY": "1"}
        service = held.enter_context(running_service(folder, environ | WIDE_LIMITS | {"TARGET_PORTS": "80"}))
        playwright = held.enter_context(sync_playwright())
        browser = playwright.chromium.launch(executable_path=_program(), chromium_sandbox=False)
        ours = partial(_with_service, service.url)
        whole, shell = (partial(_with_new_browser, each, folder) for each in (WHOLE_BROWSER, _program()))
        ways = {"thumbnailer": ours, "Playwright": partial(_with_playwright, browser)}
        Measurement(f"{page}?warm", WARM_UPS).milliseconds(ways)
        measurement = Measurement(page, max(5, scale.repeats // 5))
        times = [measurement.milliseconds(ways) for _ in range(scale.rounds)]
        rates = [
            (measurement.per_second(ours), measurement.per_second(whole), measurement.per_second(shell))
            for _ in range(scale.rounds)
        ]
        browser.close()
    yield from _figures(times, rates)


def _figures(times: list[dict[str, float]], rates: list[tuple[float, float, float]]) -> Iterator[Figure]:
    ours, bare = [each["thumbnailer"] for each in times], [each["Playwright"] for each in times]
    yield figure("one capture: thumbnailer", "ms", ours)
    yield figure("one capture: bare Playwright", "ms", bare)
    yield ratio("one capture, against bare Playwright", ours, bare, at_most=SLOWDOWN_GOAL, goal=8)
    served, whole, shell = ([each[way] for each in rates] for way in range(3))
    yield figure("captures, two at a time: thumbnailer", "1/s", served)
    yield figure("captures, two at a time: a new Chromium each", "1/s", whole)
    yield figure("captures, two at a time: a new headless shell each", "1/s", shell)
    yield ratio(
        "captures a second, against a new Chromium each", served, whole, at_least=SPEEDUP_GOAL, goal=8
    )
    yield ratio("captures a second, against a new headless shell each", served, shell)
