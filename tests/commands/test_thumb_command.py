"""flask thumb: one thumbnail into a file."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from flask import Flask
from PIL import Image

from tests.support.answers import json_error
from tests.support.command_sites import run
from tests.support.service import TARGET
from tests.support.upstream import Upstream

# --- flask thumb ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        pytest.param("a.webp", [], "WEBP", id="by the ending"),
        pytest.param("a.JPG", [], "JPEG", id="by an ending in capitals"),
        pytest.param("a.avif", ["--option", "format=png"], "PNG", id="an option goes before the ending"),
        pytest.param("a", ["--option", "preset=hero"], "PNG", id="a preset needs no ending"),
    ],
)
def test_a_thumbnail_is_written_in_the_format_of_the_file(
    app: Flask, tmp_path: Path, name: str, options: list[str], kind: str
) -> None:
    run(app, "thumb", TARGET, "-o", str(tmp_path / name), "--option", "thumb_width=160", *options)
    with Image.open(tmp_path / name) as written:
        assert (written.format, written.size) == (kind, (160, 90))


def test_a_thumbnail_goes_to_standard_output_and_is_the_one_that_the_service_serves(
    app: Flask, upstream: Upstream
) -> None:
    written = run(app, "thumb", TARGET, "-o", "-", "--option", "thumb_width=160").stdout_bytes
    served = app.test_client().get("/thumb", query_string={"url": TARGET, "thumb_width": 160}, buffered=True)
    assert (served.headers["X-Cache"], served.data) == ("HIT", written)
    assert Image.open(io.BytesIO(written)).size == (160, 90)
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        pytest.param([TARGET, "-o", "a.gif"], "FILE must end in .png", id="no such format"),
        pytest.param([TARGET, "-o", "nowhere/a.png"], "No such file", id="no such folder"),
        pytest.param([TARGET, "-o", "a.png", "--option", "wait=3"], "wait: Means nothing", id="for answers"),
        pytest.param([TARGET, "-o", "a.png", "--option", "dpr=9"], "dpr: ", id="out of range"),
        pytest.param(["http://10.0.0.1/", "-o", "a.png"], "not a public", id="a forbidden target"),
        pytest.param(["page", "-o", "a.png"], "url: ", id="no URL"),
    ],
)
def test_thumb_says_what_is_wrong_and_writes_nothing(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], fault: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert fault in run(app, "thumb", *arguments, code=1).output
    assert not list(tmp_path.glob("*a.*"))


def test_a_failed_capture_leaves_the_file_as_it_is(app: Flask, upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    upstream.behave(json_error(404, {"message": "gone"}))
    run(app, "thumb", TARGET, "-o", str(path), code=1)
    assert path.read_bytes() == b"before"


def test_a_link_is_kept_and_what_it_names_is_written(app: Flask, tmp_path: Path) -> None:
    path, link = tmp_path / "picture", tmp_path / "a.png"
    path.write_bytes(b"before")
    link.symlink_to(path)
    run(app, "thumb", TARGET, "-o", str(link))
    assert link.is_symlink()
    with Image.open(path) as written:
        assert written.format == "PNG"


def test_a_pipe_is_written_into_and_stays_one(app: Flask, tmp_path: Path) -> None:
    pipe = tmp_path / "a.png"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_bytes)
        run(app, "thumb", TARGET, "-o", str(pipe))
        assert Image.open(io.BytesIO(read.result(20))).format == "PNG"
    assert pipe.is_fifo()


@pytest.mark.parametrize(
    ("output", "fault"),
    [
        pytest.param("full", "full: No space left on device.", id="a full disk"),
        pytest.param("a" * 250 + ".png", "File name too long", id="a long name"),
        pytest.param(".", ".: Is a directory.", id="a folder"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, fault: str
) -> None:
    folder, full = tmp_path / "pictures", Path("full")
    folder.mkdir()
    monkeypatch.chdir(folder)
    full.symlink_to("/dev/full")
    done = run(app, "thumb", TARGET, "-o", output, "--option", "format=png", code=1)
    assert fault in done.output
    assert (list(Path().iterdir()), full.is_symlink()) == ([full], True)
