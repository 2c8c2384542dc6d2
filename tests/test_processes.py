"""The tests' own servers: each has its port to itself, whatever else runs on the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.processes import free_port
from tests.support.service import PROJECT

ASK = """
from tests.support.processes import free_port
print(*(free_port() for _ in range(150)), flush=True)
input()
"""


def test_no_two_processes_are_given_the_same_port() -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASK], cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    given = [
        port for process in asking for port in (process.stdout.readline() if process.stdout else "").split()
    ]
    for process in asking:
        process.communicate("\n")
    assert len(set(given)) == len(given) == 600


def test_a_free_port_is_none_that_the_kernel_gives_to_others() -> None:
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="utf-8").split()[0])
    assert all(free_port() < least for _ in range(100))
