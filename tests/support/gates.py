"""An upstream that is held up, and callers of it."""

from __future__ import annotations

import secrets
from urllib.parse import quote

from tests.support.answers import Answer, Received
from tests.support.processes import wait_until


class Gate:
    """An upstream's behaviour: no page is photographed before the gate is open."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.is_open = False

    def __call__(self, _received: Received) -> Answer:
        wait_until(lambda: self.is_open, seconds=60, what="the gate to open")
        return self.answer


def new_page() -> str:
    return f"http://93.184.216.34/{secrets.token_hex(8)}"


def thumb(page: str, **more: str) -> str:
    return f"/thumb?url={quote(page, safe='')}" + "".join(f"&{name}={text}" for name, text in more.items())
