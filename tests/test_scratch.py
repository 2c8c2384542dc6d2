"""Folders in the system's temporary one go with the processes that made them, however those end."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.processes import opened_in, wait_until
from tests.support.service import PROJECT
from thumbnailer.scratch import ScratchFolder, remove_abandoned, scratch_folder

KIND = "thumbnailer-test-"


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def killed_holder(temporary: Path) -> Path:
    """The folder of a process that was killed; a file lies in it."""
    program = (
        "import os, signal\n"
        "from thumbnailer.scratch import ScratchFolder\n"
        f"folder = ScratchFolder({KIND!r}).path\n"
        "(folder / 'file').touch()\n"
        "print(folder, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)}
    ended = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    return Path(ended.stdout.strip())


def test_what_a_killed_process_has_left_goes_when_the_next_of_its_kind_comes(temporary: Path) -> None:
    left = killed_holder(temporary)
    assert (left / "file").exists()
    with scratch_folder("thumbnailer-other-"):
        assert left.exists(), "another kind is not its business"
    with scratch_folder(KIND) as folder:
        assert list(temporary.iterdir()) == [folder]
    assert list(temporary.iterdir()) == []


def test_what_a_living_process_holds_stays(temporary: Path) -> None:
    held = ScratchFolder(KIND)
    program = f"from thumbnailer.scratch import remove_abandoned\nremove_abandoned({KIND!r})\n"
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert held.path.is_dir()
    held.remove()
    assert not held.path.exists()


def test_a_folder_lives_as_long_as_a_process_that_was_forked_from_its_maker(temporary: Path) -> None:
    program = (
        "import os, sys\n"
        "from thumbnailer.scratch import ScratchFolder\n"
        f"folder = ScratchFolder({KIND!r}).path\n"
        "if os.fork():\n"
        "    os._exit(0)\n"
        "print(folder, flush=True)\n"
        "sys.stdin.read()\n"
    )
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(PROJECT)}
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", program], env=environment, stdin=pipe, stdout=pipe, text=True
    ) as maker:
        assert maker.stdout is not None
        folder = Path(maker.stdout.readline().strip())
        assert maker.wait(20) == 0
        remove_abandoned(KIND)
        assert folder.is_dir()
        assert maker.stdin is not None
        maker.stdin.close()
        assert maker.stdout.read() == "", "until the fork has ended"
    remove_abandoned(KIND)
    assert not folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could remove what others own")
def test_root_leaves_the_folders_of_other_users_alone(temporary: Path) -> None:
    folder = temporary / f"{KIND}of-somebody"
    folder.mkdir()
    os.chown(folder, 65_534, 65_534)
    remove_abandoned(KIND)
    assert folder.is_dir()


def test_a_link_that_somebody_else_has_put_there_is_left_alone(temporary: Path) -> None:
    target = temporary / "of-somebody"
    target.mkdir()
    (temporary / f"{KIND}link").symlink_to(target)
    (temporary / f"{KIND}file").touch()
    with scratch_folder(KIND):
        assert target.is_dir()
    assert (temporary / f"{KIND}link").is_symlink()
    assert (temporary / f"{KIND}file").exists()


def test_who_is_taken_for_dead_before_they_hold_their_folder_make_another(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = tempfile.mkdtemp
    lost: list[Path] = []

    def make_what_somebody_removes(prefix: str) -> str:
        path = Path(make(prefix=prefix))
        if not lost:
            lost.append(path)
            held = os.open(path, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX)
            pool.submit(remove, path, held)
        return str(path)

    def remove(path: Path, held: int) -> None:
        wait_until(lambda: len(opened_in(path)) == 2, what="who is to hold it")
        path.rmdir()
        os.close(held)

    with ThreadPoolExecutor(1) as pool:
        monkeypatch.setattr(tempfile, "mkdtemp", make_what_somebody_removes)
        with scratch_folder(KIND) as folder:
            assert list(temporary.iterdir()) == [folder]
            assert lost != [folder]
            assert opened_in(temporary) == [str(folder)]
    assert opened_in(temporary) == []


def test_a_folder_that_somebody_has_removed_is_let_go_of(temporary: Path) -> None:
    with scratch_folder(KIND) as folder:
        folder.rmdir()
    assert opened_in(temporary) == []


def test_where_folders_cannot_be_locked_nobody_removes_those_of_others(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _operation: int) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with scratch_folder(KIND) as one, scratch_folder(KIND) as other:
        assert {*temporary.iterdir()} == {one, other}
    assert list(temporary.iterdir()) == []


def test_many_who_begin_at_once_take_nothing_from_each_other(temporary: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(ScratchFolder, [KIND] * 80))
    assert all(folder.path.is_dir() for folder in folders)
    for folder in folders:
        folder.remove()
    assert list(temporary.iterdir()) == []
