"""Celery workers as operators start them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.support.service import PROJECT


class Worker:
    """A worker process from construction until ``close``; it leads a process group of its own."""

    def __init__(self, folder: Path, environ: Mapping[str, str]) -> None:
        self.log = folder / "worker.log"
        settings = {"PATH": os.environ["PATH"], "HOME": str(folder), "APP_ENV": "development", **environ}
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "worker", "worker"],
                cwd=PROJECT,
                env=settings,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def kill(self) -> None:
        """End it as a crash or the kernel would, with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(10)

    def stop(self, seconds: float = 30) -> int:
        """Ask it to end what it does, and to end; its exit code."""
        self.process.terminate()
        return self.process.wait(seconds)

    def close(self) -> None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process.poll() is None:
                self.stop()
        self.kill()
