"""flask keys: made, shown once, listed, rotated and revoked."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner

from blueprints import key_commands
from tests.support.access import sqlite_url
from tests.support.service import PROJECT, running_app, snapapi_environment
from thumbnailer.key_file import read_key_file
from thumbnailer.keys import Scope, digest_of, id_of


@pytest.fixture
def app(tmp_path: Path) -> Iterator[Flask]:
    environ = snapapi_environment("http://127.0.0.1:9", DATABASE_URL=sqlite_url(tmp_path), PLANS="pro:")
    with running_app(environ) as app:
        yield app


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    return app.test_cli_runner()


def run(runner: FlaskCliRunner, *arguments: str, code: int = 0) -> Any:
    result = runner.invoke(args=["keys", *arguments])
    assert result.exit_code == code, result.output
    return result


CREATE = ("--scope", "render", "--scope", "script", "--expires", "2099-01-31", "--limit", "thumb=9 per day")
BOUNDS = (
    "--daily-captures",
    "50",
    "--plan",
    "pro",
    "--targets",
    "example.com, *.example.org",
    "--referrers",
    "shop.test",
)


def test_create_shows_the_key_once_and_list_never(
    runner: FlaskCliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = run(runner, "create", "shop", *CREATE, *BOUNDS)
    token = made.stdout.strip()
    assert id_of(token)
    listed = run(runner, "list").stdout
    (row,) = [line for line in listed.splitlines() if "shop" in line]
    for fact in (str(id_of(token)), "live", "render,script", "2099-01-31", "thumb=9 per day"):
        assert fact in row
    for fact in (
        "plan=pro",
        "daily_captures=50",
        "target=example.com",
        "target=*.example.org",
        "referrer=shop.test",
    ):
        assert fact in row
    assert token not in listed
    assert digest_of(token) not in listed
    monkeypatch.setattr(key_commands, "time", SimpleNamespace(time=lambda: 4_102_444_800.0))  # in 2100
    assert "expired" in run(runner, "list").stdout


def test_rotate_and_revoke_tell_what_they_did(runner: FlaskCliRunner) -> None:
    first = run(runner, "create", "shop").stdout.strip()
    second = run(runner, "rotate", "shop", "--overlap", "90m").stdout.strip()
    assert id_of(first) == id_of(second)
    assert first != second
    assert "Revoked" in run(runner, "revoke", str(id_of(first))).stdout
    assert "revoked" in run(runner, "list").stdout


def test_hash_writes_what_the_file_reads(runner: FlaskCliRunner, tmp_path: Path) -> None:
    made = run(runner, "hash", "shop", *CREATE, *BOUNDS)
    token = made.stderr.strip()
    (tmp_path / "keys.toml").write_text(made.stdout)
    assert tomllib.loads(made.stdout)["keys"]
    (key,) = read_key_file(tmp_path / "keys.toml")
    assert key.fits(token, time.time())
    assert (key.terms.plan, key.terms.daily_captures) == ("pro", 50)
    assert key.terms.limits == {"thumb": "9 per day"}
    assert [str(pattern) for pattern in key.terms.targets] == ["example.com", "*.example.org"]
    assert key.terms.scopes == {Scope.RENDER, Scope.SCRIPT}
    assert time.gmtime(key.terms.expires_at or 0)[:3] == (2099, 1, 31)
    made = run(runner, "hash", "idle", "--daily-captures", "0", "--referrers", "shop.example.com")
    (tmp_path / "keys.toml").write_text(made.stdout)
    (key,) = read_key_file(tmp_path / "keys.toml")
    assert (key.terms.daily_captures, key.terms.expires_at) == (0, None)
    assert [str(pattern) for pattern in key.terms.referrers] == ["shop.example.com"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "a", "--scope", "everything"), "everything"),
        (("create", "a", "--expires", "2001-01-01"), "is past"),
        (("create", "a", "--expires", "soon"), "must be such as 30d"),
        (("create", "a", "--expires", "999999w"), "longer than a hundred years"),
        (("rotate", "a", "--overlap", "999999w"), "longer than a hundred years"),
        (("create", "a", "--plan", "gold"), "there is no plan gold: PLANS has pro"),
        (("plan", "nobody"), "no live key nobody"),
        (("create", "a", "--limit", "thumb"), "the limit of thumb"),
        (("create", "a", "--limit", "tea=1 per day"), "has no limit"),
        (("create", "a", "--limit", "thumb=1 per day", "--limit", "thumb=2 per day"), "must not be repeated"),
        (("create", "a", "--expires", "9999-12-31T23:59:59-12:00"), "a hundred years away"),
        (("create", "a", "--targets", "a b"), "is no host"),
        (("create", "a", "--targets", ""), "--targets: names no host"),
        (("create", "a", "--referrers", " , "), "--referrers: names no host"),
        (("create", "a\nb"), "must be 1 to 100"),
        (("revoke", "nobody"), "no live key nobody"),
        (("rotate", "nobody"), "no live key nobody"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_told_in_one_line(
    runner: FlaskCliRunner, arguments: tuple[str, ...], message: str
) -> None:
    result = runner.invoke(args=["keys", *arguments])
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_first_key_of_a_production_is_made_before_its_first_start(tmp_path: Path) -> None:
    environ = {
        "PATH": os.environ["PATH"],
        "APP_ENV": "production",
        "PROVIDERS": "hermesforge",
        "DATABASE_URL": sqlite_url(tmp_path),
        "CACHE_DIR": str(tmp_path / "cache"),
        "MEDIA_DIR": str(tmp_path / "media"),
    }
    create = [sys.executable, "-m", "flask", "keys", "create", "first"]
    done = subprocess.run(create, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    assert id_of(done.stdout.strip()), done.stderr
    mode = stat.S_IMODE((tmp_path / "keys.sqlite3").stat().st_mode)
    assert mode == 0o600
