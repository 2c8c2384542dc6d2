"""The service under test: in this process with a test client, or under a real gunicorn."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from blueprints.services import EXTENSION
from tests.support.processes import free_port, running

PROJECT = Path(__file__).parent.parent.parent

#: A public address: nobody looks it up, and the providers of most tests never call it.
TARGET = "http://93.184.216.34/page"


#: What is blamed on the page, or on this picture of it, and not tried again for a minute.
REMEMBERED = {"target-unreachable", "upstream-timeout", "not-an-image", "image-too-large"}


def snapapi_environment(upstream_url: str, **more: str) -> dict[str, str]:
    """Settings with SnapAPI as the provider: the vendor that can do most options."""
    return {
        "PROVIDERS": "snapapi",
        "SNAPAPI_KEY": "sk-test-secret",
        "SNAPAPI_BASE": upstream_url,
        "LOG_LEVEL": "warning",
        **more,
    }


@contextlib.contextmanager
def running_app(environ: Mapping[str, str], *, profile: str = "testing") -> Iterator[Flask]:
    """The application, closed at the end."""
    app = create_app(profile, environ)
    try:
        yield app
    finally:
        app.extensions[EXTENSION].close()


@contextlib.contextmanager
def client_of(environ: Mapping[str, str], *, profile: str = "testing") -> Iterator[FlaskClient]:
    """A test client of the application."""
    with running_app(environ, profile=profile) as app, app.test_client() as client:
        yield client


@dataclass(frozen=True, slots=True)
class Service:
    """A real gunicorn: its address, the id of its main process, and its log."""

    url: str
    pid: int
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@contextlib.contextmanager
def running_service(
    folder: Path,
    environ: Mapping[str, str],
    *,
    profile: str = "development",
    python: str = sys.executable,
    config: Path = PROJECT / "gunicorn.conf.py",
) -> Iterator[Service]:
    """The service under gunicorn, with its shipped configuration, on a free port; run by ``python``."""
    port = free_port()
    log = folder / f"service-{port}.log"
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "APP_ENV": profile,
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "CACHE_DIR": str(folder / "cache"),
        "MEDIA_DIR": str(folder / "media"),
        "DATABASE_URL": f"sqlite:///{folder}/thumbnailer.sqlite3",
        "LOG_FORMAT": "json",
        **environ,
    }
    command = [python, "-m", "gunicorn", "--config", str(config)]
    command += ["--chdir", str(PROJECT), "app:create_app()"]
    with running(command, port=port, log=log, env=settings) as process:
        yield Service(f"http://127.0.0.1:{port}", process.pid, log)
