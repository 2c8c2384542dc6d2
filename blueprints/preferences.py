"""What callers prefer, by the header ``Prefer``: RFC 7240."""

from __future__ import annotations

import re

import flask

#: RFC 7240, section 4.3: ``wait`` and a number of seconds; the other preferences of a list mean nothing here.
_WAIT = re.compile(r"\s*wait\s*=\s*\"?(\d{1,9})\"?\s*(;.*)?", re.ASCII | re.IGNORECASE)


def preferred_wait(longest_seconds: int) -> int | None:
    """How many seconds the caller likes to wait for the end, at most ``longest_seconds``; None: nothing said.

    The first of several counts, and what cannot be understood is overlooked: RFC 7240, section 2.
    """
    for header in flask.request.headers.getlist("Prefer"):
        for preference in header.split(","):
            match = _WAIT.fullmatch(preference)
            if match:
                return min(longest_seconds, int(match[1]))
    return None
