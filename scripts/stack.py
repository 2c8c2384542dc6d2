"""Runs the production shape on this machine: nginx, gunicorn, two Redis stores, a Celery worker and beat.

``make stack`` calls it. nginx listens on ``STACK_PORT`` (8080) of the loopback address, everything else on
ports that are free, or on ``STACK_GUNICORN_PORT``, ``STACK_CACHE_PORT`` and ``STACK_LIMITER_PORT``. Settings
are those of docs/configuration.md, from the environment and ``.env``; what the parts say stands in
``STACK_FOLDER`` (``var/stack``). Ctrl-C, or the end of any part, ends all of them.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from types import FrameType

PROJECT = Path(__file__).parent.parent
FOLDER = Path(os.environ.get("STACK_FOLDER", PROJECT / "var" / "stack")).absolute()
BIN = Path(sys.executable).parent
START_SECONDS = 60
STOP_SECONDS = 60

#: Ctrl-C, a polite end, and the end of the terminal.
END_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: As in docker-compose.yml: pictures may be evicted, counters may not.
STORES = {"cache": ("512mb", "allkeys-lru"), "limiter": ("64mb", "noeviction")}


def usable_port(variable: str, default: int = 0) -> int:
    """The TCP port that a variable names, else the default, else any; raises SystemExit where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are over do not count
        try:
            probe.bind(("127.0.0.1", int(os.environ.get(variable, default))))
        except (OSError, OverflowError, ValueError) as error:
            sys.exit(f"{variable} has to name a free port: {error}")
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """Where a program is; raises SystemExit where it is not."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")
    return found or sys.exit(f"{name} is not installed: run make setup-tests")


def start(name: str, command: Sequence[str], held: ExitStack, **environ: str) -> subprocess.Popen[bytes]:
    """Start one part, in a process group of its own, for as long as ``held`` lasts."""
    with (FOLDER / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=PROJECT,
            env=os.environ | environ,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    held.callback(stop, name, process)
    return process


def stop(name: str, process: subprocess.Popen[bytes]) -> None:
    """Ask a part to end, and end it where it does not."""
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    print(f"{name} has ended", flush=True)


def wait_for(port: int, name: str, process: subprocess.Popen[bytes]) -> None:
    """Wait until somebody listens; raises SystemExit where that does not come."""
    give_up_at = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up_at and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"{name} did not start; {FOLDER / name}.log says why")


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """``text`` with every change made; raises ValueError for one that finds nothing to change."""
    for old, new in changes.items():
        if old not in text:
            raise ValueError(f"the shipped configuration of nginx has no {old!r}")
        text = text.replace(old, new)
    return text


def nginx_configuration(port: int, application_port: int) -> Path:
    """The shipped configuration, for this place."""
    shipped, here = PROJECT / "deploy" / "nginx", FOLDER / "nginx"
    here.mkdir(exist_ok=True)
    user = "user root; " if os.geteuid() == 0 else ""
    main = {
        "worker_processes auto;": f"{user}worker_processes auto; daemon off;",
        "/tmp/": f"{here}/",
        "/etc/nginx/conf.d/*.conf": f"{here}/thumbnailer.conf",
    }
    site = {
        "listen 8080;": f"listen 127.0.0.1:{port};",
        "server app:8000;": f"server 127.0.0.1:{application_port};",
        "/tmp/": f"{here}/",
        "/dev/stdout": f"{here}/access.log",
    }
    for name, changes in (("nginx.conf", main), ("thumbnailer.conf", site)):
        (here / name).write_text(replaced((shipped / name).read_text(encoding="utf-8"), changes), "utf-8")
    return here / "nginx.conf"


def start_store(name: str, held: ExitStack) -> str:
    """Start a Redis; its URL."""
    port, (memory, policy) = usable_port(f"STACK_{name.upper()}_PORT"), STORES[name]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    options += ["--maxmemory", memory, "--maxmemory-policy", policy, "--dir", str(FOLDER)]
    wait_for(port, name, start(name, [program("redis-server"), *options], held))
    print(f"{name}: redis://127.0.0.1:{port}/0", flush=True)
    return f"redis://127.0.0.1:{port}/0"


def start_all(held: ExitStack, port: int) -> dict[str, subprocess.Popen[bytes]]:
    """Start every part, those first that others need; the ones whose end ends the rest."""
    application_port = usable_port("STACK_GUNICORN_PORT")
    urls = {"REDIS_URL": start_store("cache", held), "LIMITER_REDIS_URL": start_store("limiter", held)}
    own = {"APP_ENV": "production", "ALLOW_ANONYMOUS": "true", "TRUSTED_PROXIES": "127.0.0.1"}
    given = {name: value for name, value in own.items() if name not in os.environ}
    settings = urls | given | {"HOST": "127.0.0.1", "PORT": str(application_port)}
    launch: Callable[..., subprocess.Popen[bytes]] = partial(start, held=held, **settings)
    parts = {
        "worker": launch("worker", [str(BIN / "celery"), "--app", "worker", "worker"]),
        "beat": launch("beat", [str(BIN / "celery"), "--app", "worker", "beat"]),
        "gunicorn": launch("gunicorn", [str(BIN / "gunicorn")]),
    }
    wait_for(application_port, "gunicorn", parts["gunicorn"])
    print(f"gunicorn: http://127.0.0.1:{application_port}", flush=True)
    configuration = nginx_configuration(port, application_port)
    command = [program("nginx"), "-c", str(configuration), "-p", str(FOLDER / "nginx"), "-e", "stderr"]
    parts["nginx"] = start("nginx", command, held)
    wait_for(port, "nginx", parts["nginx"])
    return parts


def end(_signal: int, _frame: FrameType | None) -> None:
    """What asks for the end is no error; who asks again waits like all others, so that nothing is left."""
    for each in END_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


def main() -> None:
    """Run until Ctrl-C."""
    port = usable_port("STACK_PORT", 8080)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for each in END_SIGNALS:
        signal.signal(each, end)
    with ExitStack() as held:
        parts = start_all(held, port)
        print(f"http://127.0.0.1:{port} (Ctrl-C ends it; the parts write to {FOLDER})", flush=True)
        while all(process.poll() is None for process in parts.values()):
            time.sleep(0.2)
        ended = [name for name, process in parts.items() if process.poll() is not None]
        sys.exit(f"{', '.join(ended)} ended by itself; {FOLDER} has the logs")


if __name__ == "__main__":
    main()
