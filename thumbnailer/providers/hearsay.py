"""What is told of a page's requests: it stays in this process's memory as long as the page does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.async_api import Page, Request, Response

#: The most that is listened to, in bytes. A URL alone may have two million characters.
MAX_TOLD_BYTES = 64 << 20

#: What a request or an answer takes besides its URL or headers.
OVERHEAD_BYTES = 4096


class Hearsay:
    """Sets ``enough`` once too much has been told of the requests of ``page``."""

    def __init__(self, page: Page, enough: asyncio.Event) -> None:
        self._enough = enough
        self._told_bytes = 0
        page.on("request", self._hear_request)
        page.on("response", self._hear_response)

    @property
    def is_too_much(self) -> bool:
        return self._told_bytes > MAX_TOLD_BYTES

    def _hear_request(self, request: Request) -> None:
        self._count(len(request.url))

    def _hear_response(self, response: Response) -> None:
        self._count(sum(map(len, response.headers.values())))

    def _count(self, size_bytes: int) -> None:
        self._told_bytes += OVERHEAD_BYTES + size_bytes
        if self.is_too_much:
            self._enough.set()
