"""Which program is taken for the local browser, and what happens where there is none."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.support.answers import content
from tests.support.browser_processes import the_browser
from tests.support.chromium import chromium, guard_with, take
from tests.support.service import PROJECT
from tests.support.upstream import Upstream
from thumbnailer.errors import UpstreamFailed
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.providers.chromium import ChromiumProvider, ChromiumSettings, find_chromium


def test_without_a_program_nothing_is_ready(tmp_path: Path) -> None:
    plain_file = tmp_path / "chromium"
    plain_file.touch(mode=0o644)
    for program in (None, tmp_path / "missing", plain_file, tmp_path):
        provider = ChromiumProvider(ChromiumSettings(executable=program), guard_with())
        assert not provider.is_ready()
        with pytest.raises(UpstreamFailed, match="no browser"):
            provider.capture(CaptureRequest(url="http://a.example/"), Deadline.after(5))


def test_a_program_that_is_no_browser_is_a_failure_that_leaves_nothing_behind() -> None:
    before = set(psutil.Process().children(recursive=True))
    with (
        chromium(executable=Path("/bin/false")) as provider,
        pytest.raises(UpstreamFailed, match="could not be started"),
    ):
        take(provider, "http://127.0.0.1/")
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        pytest.param(["debian", "bin/chromium"], "debian", id="Debian's headless shell first"),
        pytest.param(
            ["bin/chromium", "bin/chromium-headless-shell"],
            "bin/chromium-headless-shell",
            id="a headless shell",
        ),
        pytest.param(["bin/google-chrome-stable"], "bin/google-chrome-stable", id="Chrome"),
        pytest.param(
            [
                "home/.cache/ms-playwright/chromium_headless_shell-999/chrome-linux/headless_shell",
                "home/.cache/ms-playwright/chromium_headless_shell-1100/chrome-linux/headless_shell",
            ],
            "home/.cache/ms-playwright/chromium_headless_shell-1100/chrome-linux/headless_shell",
            id="the newest of Playwright's",
        ),
        pytest.param([], None, id="none"),
    ],
)
def test_the_best_browser_of_the_machine_is_found(
    tmp_path: Path, present: list[str], expected: str | None
) -> None:
    for name in present:
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.touch(mode=0o755)
    environment = {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path / "home")}
    found = find_chromium(environment=environment, debian=tmp_path / "debian")
    assert found == (tmp_path / expected if expected else None)


#: Words in nine languages, so in the largest fonts there are.
EXAMPLE = PROJECT / "docs/images/example/index.html"


def test_fonts_are_read_from_their_files_and_not_kept_in_memory() -> None:
    with Upstream(content(EXAMPLE.read_bytes(), "text/html")) as upstream, chromium() as provider:
        take(provider, upstream.url)
        browser = the_browser()
        turned_off = [
            set(argument.partition("=")[2].split(","))
            for argument in browser.cmdline()
            if argument.startswith("--disable-features=")
        ]
        kept = [each.rss for each in browser.memory_maps() if ".org.chromium." in each.path]
    assert sum(kept) < 32 << 20
    assert len(turned_off) == 2
    assert turned_off[0] < turned_off[1], "what Playwright turns off stays off, after an update of it as well"
