"""Installing Debian's packages: by lists of today, and by old ones where there is no network."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.service import PROJECT

DAY_SECONDS = 86_400
PACKAGE = "no-such-package-of-the-tests"

#: Notes what it is called for, and does what the files beside it say.
APT_GET = """#!/bin/sh
here=$(dirname "$0")
for last in "$@"; do :; done
echo "$last" >> "$here/calls"
[ ! -e "$here/fails-at-$last" ] || [ -e "$here/renewed" ] || exit 100
[ "$last" != update ] || touch "$here/renewed"
"""

SUDO = """#!/bin/sh
[ "$1" != -n ] || shift
exec "$@"
"""


@dataclass(frozen=True, slots=True)
class Machine:
    """One whose apt-get only notes what it is called for; ``lists`` is the folder of its package lists."""

    folder: Path
    lists: Path

    def let_fail(self, last_argument: str) -> None:
        """Have calls fail that end so, until the lists have been renewed."""
        (self.folder / f"fails-at-{last_argument}").touch()

    def install(self) -> tuple[int, list[str]]:
        """The script's exit status, and by their last argument what it has called apt-get for."""
        environment = {
            "PATH": f"{self.folder}:{os.environ['PATH']}",
            "APT_CONFIG": str(self.folder / "apt.conf"),
            "TMPDIR": str(self.folder),
        }
        ended = subprocess.run(
            [PROJECT / "scripts" / "apt-install.sh", PACKAGE],
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
        )
        calls = self.folder / "calls"
        return ended.returncode, calls.read_text().split() if calls.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    folder, lists = tmp_path / "bin", tmp_path / "lists"
    (lists / "partial").mkdir(parents=True)
    folder.mkdir()
    for name, script in {"apt-get": APT_GET, "sudo": SUDO}.items():
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    (folder / "apt.conf").write_text(f'Dir::State::lists "{lists}/";\n')
    return Machine(folder, lists)


def grow_old(machine: Machine, days: float) -> None:
    long_ago = time.time() - days * DAY_SECONDS
    for folder in (machine.lists / "partial", machine.lists):
        os.utime(folder, (long_ago, long_ago))


def test_old_lists_are_renewed_first(machine: Machine) -> None:
    grow_old(machine, 40)
    assert machine.install() == (0, ["update", PACKAGE])


def test_lists_of_today_are_taken_as_they_are(machine: Machine) -> None:
    grow_old(machine, 0.5)
    assert machine.install() == (0, [PACKAGE])


def test_without_a_network_old_lists_have_to_do(machine: Machine) -> None:
    grow_old(machine, 40)
    machine.let_fail("update")
    assert machine.install() == (0, ["update", PACKAGE])


def test_where_the_lists_lack_the_package_they_are_renewed(machine: Machine) -> None:
    machine.let_fail(PACKAGE)
    assert machine.install() == (0, [PACKAGE, "update", PACKAGE])


def test_what_cannot_be_installed_is_told(machine: Machine) -> None:
    machine.let_fail(PACKAGE)
    machine.let_fail("update")
    assert machine.install() == (1, [PACKAGE, "update"])
