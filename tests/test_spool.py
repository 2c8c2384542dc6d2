"""Bytes that arrive faster than they are taken lie on disk, and in memory where there is no room."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path

import pytest

from tests.support.processes import opened_in
from tests.support.small_disks import room_for
from thumbnailer.cooldown import CoolDown
from thumbnailer.spool import Spool

PIECES = [secrets.token_bytes(length) for length in (70_000, 1, 0, 60_000, 5)]
WHOLE = b"".join(PIECES)


def filled(room_bytes: int) -> Spool:
    spool = Spool()
    with room_for(room_bytes):
        for piece in PIECES:
            spool.write(piece)
    return spool


def read_all(spool: Spool, most_bytes: int) -> bytes:
    found = bytearray()
    while piece := spool.read(len(found), most_bytes):
        assert len(piece) <= most_bytes
        found += piece
    return bytes(found)


@pytest.mark.parametrize(
    "room_bytes",
    [
        pytest.param(1 << 20, id="for all"),
        pytest.param(len(WHOLE), id="for all of it and no more"),
        pytest.param(100_000, id="in the midst of a piece"),
        pytest.param(70_001, id="between two pieces"),
        pytest.param(0, id="for nothing"),
    ],
)
def test_what_was_written_is_read_wherever_there_was_room_for_it(room_bytes: int) -> None:
    spool = filled(room_bytes)
    assert spool.content() == WHOLE
    assert read_all(spool, 64_000) == read_all(spool, 1 << 20) == WHOLE
    assert spool.read(99_990, 20) in (WHOLE[99_990:100_000], WHOLE[99_990:100_010])
    spool.close()


def test_what_has_begun_to_lie_in_memory_goes_on_there_though_there_is_room_again() -> None:
    spool = filled(100_000)
    spool.write(b"more")
    assert spool.content() == WHOLE + b"more"
    spool.close()


def test_without_a_temporary_folder_all_of_it_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr("thumbnailer.spool._full_disk", CoolDown("The temporary folder"))  # nothing said yet
    spool = filled(1 << 20)
    assert spool.content() == read_all(spool, 64_000) == WHOLE
    spool.close()
    assert "The temporary folder" in caplog.text


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "given up"])
def test_the_file_has_no_name_and_goes_with_its_spool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_closed: bool
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    spool = filled(1 << 20)
    assert list(tmp_path.iterdir()) == []
    assert len(opened_in(tmp_path)) == 1
    if is_closed:
        spool.close()
        spool.close()
    del spool
    assert opened_in(tmp_path) == []
