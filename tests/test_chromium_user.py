"""Under whom the browser runs, and within which walls."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from tests.support.browser_processes import command_of, descendants, renderers, the_browser, the_driver
from tests.support.chromium import chromium, take
from tests.support.pages import GREEN, PageServer, colour_at, running_pages
from tests.support.processes import wait_until
from thumbnailer.errors import UpstreamFailed
from thumbnailer.providers.chromium import ChromiumProvider
from thumbnailer.providers.ordinary_user import FIRST_UID, LAUNCHER, UIDS, ordinary_user

IS_ROOT = os.geteuid() == 0

for_root = pytest.mark.skipif(not IS_ROOT, reason="only root's browser changes its user")


@pytest.fixture(scope="module")
def pages() -> Iterator[PageServer]:
    with running_pages() as server:
        yield server


@pytest.fixture
def provider(pages: PageServer) -> Iterator[ChromiumProvider]:
    """One that has a browser with an open page."""
    with chromium() as provider, ThreadPoolExecutor(1) as caller:
        assert colour_at(take(provider, pages.url("/plain")), 10, 10) == GREEN
        pages.requests.clear()
        open_page = caller.submit(take, provider, pages.url("/hanging-image"))
        wait_until(lambda: "/hang" in pages.requests)
        yield provider
        provider.close()
        assert isinstance(open_page.exception(20), UpstreamFailed)


def status_of(process: psutil.Process) -> dict[str, str]:
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines)}


def of_the_browser() -> list[psutil.Process]:
    """The browser and all below it, its driver not."""
    browser = the_browser()
    return [browser, *browser.children(recursive=True)]


@pytest.mark.usefixtures("provider")
def test_no_process_of_the_browser_is_roots_or_has_roots_rights() -> None:
    processes = of_the_browser()
    assert len(processes) > 2
    for process in processes:
        status = status_of(process)
        assert "0" not in status["Uid"].split(), command_of(process)
        assert "0" not in status["Gid"].split()
        # What a sandboxed process may do in a namespace of its own is not counted here.
        if process == the_browser():
            assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}


@pytest.mark.usefixtures("provider")
def test_pages_run_in_the_sandbox() -> None:
    assert renderers()
    for process in of_the_browser():
        assert "--no-sandbox" not in command_of(process)
        assert "--disable-setuid-sandbox" not in command_of(process)
    for renderer in renderers():
        status = status_of(renderer)
        assert status["Seccomp"] == "2"
        assert status["NoNewPrivs"] == "1"
        namespaces = [Path(f"/proc/{pid}/ns/user").readlink() for pid in (renderer.pid, os.getpid())]
        assert namespaces[0] != namespaces[1]


@for_root
def test_roots_browser_has_a_user_of_its_own_who_may_read_nothing_of_roots(
    provider: ChromiumProvider, tmp_path: Path
) -> None:
    browser, secret = the_browser(), tmp_path / "secret"
    uid = browser.uids().real
    assert FIRST_UID <= uid < FIRST_UID + UIDS
    status = status_of(browser)
    assert status["Groups"] == ""
    assert status["CapBnd"] == "0" * 16
    assert status["NoNewPrivs"] == "1"
    secret.write_text("x")
    tmp_path.chmod(0o700)
    environment = browser.environ()
    assert not [name for name in environment if name.startswith("BROWSER_")]
    folders = {Path(environment[name]) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    (home,) = folders
    assert home.stat().st_uid == uid
    assert home.stat().st_mode & 0o777 == 0o700
    assert home.parent.stat().st_mode & 0o777 == 0o711
    profile = re.search(r"--user-data-dir=(\S+)", command_of(browser))
    assert profile is not None
    assert Path(profile[1]).stat().st_uid == uid
    assert the_driver().uids().real == 0
    provider.close()
    assert not home.parent.exists()


@for_root
def test_no_process_has_the_number_of_the_user(tmp_path: Path) -> None:
    first = ordinary_user(str(tmp_path))
    assert first is not None
    used = [one.uids().real for one in psutil.process_iter() if one.is_running()]
    assert first.uid not in used


def test_the_script_that_becomes_the_user_can_be_run() -> None:
    assert os.access(LAUNCHER, os.X_OK)


def test_the_operator_may_do_without_the_sandbox_and_is_warned(pages: PageServer) -> None:
    with capture_logs() as logs, chromium(is_sandboxed=False) as provider:
        take(provider, pages.url("/plain"))
        assert "--no-sandbox" in command_of(the_browser())
        if IS_ROOT:
            assert the_browser().uids().real != 0
    assert [log["log_level"] for log in logs if log["event"] == "chromium.sandbox_off"] == ["warning"]


def test_a_machine_that_forbids_the_sandbox_is_named_as_the_reason(pages: PageServer) -> None:
    """The program stands for a Chromium on such a machine: it ends with Chromium's own words."""
    words = "[1:1:FATAL:x.cc(1)] No usable sandbox! If you are running"
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        program = Path(folder, "chromium")
        program.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
        program.chmod(0o755)
        with capture_logs() as logs, chromium(executable=program) as provider, pytest.raises(UpstreamFailed):
            take(provider, pages.url("/plain"))
    errors = [log for log in logs if log["event"] == "chromium.sandbox_impossible"]
    assert errors
    assert "user namespaces" in errors[0]["advice"]
    assert descendants() == []
