"""Real servers for tests: started on free ports, awaited by their port, stopped by process id."""

from __future__ import annotations

import atexit
import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

#: Below those that the kernel gives to whoever asks for any port, and free of those that browsers refuse.
PORTS = range(20_000, 32_000)
#: Who has bound a socket to this name has the port; the name goes with the process, however that ends.
RESERVATION = "\0thumbnailer-tests-port-{}"
#: As many ports of one process are kept for it, the latest.
RESERVED = 200
_reserved: deque[socket.socket] = deque()


@atexit.register
def _give_back() -> None:
    for reservation in _reserved:
        reservation.close()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, and that no test of this machine is given meanwhile.

    Asking the kernel for one and letting go of it would not do: of the thousands of sockets that tests
    running beside each other open, one gets the same port before the server does that it was meant for,
    or after a server whose end somebody looks at.
    """
    while True:
        port = secrets.choice(PORTS)  # Hypothesis seeds the random module
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(RESERVATION.format(port))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reserved.append(reservation)
        if len(_reserved) > RESERVED:
            _reserved.popleft().close()
        return port


def wait_until(condition: Callable[[], bool], *, seconds: float = 20, what: str = "the condition") -> None:
    """Poll ``condition`` until it holds; raise TimeoutError after ``seconds``."""
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what} did not come about within {seconds} s")
        time.sleep(0.02)


def accepts_connections(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def executable(name: str) -> str:
    """The path of an installed program; ``make setup-tests`` installs all that the tests start."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert path is not None, f"{name} is not installed: run make setup-tests"
    return path


@contextlib.contextmanager
def running(
    command: Sequence[str],
    *,
    port: int,
    log: Path,
    env: Mapping[str, str] | None = None,
    stop_seconds: float = 20,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until the block ends; its output goes to ``log``.

    The server leads a process group of its own; whatever of that group outlives a polite stop is
    killed. The block is entered once ``port`` accepts connections.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            list(command), stdout=output, stderr=output, env=env, start_new_session=True
        )
    try:
        wait_until(
            lambda: accepts_connections(port) or process.poll() is not None, what=f"{command[0]} on {port}"
        )
        assert process.poll() is None, f"{command[0]} ended at once:\n{log.read_text()[-4000:]}"
        yield process
    finally:
        process.terminate()
        try:
            process.wait(stop_seconds)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


@contextlib.contextmanager
def running_redis(folder: Path, *, port: int | None = None) -> Iterator[str]:
    """A private Redis without persistence; yields its URL."""
    port = port or free_port()
    command = [executable("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--save", "", "--appendonly", "no", "--dir", str(folder)]
    with running(command, port=port, log=folder / f"redis-{port}.log"):
        yield f"redis://127.0.0.1:{port}/0"


def opened_in(folder: Path) -> list[str]:
    """That folder and what lies in it, as often as this process has it open, be it removed meanwhile."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(str(descriptor.readlink()))
    return [link for link in links if link.startswith(str(folder))]
