"""The units for systemd: sound, closed as far as Chromium allows, and saying what the settings understand."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from config import documented_settings
from tests.support.processes import executable
from tests.support.service import PROJECT
from tests.support.settings import load

FOLDER = PROJECT / "deploy/systemd"
INSTALLED = "/opt/thumbnailer"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
DROP_INS = sorted(path.name for path in FOLDER.glob("drop-ins/*.conf"))
SETTING_NAMES = {name for declared in documented_settings() for name in declared.spellings}

#: Of 10, with a little room for what other versions of systemd count; some 9 without any walls.
MOST_EXPOSURE = {"thumbnailer.service": 3, "thumbnailer-worker@.service": 3, "thumbnailer-beat.service": 2}


def directives(name: str) -> dict[str, list[str]]:
    """What a unit says under each name, in order."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / name).read_text(encoding="utf-8").splitlines():
        if match := re.match(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def environment(name: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in directives(name).get("Environment", []))
    return {key: value for key, _, value in pairs}


def environment_file() -> dict[str, str]:
    lines = shlex.split((FOLDER / "thumbnailer.env").read_text(encoding="utf-8"), comments=True)
    return dict(line.split("=", 1) for line in lines)


def installed(folder: Path, drop_ins: Sequence[str] = ()) -> Path:
    """The units in ``folder``, for a service that lies where this project does."""
    for name in UNITS:
        text = (FOLDER / name).read_text(encoding="utf-8")
        (folder / name).write_text(text.replace(INSTALLED, str(PROJECT)), encoding="utf-8")
    for name in drop_ins:
        (folder / "thumbnailer.service.d").mkdir(exist_ok=True)
        (folder / "thumbnailer.service.d" / name).write_bytes((FOLDER / "drop-ins" / name).read_bytes())
    return folder


def complaints(folder: Path, name: str) -> list[str]:
    """What systemd finds wrong with one unit."""
    command = [executable("systemd-analyze"), "verify", "--man=no", "--recursive-errors=one"]
    environ = {"PATH": os.environ["PATH"], "SYSTEMD_UNIT_PATH": f"{folder}:"}
    done = subprocess.run(
        [*command, str(folder / name)], env=environ, capture_output=True, text=True, check=False
    )
    found = [line for line in done.stderr.splitlines() if "thumbnailer" in line]
    return found or ([done.stderr] if done.returncode else [])


@pytest.mark.parametrize("name", UNITS)
def test_systemd_has_nothing_to_say_against_a_unit(name: str, tmp_path: Path) -> None:
    assert complaints(installed(tmp_path, DROP_INS), name) == []


@pytest.mark.parametrize(
    ("line", "word"),
    [
        pytest.param("ProtectSytem=strict", "ProtectSytem", id="a name"),
        pytest.param("SystemCallFilter=@no-such-group", "no-such-group", id="a group of system calls"),
        pytest.param("ExecStartPre=/opt/no/such/program", "no/such/program", id="a program"),
    ],
)
def test_a_slip_in_a_unit_would_be_found(line: str, word: str, tmp_path: Path) -> None:
    unit = installed(tmp_path) / "thumbnailer.service"
    unit.write_text(unit.read_text().replace("[Service]\n", f"[Service]\n{line}\n"))
    assert any(word in complaint for complaint in complaints(tmp_path, unit.name))


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_as_closed_as_it_was(name: str) -> None:
    command = [executable("systemd-analyze"), "security", "--offline=true", "--no-pager"]
    done = subprocess.run(
        [*command, f"--threshold={MOST_EXPOSURE[name] * 10}", str(FOLDER / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_what_chromium_needs_is_not_forbidden() -> None:
    """Tried under systemd with a page photographed in the sandbox, and without each of them."""
    unit = directives("thumbnailer.service")
    assert "MemoryDenyWriteExecute" not in unit
    assert "ProtectProc" not in unit
    assert unit["RestrictNamespaces"] == ["user pid net"]
    assert "chroot" in unit["SystemCallFilter"][0]
    assert unit["OOMPolicy"] == ["continue"]


def test_a_worker_has_the_walls_and_the_settings_of_the_web_service() -> None:
    own = {"Description", "Type", "ExecStart"}
    web, worker = (directives(name) for name in ("thumbnailer.service", "thumbnailer-worker@.service"))
    assert {name for name in web if web[name] != worker.get(name)} == own
    assert set(worker) == set(web)
    assert environment("thumbnailer-beat.service") == environment("thumbnailer.service")


@pytest.mark.parametrize("name", UNITS)
def test_every_variable_of_a_unit_is_a_setting_and_makes_sense_to_it(name: str) -> None:
    said = environment(name) | environment_file()
    assert set(said) <= SETTING_NAMES
    settings = load(said, profile="production")
    assert settings.warnings == ()
    state, cache = directives(name)["StateDirectory"][0], directives(name)["CacheDirectory"][0]
    assert str(settings.cache.folder) == f"/var/cache/{cache}"
    assert str(settings.storage.media_folder).startswith(f"/var/lib/{state}/")
    assert settings.database.url.startswith(f"sqlite:////var/lib/{state}/")


def test_the_service_may_stop_in_its_own_time() -> None:
    graceful_seconds = load(profile="production").providers.timeout_seconds + 15
    for name in ("thumbnailer.service", "thumbnailer-worker@.service"):
        assert int(directives(name)["TimeoutStopSec"][0]) > graceful_seconds


def test_secrets_of_the_drop_in_are_settings_that_are_secret() -> None:
    drop_in = directives("drop-ins/secrets.conf")
    files = {declared.file_name for declared in documented_settings() if declared.secret}
    named = [line.partition("=%d/") for line in drop_in["Environment"]]
    assert {name for name, _, _ in named} <= files
    assert [credential for _, _, credential in named] == [
        line.partition(":")[0] for line in drop_in["LoadCredential"]
    ]


def test_a_command_by_hand_has_the_settings_of_the_units(tmp_path: Path) -> None:
    """With something in place of systemd-run that tells what it was asked for."""
    (tmp_path / "systemd-run").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "systemd-run").chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = [str(FOLDER / "thumbnailer"), "keys", "create", "two words"]
    asked = subprocess.run(
        command, env=environ, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    unit = directives("thumbnailer.service")
    given = [line.removeprefix("--setenv=") for line in asked if line.startswith("--setenv=")]
    assert given == unit["Environment"]
    assert f"--uid={unit['User'][0]}" in asked
    assert f"--working-directory={unit['WorkingDirectory'][0]}" in asked
    for name in ("EnvironmentFile", "UMask"):
        assert f"--property={name}={unit[name][0]}" in asked
    program = str(Path(unit["ExecStart"][0]).with_name("flask"))
    assert asked[asked.index(program) :] == [program, "keys", "create", "two words"]


def test_the_documentation_names_every_file() -> None:
    text = (PROJECT / "docs/deployment.md").read_text(encoding="utf-8")
    for path in FOLDER.rglob("*"):
        assert path.is_dir() or path.name in text, path.name
