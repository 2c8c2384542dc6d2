"""Starts the peers: those of ``benchmarks/peers``, and servers as they are packaged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.clients import crowd, picture_path
from benchmarks.samples import SIZES, file_paths, noise, target
from tests.support.nginx import replaced
from tests.support.processes import executable, free_port, running
from tests.support.service import PROJECT

PEERS = PROJECT / "benchmarks" / "peers"
BIN = PROJECT / ".venv-bench" / "bin"
WORKERS = 4

#: How each of our own is started; all of them look for their program in ``PEERS``.
GUNICORN = ("gunicorn", "--no-control-socket", "--workers", str(WORKERS), "--bind", "127.0.0.1:{port}")
COMMANDS = {
    "flask-plain": (*GUNICORN, "flask_plain:app"),
    "flask-cached": (*GUNICORN, "flask_cached:app"),
    "fastapi-gunicorn": (*GUNICORN, "--worker-class", "uvicorn_worker.UvicornWorker", "fastapi_async:app"),
    "fastapi-uvicorn": (
        *("uvicorn", "--workers", str(WORKERS), "--host", "127.0.0.1", "--port", "{port}"),
        *("--no-access-log", "fastapi_async:app"),
    ),
}


@dataclass(frozen=True, slots=True)
class Peer:
    """One that runs: its URL, its port, and the process at its head."""

    name: str
    url: str
    port: int
    pid: int


@contextlib.contextmanager
def _started(
    name: str, command: list[str], port: int, folder: Path, env: Mapping[str, str] | None = None
) -> Iterator[Peer]:
    with running(command, port=port, log=folder / f"{name}.log", env=env) as process:
        yield Peer(name, f"http://127.0.0.1:{port}", port, process.pid)


@contextlib.contextmanager
def own_peer(name: str, folder: Path, *, redis_url: str, upstream_url: str) -> Iterator[Peer]:
    """One of ``COMMANDS``; raises FileNotFoundError where ``.venv-bench`` is not there."""
    port = free_port()
    program, *arguments = (part.replace("{port}", str(port)) for part in COMMANDS[name])
    if not (BIN / program).exists():
        raise FileNotFoundError(f"{BIN / program} is not installed: run make setup-bench")
    # In a folder of its own, for gunicorn reads whatever gunicorn.conf.py it finds where it is started.
    env = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(PEERS),
        "REDIS_URL": redis_url,
        "UPSTREAM_URL": upstream_url,
    }
    inside = ["env", "--chdir", str(folder), str(BIN / program), *arguments]
    with _started(name, inside, port, folder, env) as peer:
        yield peer


def awake_peers(
    held: contextlib.ExitStack, names: Iterable[str], folder: Path, *, redis_url: str, upstream_url: str
) -> Iterator[Peer]:
    """Several of them, for as long as ``held`` lasts, each with a database of Redis of its own.

    All their workers are there: gunicorn listens before they are.
    """
    for number, name in enumerate(names, start=1):
        database = redis_url.removesuffix("/0") + f"/{number}"
        peer = held.enter_context(own_peer(name, folder, redis_url=database, upstream_url=upstream_url))
        crowd([peer.url], [picture_path("/thumb", target(60, "awake"))] * 4 * WORKERS)
        yield peer


def _filled(template: str, folder: Path, port: int) -> Path:
    """A configuration of ``PEERS`` for this place, in ``folder``."""
    known = {
        "@FOLDER@": str(folder),
        "@PORT@": str(port),
        "@USER@": "user root;\n" if os.geteuid() == 0 else "",
    }
    text = (PEERS / template).read_text(encoding="utf-8")
    here = folder / template
    here.write_text(replaced(text, {mark: value for mark, value in known.items() if mark in text}))
    return here


@contextlib.contextmanager
def nginx_static(folder: Path) -> Iterator[Peer]:
    """The pictures as files."""
    for kilobytes in SIZES:
        for path in file_paths(kilobytes):
            file = folder / "pictures" / path.removeprefix("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(noise(kilobytes))
    port = free_port()
    config = _filled("nginx-static.conf", folder, port)
    command = [executable("nginx"), "-c", str(config), "-p", str(folder)]
    with _started("nginx-static", command, port, folder) as peer:
        yield peer


@contextlib.contextmanager
def varnish(folder: Path, origin: Peer) -> Iterator[Peer]:
    """Varnish before the files of ``origin``."""
    port = free_port()
    vcl = _filled("varnish.vcl", folder, origin.port)
    command = [executable("varnishd"), "-F", "-a", f"127.0.0.1:{port}", "-f", str(vcl)]
    command += ["-s", "malloc,128m", "-n", str(folder / "varnish"), "-j", "none"]
    with _started("varnish", command, port, folder) as peer:
        yield peer


@contextlib.contextmanager
def thumbor(folder: Path) -> Iterator[Peer]:
    """thumbor with as many processes as the others have workers."""
    port = free_port()
    config = _filled("thumbor.conf", folder, port)
    command = [str(BIN / "thumbor"), "--ip", "127.0.0.1", "--port", str(port), "--conf", str(config)]
    command += ["--processes", str(WORKERS), "--log-level", "error"]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    with _started("thumbor", command, port, folder, env) as peer:
        crowd([peer.url], ["/healthcheck"] * 4 * WORKERS)
        yield peer
