"""A real PostgreSQL for tests: on a socket in its own folder, run by an ordinary user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.processes import free_port, wait_until

#: Debian keeps the server's programs out of the path, one folder for each version.
FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """``url`` names the database; ``pid`` is that of the main process."""

    url: str
    pid: int

    def send_signal(self, number: int) -> None:
        """To the main process and to those that serve a connection each, in groups of their own."""
        main = psutil.Process(self.pid)
        for process in [main, *main.children(recursive=True)]:
            process.send_signal(number)


def _program(name: str) -> str:
    search = os.pathsep.join([*map(str, FOLDERS), os.environ.get("PATH", "")])
    found = shutil.which(name, path=search)
    assert found is not None, f"{name} is not installed: run make setup-tests"
    return found


def _ordinary_user() -> str | None:
    """Whom to be: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {user.pw_name for user in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextlib.contextmanager
def postgres_folder() -> Iterator[Path]:
    """Where a server keeps an empty database while it is not running, too."""
    user = _ordinary_user()
    with tempfile.TemporaryDirectory(prefix="pg") as name:  # a socket's path may have 107 characters
        if user:
            shutil.chown(name, user)
        made = [_program("initdb"), "-D", f"{name}/data", "-U", "thumbnailer", "--auth=trust", "--no-sync"]
        subprocess.run([*made, "--encoding=UTF8"], check=True, capture_output=True, user=user, cwd=name)
        yield Path(name)


@contextlib.contextmanager
def running_postgres(
    *, port: int | None = None, folder: Path | None = None, stop: signal.Signals = signal.SIGQUIT
) -> Iterator[PostgresServer]:
    """A server without durability, over an empty database or that of a ``folder``; it ends with the block.

    It is told so by ``stop``: SIGQUIT is an end without farewell, SIGINT tells whoever is connected.
    """
    port, user = port or free_port(), _ordinary_user()
    with contextlib.ExitStack() as stack:
        folder = folder or stack.enter_context(postgres_folder())
        name = str(folder)
        command = [_program("postgres"), "-D", f"{name}/data", "-p", str(port), "-k", name]
        command += ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "max_connections=30"]
        # Who connects while it stops, and says no word, is waited for so long.
        command += ["-c", "authentication_timeout=5s"]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, user=user, cwd=name, start_new_session=True
            )
        try:
            wait_until(lambda: _accepts(port, name) or process.poll() is not None, what="PostgreSQL")
            assert process.poll() is None, (folder / "log").read_text()
            yield PostgresServer(f"postgresql://thumbnailer@127.0.0.1:{port}/postgres", process.pid)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
            process.send_signal(stop)
            try:
                process.wait(20)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait(5)


def _accepts(port: int, socket_folder: str) -> bool:
    checked = [_program("pg_isready"), "-q", "-h", socket_folder, "-p", str(port)]
    return subprocess.run(checked, check=False).returncode == 0
