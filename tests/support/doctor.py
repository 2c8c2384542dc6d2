"""``flask doctor`` as an operator runs it, in this process."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup

from app import create_app
from blueprints.services import EXTENSION
from tests.support.processes import free_port
from thumbnailer.database import Database
from thumbnailer.schema import upgrade

#: A password that URLs have to spell in another way, and that way.
PASSWORD = "pa:ss/w@rd-17"
IN_URL = "pa%3Ass%2Fw%40rd-17"

#: An ordinary user of every Linux, who owns nothing.
NOBODY = 65534


def run_flask(
    environ: Mapping[str, str], *arguments: str, profile: str = "testing", **options: Any
) -> Result:
    """What ``flask`` with these arguments says."""
    made: list[Flask] = []

    def make() -> Flask:
        made.append(create_app(profile, environ))
        return made[0]

    group = FlaskGroup(create_app=make, load_dotenv=False)
    try:
        return CliRunner().invoke(group, arguments, **options)
    finally:
        for app in made:
            if EXTENSION in app.extensions:
                app.extensions[EXTENSION].close()


@dataclass(frozen=True, slots=True)
class Report:
    """What was found, by part and check; ``text`` is all of it as it was printed."""

    code: int
    status: str
    checks: Mapping[tuple[str, str], Mapping[str, Any]]
    text: str

    def of(self, part: str, check: str) -> tuple[str, str]:
        """State and words of one check."""
        found = self.checks[part, check]
        return found["state"], f"{found['found']} {found['advice'] or ''}"


def examine(
    environ: Mapping[str, str],
    *parts: str,
    profile: str = "testing",
    timeout: float = 20,
    more: tuple[str, ...] = (),
) -> Report:
    """The report on ``parts``, or on all."""
    only = [argument for part in parts for argument in ("--only", part)]
    done = run_flask(environ, "doctor", "--json", "--timeout", str(timeout), *only, *more, profile=profile)
    assert done.stderr == "", done.stderr
    assert done.stdout, repr(done.exception)
    told = json.loads(done.stdout)
    checks = {(one["part"], one["check"]): one for one in told["checks"]}
    return Report(done.exit_code, told["status"], checks, done.stdout)


def fresh_settings(folder: Path, upstream_url: str) -> dict[str, str]:
    """A deployment that was never started, with an HTTP provider and all that it keeps below ``folder``."""
    return {
        "PROVIDERS": "hermesforge",
        "HERMESFORGE_API_BASE": upstream_url,
        "CACHE_DIR": str(folder / "var" / "cache"),
        "MEDIA_DIR": str(folder / "var" / "media"),
        "DATABASE_URL": f"sqlite:///{folder}/var/thumbnailer.sqlite3",
        "PORT": str(free_port()),
    }


def states(report: Report) -> set[str]:
    """The states of all checks that were made."""
    return {one["state"] for one in report.checks.values()}


@contextlib.contextmanager
def made_database(url: str) -> Iterator[Database]:
    """A database with the newest tables."""
    with contextlib.closing(
        Database(url.replace("postgresql:", "postgresql+psycopg:"), upgrade=upgrade)
    ) as made:
        made.open()
        yield made


@contextlib.contextmanager
def as_an_ordinary_user() -> Iterator[Path]:
    """Be one for the length of the block, where this process is root's; yields a folder that others own.

    The folder can be entered and read, and not written to.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o555)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(NOBODY)
        try:
            yield folder
        finally:
            if is_root:
                os.seteuid(0)
            folder.chmod(0o755)
