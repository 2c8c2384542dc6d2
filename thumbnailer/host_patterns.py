"""Hosts as settings and keys name them: ``example.com``, or ``*.example.com`` for those below it."""

from __future__ import annotations

from dataclasses import dataclass

from thumbnailer.hostnames import normalise_host


@dataclass(frozen=True, slots=True)
class HostPattern:
    """One host, or with ``is_wildcard`` all below it but not itself; an empty ``host`` is every one."""

    host: str
    is_wildcard: bool = False

    def matches(self, host: str) -> bool:
        """Whether ``host``, normalised, is meant. Whole labels count: ``badexample.com`` is not below."""
        return host.endswith(f".{self.host}") if self.is_wildcard else self.host in ("", host)

    def __str__(self) -> str:
        return ("*." if self.is_wildcard else "") + (self.host or "*")


def parse_host_pattern(text: str) -> HostPattern:
    """Read ``example.com``, ``*.example.com`` or ``*``; an internationalised name in any spelling.

    Raises ValueError.
    """
    name = text.strip()
    if name == "*":
        return HostPattern("")
    is_wildcard = name.startswith("*.")
    try:
        host = normalise_host(name.removeprefix("*."))
    except ValueError:
        raise ValueError(f"{text[:60]!r} is no host such as example.com or *.example.com") from None
    return HostPattern(host, is_wildcard)
