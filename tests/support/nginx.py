"""The shipped nginx on this machine: another address, other folders, and what a test says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import executable, free_port, running

SHIPPED = Path(__file__).parent.parent.parent / "deploy" / "nginx"


def replaced(text: str, changes: Mapping[str, str]) -> str:
    """``text`` with all of these put in place of others; each has to be there."""
    for shipped, here in changes.items():
        assert shipped in text, shipped
        text = text.replace(shipped, here)
    return text


def nginx_configuration(
    folder: Path,
    *,
    listen: int,
    upstreams: Sequence[int],
    changes: Mapping[str, str] | None = None,
    workers: str = "1",
) -> Path:
    """The shipped configuration in ``folder``; ``changes`` are made in ``thumbnailer.conf``."""
    # For root, nginx works as another user, whom pytest's folders do not let in.
    user = "user root; " if os.geteuid() == 0 else ""
    main = {
        "/tmp/": f"{folder}/",
        "worker_processes auto;": f"{user}worker_processes {workers}; daemon off;",
        "/etc/nginx/conf.d/*.conf": f"{folder}/thumbnailer.conf",
    }
    servers = " ".join(f"server 127.0.0.1:{port};" for port in upstreams)
    service = {
        "server app:8000;": servers,
        "listen 8080;": f"listen 127.0.0.1:{listen};",
        "/tmp/": f"{folder}/",
        "access_log /dev/stdout": f"access_log {folder}/access.log",
        **(changes or {}),
    }
    for name, made in (("nginx.conf", main), ("thumbnailer.conf", service)):
        (folder / name).write_text(replaced((SHIPPED / name).read_text(encoding="utf-8"), made))
    return folder / "nginx.conf"


@dataclass(frozen=True, slots=True)
class Nginx:
    """A running nginx; its cache, access log and errors are in ``folder``."""

    url: str
    port: int
    folder: Path
    pid: int

    @property
    def kept(self) -> int:
        """How many answers lie in the cache."""
        return sum(path.is_file() for path in (self.folder / "edge").rglob("*"))


@contextlib.contextmanager
def running_nginx(
    folder: Path, *upstreams: int, changes: Mapping[str, str] | None = None, workers: str = "1"
) -> Iterator[Nginx]:
    """The shipped nginx before services on these ports."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    config = nginx_configuration(folder, listen=port, upstreams=upstreams, changes=changes, workers=workers)
    command = [executable("nginx"), "-c", str(config), "-p", str(folder)]
    with running(command, port=port, log=folder / "nginx.log") as process:
        yield Nginx(f"http://127.0.0.1:{port}", port, folder, process.pid)
