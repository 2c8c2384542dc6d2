"""Folders in the system's temporary one go with the processes that made them, however those end."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import requests

from tests.support.service import PROJECT, running_service, snapapi_environment
from tests.support.upstream import Upstream
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


def test_a_link_that_somebody_else_has_put_there_is_left_alone(temporary: Path) -> None:
    target = temporary / "of-somebody"
    target.mkdir()
    (temporary / f"{KIND}link").symlink_to(target)
    (temporary / f"{KIND}file").touch()
    with scratch_folder(KIND):
        assert target.is_dir()
    assert (temporary / f"{KIND}link").is_symlink()
    assert (temporary / f"{KIND}file").exists()


def test_many_who_begin_at_once_take_nothing_from_each_other(temporary: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(ScratchFolder, [KIND] * 80))
    assert all(folder.path.is_dir() for folder in folders)
    for folder in folders:
        folder.remove()
    assert list(temporary.iterdir()) == []


def test_a_service_without_a_folder_for_its_cache_has_one_for_its_locks_while_it_lives(
    upstream: Upstream, tmp_path: Path
) -> None:
    more = {"CACHE_DIR": "", "TMPDIR": str(tmp_path), "REDIS_URL": "redis://127.0.0.1:9/0"}
    settings = snapapi_environment(upstream.url, WEB_CONCURRENCY="2", RATELIMIT_ENABLED="false", **more)

    def folders() -> set[Path]:
        return {each for each in tmp_path.glob("thumbnailer-*") if "metrics" not in each.name}

    with running_service(tmp_path, settings, profile="testing") as killed:
        (left,) = folders()
        assert left.stat().st_mode & 0o777 == 0o700
        family = [psutil.Process(killed.pid), *psutil.Process(killed.pid).children()]
        os.kill(killed.pid, signal.SIGKILL)
        psutil.wait_procs(family, timeout=60)
    with running_service(tmp_path, settings, profile="testing") as service:
        _capture_anew(service.url, 10)
        (own,) = folders()
        assert own != left
        assert list(own.iterdir()) == [], "what nobody holds is not there"
        before = psutil.Process(service.pid).children()
        os.kill(service.pid, signal.SIGHUP)
        psutil.wait_procs(before, timeout=60)
        _capture_anew(service.url, 10)
        assert folders() == {own}, "a reload leaves it where it is"
    assert folders() == set()


def _capture_anew(service_url: str, times: int) -> None:
    """Have other pictures taken each time, by either worker."""
    for _ in range(times):
        target = f"http://93.184.216.34/{secrets.token_hex(8)}"
        answer = requests.get(f"{service_url}/screenshot", params={"url": target}, timeout=60)
        assert answer.status_code == 200, answer.text
