"""Looking up host names."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from typing import Protocol


class Resolver(Protocol):
    """Finds the addresses of a name."""

    def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of ``host``, an ASCII name; raises OSError where it has none."""


def resolve_with_system(host: str, port: int) -> tuple[str, ...]:
    """Ask the operating system once; returns the addresses in its order of preference.

    Raises:
        OSError: the name has no address, or no name server answered.
    """
    # As bytes, or the codec of IDNA 2003 would look at the name again.
    answers = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))
