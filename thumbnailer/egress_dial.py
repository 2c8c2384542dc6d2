"""Connections for the browser's proxy: each to an address that the guard has just allowed."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from thumbnailer.addresses import parse_address
from thumbnailer.errors import InvalidTarget, TargetForbidden, TargetUnreachable
from thumbnailer.guard import Guard
from thumbnailer.model import Deadline
from thumbnailer.proxy_messages import MAX_HEAD_BYTES

Stream = tuple[StreamReader, StreamWriter]

#: Connects to an address and port; raises OSError.
Open = Callable[[str, int], Awaitable[Stream]]

_FORBIDDEN = "The target leads to an address that this service does not visit."


async def open_tcp(address: str, port: int) -> Stream:
    """A TCP connection to an IP address. Raises OSError."""
    return await asyncio.open_connection(address, port, limit=MAX_HEAD_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedDialler:
    """Checks and connects in one.

    ``lookups`` runs the guard's look-ups, which block; ``total_seconds`` bound the look-up and all
    attempts to connect, ``attempt_seconds`` each attempt, so that a dead address leaves time for the next.
    """

    guard: Guard
    lookups: Executor
    open_connection: Open = open_tcp
    total_seconds: float = 10.0
    attempt_seconds: float = 4.0

    async def dial(self, scheme: str, authority: str) -> Stream:
        """A connection to ``authority``, a host and perhaps a port.

        The host is looked up once; all its addresses have to be allowed, and only they are dialled.

        Raises:
            TargetForbidden: the guard does not let anybody go there.
            TargetUnreachable: nobody is there.
        """
        try:
            async with asyncio.timeout(self.total_seconds):
                target = self.guard.parse(f"{scheme}://{authority}/")
                deadline = Deadline.after(self.total_seconds)
                addresses = await asyncio.get_running_loop().run_in_executor(
                    self.lookups, self.guard.check, target, deadline
                )
                return await self._open_any(addresses, target.port)
        except (InvalidTarget, TargetForbidden) as error:
            raise TargetForbidden(_FORBIDDEN) from error
        except TimeoutError as error:
            raise TargetUnreachable("The target's host does not answer.") from error
        except ConnectionRefusedError as error:
            raise TargetUnreachable("The target's host refuses the connection.") from error
        except OSError as error:
            raise TargetUnreachable("The target's host cannot be reached.") from error

    async def _open_any(self, addresses: tuple[str, ...], port: int) -> Stream:
        failure = OSError("no address")
        for address in addresses:
            try:
                async with asyncio.timeout(self.attempt_seconds):
                    stream = await self.open_connection(address, port)
            except OSError as error:
                failure = error
            else:
                return _with_expected_peer(stream, address)
        raise failure


def _with_expected_peer(stream: Stream, address: str) -> Stream:
    """The connection, if it has reached ``address``; something between may have led it elsewhere."""
    peer = stream[1].get_extra_info("peername")
    if peer is not None and parse_address(peer[0]) == parse_address(address):
        return stream
    stream[1].transport.abort()
    raise TargetForbidden(_FORBIDDEN)
