"""flask doctor: what is said and how, whatever is wrong with checks, configuration and machine."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import app as application
from config import read_settings
from tests.support import answers
from tests.support.doctor import (
    IN_URL,
    PASSWORD,
    examine,
    fresh_settings,
    run_flask,
    states,
)
from tests.support.markdown import anchors
from tests.support.service import PROJECT
from tests.support.upstream import Upstream
from thumbnailer.diagnosis import PARTS, Check, Examination, State, Verdict, machine, well
from thumbnailer.diagnosis.examining import examine as examine_all
from thumbnailer.diagnosis.secrecy import Veil, passwords_in
from thumbnailer.model import Deadline
from wiring.diagnosis import plan_examination


@pytest.fixture
def fresh(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    return fresh_settings(tmp_path, upstream.url)


# --- What is said, and how --------------------------------------------------------------------


def test_a_fresh_deployment_is_looked_at_whole_and_nothing_is_made(
    fresh: dict[str, str], tmp_path: Path
) -> None:
    report = examine(fresh)
    assert {part for part, _ in report.checks} == set(PARTS)
    assert (report.code, report.status, states(report)) == (0, "warning", {"ok", "warning"})
    assert list(tmp_path.iterdir()) == []
    for one in report.checks.values():
        assert list(one) == ["part", "check", "state", "tried", "found", "advice", "docs", "seconds"]
        assert one["tried"]
        assert one["found"]
        assert one["seconds"] >= 0
        assert (one["advice"] is None) == (one["docs"] is None) == (one["state"] == "ok")


@pytest.mark.skipif((PROJECT / ".env").exists(), reason="it would be looked at")
def test_make_doctor_looks_at_what_make_run_serves() -> None:
    """Commands take the profile ``production`` by default, for which a first ``make run`` is too open."""
    environ = {name: value for name, value in os.environ.items() if name != "APP_ENV"}
    command = ["make", "--silent", "--old-file=setup", "doctor", "ARGS=--only access"]
    done = subprocess.run(
        command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "open to everyone, as this profile is" in done.stdout


def test_people_get_a_line_for_each_check_and_advice_below_it(fresh: dict[str, str]) -> None:
    done = run_flask(
        fresh | {"HERMESFORGE_API_BASE": answers.refusing_url()}, "doctor", "--only", "providers"
    )
    first, second, _, last = done.stdout.splitlines()
    assert re.fullmatch(r"failed    providers +hermesforge +ask for /: .* \(\d+ ms\)", first)
    assert second.startswith(" " * 10 + "See whether HERMESFORGE_API_BASE is right")
    assert second.endswith("See docs/configuration.md#hermesforge_api_key")
    assert last == "1 failed"
    assert done.exit_code == 1


@pytest.mark.parametrize(
    ("is_terminal", "has_colours"), [(True, True), (False, False)], ids=["terminal", "pipe"]
)
def test_colours_are_for_terminals(fresh: dict[str, str], *, is_terminal: bool, has_colours: bool) -> None:
    done = run_flask(fresh, "doctor", "--only", "guard", color=is_terminal)
    assert ("\x1b[32m" in done.stdout) == has_colours


def test_warnings_fail_where_that_is_asked_for(fresh: dict[str, str]) -> None:
    assert examine(fresh, "service").code == 0
    strict = examine(fresh, "service", more=("--strict",))
    assert (strict.code, strict.status) == (1, "warning")
    assert examine(fresh, "guard", more=("--strict",)).code == 0


def test_parts_can_be_chosen(fresh: dict[str, str]) -> None:
    assert {part for part, _ in examine(fresh, "guard", "storage").checks} == {"guard", "storage"}
    assert run_flask(fresh, "doctor", "--only", "moon").exit_code == 2


@pytest.mark.parametrize(
    "source",
    [*PROJECT.glob("thumbnailer/diagnosis/*.py"), *PROJECT.glob("wiring/diagnosis/*.py")],
    ids=lambda path: path.stem,
)
def test_every_page_that_is_named_is_there(source: Path) -> None:
    constants = {"CONFIGURATION": "docs/configuration.md", "DEPLOYMENT": "docs/deployment.md"}
    told = source.read_text(encoding="utf-8")
    for name, page in constants.items():
        told = told.replace(f"{{{name}}}", page)
    for page, _, anchor in re.findall(r"(docs/[a-z-]+\.md)(#([a-z0-9_-]+))?", told):
        assert (PROJECT / page).is_file()
        assert not anchor or anchor in anchors(PROJECT / page), f"{page}#{anchor}"


# --- Checks that misbehave --------------------------------------------------------------------


def look_at(
    *looks: Any, seconds: float = 5, secrets: frozenset[str] = frozenset(), tried: str = "look"
) -> list[Any]:
    checks = [
        Check(part="machine", name=str(number), tried=tried, look=look, page="docs/x.md")
        for number, look in enumerate(looks)
    ]
    return list(examine_all(Examination(checks, secrets), seconds=seconds))


def test_a_check_that_hangs_ends_and_the_others_are_made() -> None:
    released = threading.Event()
    hung, after = look_at(lambda _: released.wait(60) and well("never"), lambda _: well("made"), seconds=0.3)
    released.set()
    assert (hung.state, hung.found) == (State.FAILED, "no end after 0.3 seconds")
    assert (after.state, after.found) == (State.OK, "made")


def test_a_check_that_breaks_fails_and_the_others_are_made() -> None:
    def break_down(_deadline: Deadline) -> Verdict:
        raise KeyError("what nobody thought of")

    broken, after = look_at(break_down, lambda _: well("made"))
    assert (broken.state, broken.docs) == (State.FAILED, "docs/x.md")
    assert broken.found == "KeyError: 'what nobody thought of'"
    assert broken.advice
    assert after.state is State.OK


@pytest.mark.parametrize(
    "told",
    [
        f"cannot log in with {PASSWORD}",
        f"redis://user:{IN_URL}@host:6379/0 is dead",
        f"wrong: {PASSWORD.upper()}",
        f"redis://somebody:unknown-{PASSWORD}@host/0",
    ],
    ids=["as it is", "in a URL", "in capitals", "as part of another"],
)
def test_no_finding_holds_a_secret(told: str) -> None:
    (finding,) = look_at(lambda _: Verdict(State.FAILED, told, told), secrets=frozenset({IN_URL}), tried=told)
    for text_of in (finding.tried, finding.found, finding.advice):
        assert PASSWORD.lower() not in text_of.lower()
        assert IN_URL.lower() not in text_of.lower()


def test_of_a_secret_that_begins_with_another_nothing_is_said() -> None:
    assert Veil(["secret", "secret-of-ours"]).over("it is secret-of-ours") == "it is [secret]"


def test_a_secret_is_known_in_the_spelling_of_urls_and_none_is_made_of_single_letters() -> None:
    veil = Veil(["p@ss/word", "a", ""])
    assert veil.over("a key of p%40ss%2Fword and p@ss/word") == "a key of [secret] and [secret]"


def test_a_password_is_known_wherever_it_stands_in_a_url() -> None:
    url = "postgresql://u:p4ss@db/x?sslmode=require&sslpassword=w0rd"
    assert passwords_in(url) == {"p4ss", "w0rd"}


def test_credentials_in_urls_are_never_said_even_if_nobody_knows_them() -> None:
    veiled = Veil(()).over("see postgresql://me:mine@db/x\nand https://you@there/?a=b\x1b[31m")
    assert veiled == "see postgresql://db/x and https://there/?a=b [31m"


# --- Configuration ----------------------------------------------------------------------------


def test_all_faults_are_told_and_what_has_none_is_looked_at(fresh: dict[str, str]) -> None:
    report = examine(fresh | {"PORT": "http", "S3_BUCKET": "x", "TTL_MIN": "100", "TTL_MAX": "70"})
    assert (report.code, report.status) == (1, "failed")
    for name in ("PORT", "S3_BUCKET", "TTL_MIN"):
        told = report.checks["configuration", name]
        assert (told["state"], told["docs"]) == ("failed", f"docs/configuration.md#{name.lower()}")
        assert told["found"].startswith(f"{name} must")
    assert (
        report.of("storage", "-")[0]
        == report.of("cache", "-")[0]
        == report.of("service", "-")[0]
        == "skipped"
    )
    assert report.of("guard", "targets")[0] == report.of("providers", "hermesforge")[0] == "ok"


def test_faults_that_only_the_parts_see_are_told_too(fresh: dict[str, str]) -> None:
    report = examine(fresh | {"PRESETS": "card:thumb_width=1", "THUMB_DEFAULTS": "url=x"}, "configuration")
    assert {name for _, name in report.checks} == {"PRESETS", "THUMB_DEFAULTS"}


def test_doubts_are_warnings(fresh: dict[str, str]) -> None:
    report = examine(fresh | {"S3_BUKET": "pictures"}, "configuration")
    state, told = report.of("configuration", "doubt")
    assert (report.code, state) == (0, "warning")
    assert "Did you mean S3_BUCKET?" in told


def test_a_file_of_settings_that_cannot_be_read_leaves_the_machine_to_look_at(tmp_path: Path) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_bytes(b"PORT=\xff\n")
    examination = plan_examination(read_settings("testing", {}, dotenv=dotenv), None)
    found = {(one.part, one.state) for one in examine_all(examination, seconds=10)}
    assert ("configuration", State.FAILED) in found
    assert ("machine", State.OK) in found
    assert {(part, State.SKIPPED) for part in PARTS if part != "configuration"} <= found


def test_a_start_that_fails_otherwise_is_told(fresh: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_parts: object) -> None:
        raise PermissionError(13, "Permission denied", "/nowhere")

    monkeypatch.setattr(application, "build_services", fail)
    report = examine(fresh, "configuration", "guard")
    assert report.code == 1
    assert report.of("configuration", "start")[1].startswith("permission denied")
    assert report.of("guard", "targets")[0] == "ok"


def test_parts_that_cannot_even_be_made_are_told(fresh: dict[str, str]) -> None:
    report = examine(fresh | {"REDIS_URL": f"redis://:{IN_URL}@127.0.0.1/0?health_check_interval=often"})
    assert report.code == 1
    assert "health_check_interval" in report.of("configuration", "start")[1]
    assert "health_check_interval" in report.of("providers", "-")[1]
    assert report.of("cache", "Redis")[0] == report.of("jobs", "queue")[0] == "failed"
    assert report.of("providers", "hermesforge")[0] == "ok"
    assert IN_URL not in report.text


@pytest.mark.parametrize(
    "arguments", [["keys", "create", "a", "--scope", "render"], ["purge", "--everything"]], ids=" ".join
)
def test_other_commands_say_the_faults_without_a_trace(fresh: dict[str, str], arguments: list[str]) -> None:
    done = run_flask(fresh | {"WEB_THREADS": "1"}, *arguments)
    assert done.exit_code == 1
    assert "WEB_THREADS: must be a whole number" in done.stderr
    assert "Traceback" not in done.output


def test_the_real_command_runs_where_nothing_else_would(tmp_path: Path) -> None:
    environ = {"PATH": os.environ["PATH"], "APP_ENV": "testing", "PORT": "http", "MEDIA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "flask", "doctor", "--json", "--only", "configuration"]
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [one["check"] for one in json.loads(done.stdout)["checks"]] == ["PORT"]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        pytest.param(("flask", "doctor", "--only", "configuration"), 1, id="doctor"),
        pytest.param(("flask", "keys", "list"), 1, id="another command"),
        pytest.param(("gunicorn",), 1, id="the service"),
    ],
)
def test_a_file_of_settings_that_is_no_utf_8_is_told_without_a_trace(
    installed: Path, arguments: tuple[str, ...], code: int
) -> None:
    (installed / ".env").write_bytes(b"APP_ENV=development\nS3_BUCKET=caf\xe9\n")
    # As scripts/setup.sh leaves it: Python reads such files of a virtual environment at its start.
    program = f"import runpy, site; site.addsitedir('{installed}/site'); runpy.run_module('{arguments[0]}', "
    command = [sys.executable, "-c", f"{program}run_name='__main__', alter_sys=True)", *arguments[1:]]
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(installed)}
    done = subprocess.run(
        command, cwd=installed, env=environ, capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert ".env" in done.stdout + done.stderr
    assert "cannot be read as UTF-8 text: see line 2" in done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the service's own, and beside it what ``make setup`` puts into a virtual environment."""
    folder = tmp_path_factory.mktemp("installed")
    for name in ("app.py", "config.py", "gunicorn.conf.py"):
        shutil.copy(PROJECT / name, folder)
    for name in ("blueprints", "settings", "thumbnailer", "wiring"):
        shutil.copytree(PROJECT / name, folder / name)
    (folder / "site").mkdir()
    shutil.copy(PROJECT / "scripts" / "skip_dotenv.pth", folder / "site")
    assert "cp scripts/skip_dotenv.pth" in (PROJECT / "scripts" / "setup.sh").read_text(encoding="utf-8")
    return folder


# --- The machine ------------------------------------------------------------------------------


def test_the_machine_of_the_tests_can_write_every_format(fresh: dict[str, str]) -> None:
    report = examine(fresh, "machine")
    state, told = report.of("machine", "libvips")
    assert state == "ok"
    assert told.startswith("libvips 8.")
    assert "png, jpeg, webp, avif" in told
    assert report.of("machine", "Python")[1].startswith(f"Python {sys.version_info[0]}.")


@pytest.mark.parametrize(
    ("megabytes", "workers", "has_browser", "state", "advice"),
    [
        pytest.param(2048, 2, True, State.OK, "", id="as in docker-compose.yml"),
        pytest.param(
            800, 2, True, State.WARNING, "Give it 1000 MiB, or set WEB_CONCURRENCY to 1.", id="tight"
        ),
        pytest.param(
            512, 2, True, State.FAILED, "Give it 1000 MiB, or set WEB_CONCURRENCY to 1.", id="too little"
        ),
        pytest.param(512, 2, False, State.OK, "", id="without a browser"),
    ],
)
def test_the_limit_of_memory_is_held_against_the_workers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    megabytes: int,
    workers: int,
    *,
    has_browser: bool,
    state: State,
    advice: str,
) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text(f"{megabytes * 1024 * 1024}\n")
    monkeypatch.setattr(machine, "MEMORY_LIMIT_FILES", (tmp_path / "none", limit))
    verdict = machine.has_memory(Deadline.after(1), workers=workers, has_browser=has_browser)
    assert (verdict.state, verdict.advice) == (state, advice)
    assert "the limit of this container" in verdict.found


@pytest.mark.parametrize("limit", ["max", "9223372036854771712"], ids=["version 2", "version 1"])
def test_without_a_limit_the_memory_is_the_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(machine, "MEMORY_LIMIT_FILES", (tmp_path / "memory.max",))
    found = machine.has_memory(Deadline.after(1), workers=1, has_browser=False).found
    assert "the memory of this machine" in found


def test_few_open_files_and_many_workers_are_doubtful() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        verdict = machine.may_open_files(Deadline.after(1), threads=256, has_browser=True)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (verdict.state, verdict.found) == (
        State.WARNING,
        "ulimit -n is 1024; a busy web worker may need 2380",
    )
    for workers, state in ((2, State.OK), (3, State.WARNING)):
        assert machine.has_processors(Deadline.after(1), workers=workers, cores=2).state is state


@pytest.mark.parametrize(
    ("megabytes", "state"), [(31, State.FAILED), (32, State.WARNING), (255, State.WARNING), (256, State.OK)]
)
def test_little_room_for_drafts_is_told(
    monkeypatch: pytest.MonkeyPatch, megabytes: int, state: State
) -> None:
    usage = shutil.disk_usage("/")._replace(free=megabytes << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _folder: usage)
    verdict = machine.has_room_for_drafts(Deadline.after(1))
    assert verdict.state is state
    assert verdict.found.startswith(f"{megabytes} MiB are free")
