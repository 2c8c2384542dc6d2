"""The answer that a page itself comes in, and whether it broke off on the way.

Of that Chromium tells nobody but who listens to its requests: it shows the page as far as it came, and goes
on waiting for the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING

from thumbnailer.providers.playwright_errors import PlaywrightError

if TYPE_CHECKING:
    from playwright.async_api import Page, Request, Response

#: What Chromium says of a request that the page, or we, gave up.
GIVEN_UP = "net::ERR_ABORTED"

#: Two answers are about the same if they differ by no more than one part of this many.
LIKENESS = 100


class Document:
    """Listens to the requests of ``page`` for itself; made before it is opened."""

    def __init__(self, page: Page) -> None:
        self._answered: Request | None = None
        self._broken_off = asyncio.Event()
        page.on("response", self._note_answer)
        page.on("requestfailed", self._note_failure)

    async def breaks_off_before(self, loaded: Awaitable[None]) -> bool:
        """Wait for ``loaded``, or until the answer breaks off; whether that came first.

        Raises what ``loaded`` raises.
        """
        loading = asyncio.ensure_future(loaded)
        breaking_off = asyncio.ensure_future(self._broken_off.wait())
        try:
            await asyncio.wait({loading, breaking_off}, return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                loading.result()
            return not loading.done()
        finally:
            loading.cancel()
            breaking_off.cancel()
            await asyncio.wait({loading, breaking_off})

    def _note_answer(self, response: Response) -> None:
        if is_of_main_frame(response.request):
            self._answered = response.request
            self._broken_off.clear()

    def _note_failure(self, request: Request) -> None:
        if request == self._answered and request.failure != GIVEN_UP:
            self._broken_off.set()


def are_alike(length: object, other_length: object) -> bool:
    """Whether two answers of these lengths may be taken for the same, however little of it came."""
    return (
        isinstance(length, int)
        and isinstance(other_length, int)
        and abs(length - other_length) * LIKENESS <= length
    )


def is_of_main_frame(request: Request) -> bool:
    """Whether it asks for the page itself."""
    if not request.is_navigation_request():
        return False
    try:
        return request.frame.parent_frame is None
    except PlaywrightError:  # raised while the frame is only about to be
        return False
