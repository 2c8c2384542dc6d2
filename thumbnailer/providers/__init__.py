"""Providers take captures: local Chromium, or an HTTP screenshot service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from thumbnailer.model import CaptureRequest, Deadline


class UpstreamBody(Protocol):
    """The bytes of a capture as they arrive.

    Iterating yields non-empty chunks of at most 64 KiB; it raises an ``UpstreamError`` when the
    upstream fails or the deadline passes before the end. ``close`` gives the connection back,
    may be called at any time and more than once. ``length`` is the number of bytes that the
    upstream announced, None where it announced none. ``extend`` lets the rest come until a later
    deadline than the capture was asked for with.
    """

    @property
    def length(self) -> int | None: ...

    def __iter__(self) -> Iterator[bytes]: ...

    def extend(self, deadline: Deadline) -> None: ...

    def close(self) -> None: ...


class Provider(Protocol):
    """Takes captures; safe to call from many threads at once."""

    @property
    def name(self) -> str: ...

    def unsupported_option(self, request: CaptureRequest) -> str | None:
        """The first option that the caller asked for and this provider cannot honour."""

    def capture(self, request: CaptureRequest, deadline: Deadline) -> UpstreamBody:
        """Photograph ``request.url``; one attempt, no retry.

        Options that are wanted but not asked for (``request.asked``) and that the provider lacks
        are left out. Returns as soon as the upstream has begun a successful answer; what the
        bytes are is not checked here.

        Raises:
            CaptureRefused: the upstream refuses the target or an option.
            TargetForbidden, TargetUnreachable, TargetStatus: the page is at fault.
            UpstreamAuth, UpstreamQuota, UpstreamBusy, UpstreamFailed, UpstreamTimeout:
                the upstream is at fault.
            Overloaded: there is no room for it here.
        """

    def is_ready(self) -> bool:
        """Whether a capture has a chance now; cheap, starts and calls nothing."""

    def close(self) -> None:
        """Release connections and processes; the provider may start again when called again."""


@dataclass(slots=True)
class WholeBody:
    """An upstream body that was complete from the start."""

    content: bytes

    @property
    def length(self) -> int | None:
        return len(self.content)

    def __iter__(self) -> Iterator[bytes]:
        view = memoryview(self.content)
        for start in range(0, len(view), 65536):
            yield bytes(view[start : start + 65536])

    def extend(self, deadline: Deadline) -> None:
        """Nothing: all of it is there."""

    def close(self) -> None:
        self.content = b""
