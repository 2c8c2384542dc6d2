"""The event loop that the browser's driver is started from."""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

P = TypeVar("P", bound=asyncio.SubprocessProtocol)


class BrowserLoop(asyncio.SelectorEventLoop):
    """An event loop whose children outlive a Ctrl-C and whose pipes outlive a fork.

    It waits with poll(2): an epoll(7) set would be shared with every forked child, which would take
    the parent's pipes out of it while tidying up. Children lead sessions of their own, so a
    signal to the service's process group does not reach them, and keep what they write in ``folder``,
    which is there before the first of them. ``children`` holds them in the order of their start.
    """

    def __init__(self) -> None:
        super().__init__(selectors.PollSelector())
        self.folder = ""
        self.children: list[asyncio.SubprocessTransport] = []

    async def subprocess_exec(  # type: ignore[override]  # the many options pass through untouched
        self,
        protocol_factory: Callable[[], P],
        *command: str,
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> tuple[asyncio.SubprocessTransport, P]:
        environment = {**(os.environ if env is None else env), "TMPDIR": self.folder}
        options["start_new_session"] = True
        transport, protocol = await super().subprocess_exec(
            protocol_factory, *command, env=environment, **options
        )
        self.children.append(transport)
        return transport, protocol

    def kill_children(self, *, after: int) -> None:
        """Kill and forget the children but for the first ``after``."""
        for child in self.children[after:]:
            with suppress(ProcessLookupError):
                child.kill()
            child.close()
        del self.children[after:]
