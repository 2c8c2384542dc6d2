"""The browser dies, hangs, is forked, worn out and shut down; the captures go on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from tests.support.browser_processes import (
    descendants,
    is_browser,
    living,
    renderers,
    the_browser,
    the_browser_or_none,
    the_driver,
)
from tests.support.chromium import chromium, make_provider, take
from tests.support.pages import GREEN, PageServer, colour_at, running_pages
from tests.support.processes import wait_until
from thumbnailer.errors import UpstreamFailed
from thumbnailer.model import CaptureRequest
from thumbnailer.providers import road_out
from thumbnailer.providers.chromium import ChromiumProvider

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with running_pages() as server:
        yield server


@pytest.fixture
def provider() -> Iterator[ChromiumProvider]:
    with chromium() as provider:
        yield provider


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that everybody may look into, unlike those of ``tmp_path``."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def is_green(
    provider: ChromiumProvider, pages: PageServer, path: str = "/plain", seconds: float = 30
) -> bool:
    return colour_at(take(provider, pages.url(path), seconds=seconds), 10, 10) == GREEN


def test_nothing_is_started_before_the_first_capture() -> None:
    before = descendants()
    threads = threading.active_count()
    with chromium() as provider:
        assert provider.is_ready()
        assert provider.unsupported_option(CaptureRequest(url="http://a.example/")) is None
        assert descendants() == before
        assert threading.active_count() <= threads


def test_a_browser_that_does_not_get_out_is_at_fault_and_not_the_options(
    provider: ChromiumProvider, pages: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the temporary disk is nearly full: it starts, and cannot load anything."""
    assert is_green(provider, pages)
    browser = the_browser()
    with monkeypatch.context() as patched, capture_logs() as logs:
        patched.setattr(road_out, "GREETING_URL", "http://127.0.0.1:6000/")  # a port that browsers refuse
        with pytest.raises(UpstreamFailed, match="could not load"):
            take(provider, pages.url("/plain"), timezone="Europe/Berlin")
    assert [line["reason"] for line in logs if line["event"] == "chromium.no_road_out"] == ["UNSAFE_PORT"]
    assert is_green(provider, pages)
    assert the_browser() == browser


def test_a_driver_that_does_not_start_is_named_as_the_reason(
    pages: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program stands for Node.js on a machine that lacks a library which it needs."""
    monkeypatch.setenv("PLAYWRIGHT_NODEJS_PATH", "/bin/false")
    with capture_logs() as logs, chromium() as provider, pytest.raises(UpstreamFailed):
        take(provider, pages.url("/plain"))
    errors = [log for log in logs if log["event"] == "chromium.driver_failed"]
    assert {log["log_level"] for log in errors} == {"warning"}
    assert "flask doctor" in errors[0]["advice"]
    assert descendants() == []


@pytest.mark.parametrize("victim", [the_browser, the_driver], ids=["browser", "driver"])
def test_a_killed_process_between_two_captures_costs_no_error(
    provider: ChromiumProvider, pages: PageServer, victim: Callable[[], psutil.Process]
) -> None:
    assert is_green(provider, pages)
    killed = victim()
    browser = the_browser()
    killed.kill()
    assert is_green(provider, pages)
    wait_until(lambda: browser not in descendants(), what="the end of the browser")
    assert the_browser() != browser


@pytest.mark.parametrize("victim", [the_browser, the_driver], ids=["browser", "driver"])
def test_a_killed_process_during_a_capture_costs_no_error(
    provider: ChromiumProvider, pages: PageServer, victim: Callable[[], psutil.Process]
) -> None:
    assert is_green(provider, pages)
    pages.requests.clear()
    with ThreadPoolExecutor(1) as caller:
        capture = caller.submit(is_green, provider, pages, "/pairs")
        wait_until(lambda: "/pairs" in pages.requests)
        victim().kill()
        # The first attempt's request still waits for its pair: the second attempt is that.
        assert capture.result(30)


def test_a_browser_that_hangs_is_replaced_within_the_deadline(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    assert is_green(provider, pages)
    hanging = the_browser()
    hanging.suspend()
    assert is_green(provider, pages, seconds=16)
    wait_until(lambda: not living([hanging]))


def test_a_page_whose_process_dies_is_a_failure_and_no_small_picture(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    assert is_green(provider, pages)
    browser = the_browser()
    pages.requests.clear()
    with ThreadPoolExecutor(1) as caller:
        capture = caller.submit(is_green, provider, pages, "/hanging-image")
        wait_until(lambda: "/hang" in pages.requests)
        for renderer in renderers():
            renderer.kill()
        with pytest.raises(UpstreamFailed, match="crashed"):
            capture.result(30)
    assert is_green(provider, pages)
    assert the_browser() == browser


def test_a_forked_child_has_a_browser_of_its_own_and_leaves_its_parents_alone(
    provider: ChromiumProvider, pages: PageServer
) -> None:
    assert is_green(provider, pages)
    browser = the_browser()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            parents_is_hidden = the_browser_or_none() is None
            status = 0 if is_green(provider, pages) and parents_is_hidden and the_browser() != browser else 2
            provider.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert is_green(provider, pages)
    assert the_browser() == browser


def test_no_more_captures_run_at_once_than_configured(pages: PageServer) -> None:
    pages.most_at_once = 0
    with chromium(concurrency=2) as provider, ThreadPoolExecutor(6) as callers:
        captures = [callers.submit(is_green, provider, pages, "/pairs") for _ in range(6)]
        assert all(capture.result(60) for capture in captures)
    assert pages.most_at_once == 2


def test_a_worn_out_browser_is_replaced_while_captures_go_on(pages: PageServer) -> None:
    with chromium(recycle_after=3) as provider:
        seen = set()
        for _ in range(4):
            assert is_green(provider, pages)
            seen.add(next(one.pid for one in descendants() if is_browser(one)))
        assert len(seen) == 2
        with ThreadPoolExecutor(4) as callers:
            captures = [callers.submit(is_green, provider, pages) for _ in range(8)]
            assert all(capture.result(60) for capture in captures)


def test_closing_leaves_no_process_thread_or_folder_and_allows_a_new_start(
    pages: PageServer, public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(public_folder))
    before, threads = descendants(), threading.active_count()
    provider = make_provider()
    for _ in range(2):
        assert is_green(provider, pages)
        started = [one for one in descendants() if one not in before]
        assert len(started) > 2
        provider.close()
        assert living(started) == []
        assert list(public_folder.iterdir()) == []
    wait_until(lambda: threading.active_count() <= threads)
    provider.close()


def test_whose_temporary_folder_is_removed_takes_pictures_all_the_same(
    provider: ChromiumProvider, pages: PageServer, public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(public_folder))
    assert is_green(provider, pages)
    (folder,) = public_folder.iterdir()
    shutil.rmtree(folder)
    the_browser().kill()
    assert is_green(provider, pages)


def test_what_a_killed_driver_leaves_in_the_temporary_folder_goes_with_its_browser(
    provider: ChromiumProvider, pages: PageServer, public_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(public_folder))
    assert is_green(provider, pages)
    left = set(public_folder.rglob("playwright*"))
    assert left
    the_driver().kill()
    assert is_green(provider, pages)
    wait_until(lambda: not any(path.exists() for path in left), what="the end of what the driver has left")


def test_closing_during_a_capture_ends_it(provider: ChromiumProvider, pages: PageServer) -> None:
    pages.requests.clear()
    with ThreadPoolExecutor(1) as caller:
        capture = caller.submit(take, provider, pages.url("/hanging-image"))
        wait_until(lambda: "/hang" in pages.requests)
        provider.close()
        with pytest.raises(UpstreamFailed):
            capture.result(10)
    assert descendants() == []


SERVICE = """
    import os, signal, sys
    import psutil
    from tests.support.chromium import make_provider, take
    signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
    provider = make_provider()
    take(provider, sys.argv[1])
    print(*[one.pid for one in psutil.Process().children(recursive=True)], flush=True)
    os.killpg(0, signal.SIGINT)
    take(provider, sys.argv[1])
    if sys.argv[2] == "closes":
        provider.close()
"""


@pytest.mark.parametrize("manner", ["closes", "just exits"])
def test_an_interrupt_of_the_whole_group_ends_no_browser_but_the_exit_does(
    pages: PageServer, manner: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SERVICE), pages.url("/plain"), manner],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
        start_new_session=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    numbers = [int(word) for line in ended.stdout.splitlines() for word in line.split() if word.isdigit()]
    assert len(numbers) > 2
    assert "interrupted" in ended.stdout
    assert [
        number for number in numbers if psutil.pid_exists(number) and living([psutil.Process(number)])
    ] == []


def test_pages_cannot_read_the_services_secrets_out_of_the_browsers_environment(
    provider: ChromiumProvider, pages: PageServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SNAPAPI_KEY", "very-secret")
    assert is_green(provider, pages)
    environment = the_browser().environ()
    assert "SNAPAPI_KEY" not in environment
    assert "PATH" in environment
