"""libvips works in the process that it is used in, and takes little of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.support.screenshots import encoded, page_picture

PROJECT = Path(__file__).parent.parent

#: What a web server does: build everything, then fork, then render in the child.
SET_UP = """
import os, resource, signal, sys
from pathlib import Path
from thumbnailer.imaging import Dimensions, PictureLimits
from thumbnailer.libvips import UsedBeforeFork
from thumbnailer.placeholders import PlaceholderKind, Placeholders, read_own_picture
from thumbnailer.rendering import Renderer
from thumbnailer.renditions import Rendition, RenditionFormat

path = Path(sys.argv[1])
limits = PictureLimits()
renderer = Renderer(limits, concurrency=2)
placeholders = Placeholders(renderer, own_pictures={PlaceholderKind.FAILED: read_own_picture(path, limits)})
wanted = Rendition(format=RenditionFormat.WEBP, thumb_width=200)

def render():
    placeholders.placeholder(Dimensions(40, 40), PlaceholderKind.FAILED, RenditionFormat.PNG)
    return renderer.render(path.read_bytes(), wanted)

def in_child(work):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that waits for ever ends by this
        work()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def _run(script: str, path: Path) -> list[str]:
    finished = subprocess.run(
        [sys.executable, "-c", SET_UP + script, str(path)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.split()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page.png"
    path.write_bytes(encoded(page_picture(), "png"))
    return path


def test_children_render_after_their_parent_imported_everything(page: Path) -> None:
    script = "print([in_child(render) for _ in range(2)], render().width)"
    assert _run(script, page) == ["[0,", "0]", "200"]


def test_importing_and_building_starts_no_thread(page: Path) -> None:
    assert _run("print(len(os.listdir('/proc/self/task')))", page) == ["1"]


def test_a_child_of_a_process_that_rendered_hears_of_it_instead_of_waiting(page: Path) -> None:
    script = """
def refused():
    for work in (render, lambda: renderer.render(path.read_bytes(), wanted)):
        try:
            work()
        except UsedBeforeFork:
            continue
        os._exit(9)

render()
print(in_child(refused), in_child(lambda: in_child(refused) and os._exit(8)))
"""
    assert _run(script, page) == ["0", "0"]


def test_a_child_may_fork_before_it_renders(page: Path) -> None:
    assert _run("print(in_child(lambda: os._exit(in_child(render))))", page) == ["0"]


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
def test_a_large_capture_is_never_in_memory_as_a_whole(tmp_path: Path, image_format: str) -> None:
    path = tmp_path / "large"
    path.write_bytes(encoded(Image.new("RGB", (5000, 8000), "teal"), image_format))
    script = """
def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

body = path.read_bytes()
before = peak_mib()
print(renderer.render(body, wanted).height, int(peak_mib() - before))
"""
    height, grown_mib = _run(script, path)
    assert int(height) == 320
    assert int(grown_mib) < 60, "the pixels alone are 114 MiB"
